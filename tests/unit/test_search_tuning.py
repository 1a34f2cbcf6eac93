"""Settings of the search, scored: each must be what translating with it gives."""

import random

import pytest
import sacrebleu
import torch
from test_unknown_words import NAMES, tokenizer, untrained

from data.errors import UserError
from nmt import translator
from nmt.search_tuning import tune_search
from nmt.translation_options import TranslationOptions

torch.set_num_threads(1)


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices([*NAMES, "Zebra"], k=draw.randint(3, 8))) for _ in range(count)]


@pytest.mark.parametrize("replace_unknown", [False, True])
def test_every_setting_scores_as_its_translations_do(replace_unknown):
    made, sources, references = untrained("general"), texts(12, 1), [texts(12, 1), texts(12, 2)]
    lower_references = [[line.lower() for line in each] for each in references]
    said: list[str] = []
    found = tune_search(
        made, sources, references,
        beams=[1, 4], length_penalties=[0.0, 1.0],
        replace_unknown=replace_unknown, lowercase=True, say=said.append,
    )  # fmt: skip
    assert len(found.tried) == len(said) == 4
    assert len({(one.bleu, one.chrf, one.length_ratio) for one in found.tried}) > 1
    assert found.best.bleu == max(one.bleu for one in found.tried)
    for one in found.tried:
        options = TranslationOptions(beam=one.beam, length_penalty=one.length_penalty, replace_unknown=replace_unknown)
        translations = made.translate(sources, options)
        lines = [each.text for each in translations]
        assert one.bleu == pytest.approx(sacrebleu.corpus_bleu(lines, references, lowercase=True).score)
        assert one.chrf == pytest.approx(
            sacrebleu.corpus_chrf([line.lower() for line in lines], lower_references).score
        )
        replaced = sum(each.hypotheses[0].replaced for each in translations)
        assert one.replaced_unknown == (replaced if replace_unknown else None)
        assert ("--replace-unknown" in one.command_options()) is replace_unknown
    assert any(one.replaced_unknown for one in found.tried) is replace_unknown


def test_what_cannot_be_tried_is_refused_before_anything_is_translated(monkeypatch):
    monkeypatch.setattr(translator, "decode", None)
    grid = {"beams": [2], "length_penalties": [1.0]}
    with pytest.raises(UserError, match="has no attention"):
        tune_search(untrained("none"), ["w1"], [["w1"]], **grid, replace_unknown=True)
    with pytest.raises(ValueError, match="must be a number"):
        tune_search(untrained("dot"), ["w1"], [["w1"]], **{**grid, "length_penalties": [1.0, -1.0]})
    with pytest.raises(UserError, match="level char"):
        made = untrained("dot", words=tokenizer(level="char"))
        tune_search(made, ["w1"], [["w1"]], **grid, replace_unknown=True)
