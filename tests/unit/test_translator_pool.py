"""Several processes translate what one does, in its order."""

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.shortlist import Shortlist
from data.source import Ragged
from data.tokenizer import SPECIAL_IDS
from nmt.checkpoint import load_model
from nmt.search_options import SearchOptions
from nmt.translator import Translator
from nmt.translator_pool import TranslatorPool
from tests.tiny import SCENE_WORDS as WORDS
from tests.tiny import save_translator


def test_processes_translate_as_one_does_until_one_is_killed(tmp_path):
    path = save_translator(tmp_path / "model", 1)
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS[:10], k=draw.randint(0, 12))) for _ in range(70)]
    prefixes = [draw.choice(["", WORDS[3]]) for _ in texts]
    tokenizer = load_model(Path(path)).target
    listed, file = WORDS[:9], tmp_path / "shortlist"
    ids = np.unique([*range(SPECIAL_IDS), *tokenizer.encode(" ".join(listed))])
    Shortlist(Ragged.of([[]] * len(tokenizer)), ids).save(file, tokenizer, tokenizer)
    alone = Translator.load(path, shortlist=file)
    with TranslatorPool([path], 2, precision="float32", shortlist=str(file)) as pool:
        for options in (SearchOptions(beam=2), SearchOptions(sample=True, n_best=2)):
            found = pool.translate(texts, options, prefixes=prefixes, first_line=5)
            expected = alone.translate(texts, options, prefixes=prefixes, first_line=5)
            for one, other in zip(found, expected, strict=True):
                assert [each.text for each in one.hypotheses] == [each.text for each in other.hypotheses]
                assert {*one.text.split()} <= {*listed}
                assert one.hypotheses[0].score == pytest.approx(other.hypotheses[0].score, abs=1e-4)
        with pytest.raises(UserError, match="cannot be written"):
            pool.translate(texts, SearchOptions(), prefixes=["xyzzy"] * len(texts))
        for process in list(pool._executor._processes.values()):
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(UserError, match="was killed, as happens where memory runs out: lower --processes"):
            pool.translate(texts, SearchOptions(), prefixes=prefixes)
