import io
import math
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import MODEL, ROOT, environment, train, weights, write_prepared

import nmt.trainer
from data import sampling
from data.batching import plan_batches
from data.config import PrepareConfig
from data.corpus import PreparedCorpus
from data.errors import UserError
from data.pool import Pool, random_for
from data.sampling import SubwordSampling
from data.source import FrameColumn, Ragged
from data.tokenizer import UNK_ID, Tokenizer, TokenizerConfig
from nmt.config import TrainingConfig
from nmt.run_directory import RunDirectory
from nmt.translation_recipe import TranslationRecipe

LINES = ["the lowest tower", "a newer flower", "lower and slower flowers", "the widest window"] * 5


def tokenizer_of(level: str, lines: list[str] = LINES, **options) -> Tokenizer:
    config = TokenizerConfig(level=level, vocab_size=50, **{"min_count": 1, **options})
    return Tokenizer.train(Counter(word for line in lines for word in line.split()), config)


def pool_of(tokenizer: Tokenizer, lines: list[str] = LINES) -> Pool:
    ids = Ragged.of(tokenizer.encode_segmented(lines))
    return Pool(ids, ids, np.arange(len(lines)))


def rows(column: Ragged) -> list[list[int]]:
    return [column.values[o : o + n].tolist() for o, n in zip(column.offsets, column.lengths, strict=True)]


def sampled(tokenizer: Tokenizer, rate: float = 0.3, seed: int = 1, epoch: int = 0, lines=LINES) -> Pool:
    return SubwordSampling(tokenizer, tokenizer, rate)(pool_of(tokenizer, lines), random_for(seed, epoch, 0))


@pytest.mark.parametrize("level", ["bpe", "unigram"])
def test_segmentations_differ_and_read_the_same(level: str) -> None:
    tokenizer = tokenizer_of(level)
    before, found = pool_of(tokenizer), sampled(tokenizer)
    for side in (found.source, found.target):
        assert rows(side) != rows(before.target)
        assert [tokenizer.decode(ids) for ids in rows(side)] == LINES
    assert rows(found.source) != rows(found.target)
    assert found.rows.tolist() == before.rows.tolist()


@pytest.mark.parametrize("level", ["bpe", "unigram"])
def test_they_are_a_function_of_seed_and_epoch(level: str) -> None:
    tokenizer = tokenizer_of(level)
    found = [
        rows(sampled(tokenizer, seed=seed, epoch=epoch).target) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2] != found[3] != found[0]


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    """sentencepiece itself does not."""
    tokenizer = tokenizer_of("bpe")
    tokenizer.save(tmp_path / "model")
    code = (
        "import sys; sys.path.insert(0, 'tests/unit'); sys.path.insert(0, 'tests'); from pathlib import Path\n"
        "from test_sampling import *\n"
        f"print(rows(sampled(Tokenizer.load(Path({str(tmp_path / 'model')!r}))).target))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment())
    assert done.stdout.strip() == str(rows(sampled(tokenizer).target)), done.stderr


def merges(tokenizer: Tokenizer, word: str, rate: float, draw: random.Random) -> list[int]:
    """BPE-dropout as the paper has it: at each step, each possible merge is left out with this probability."""
    ids = {token: i for i, token in enumerate(tokenizer.tokens(range(len(tokenizer))))}
    tokens = list(word)
    while True:
        pairs = [(ids[a + b], i) for i, (a, b) in enumerate(pairwise(tokens)) if a + b in ids]
        kept = [pair for pair in pairs if draw.random() >= rate]
        if not kept:
            return [ids[token] for token in tokens]
        _, i = min(kept)
        tokens[i : i + 2] = ["".join(tokens[i : i + 2])]


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_merges_are_left_out_as_often_as_in_the_paper(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_DRAWS", 1 << 30)
    tokenizer, many = tokenizer_of("bpe"), 6000
    (plain,) = tokenizer.encode_segmented(["flower"])
    assert merges(tokenizer, "\u2581flower", 0.0, random.Random(1)) == plain
    expected = Counter(tuple(merges(tokenizer, "\u2581flower", rate, random.Random(i))) for i in range(many))
    found = Counter(map(tuple, rows(sampled(tokenizer, rate, lines=["flower"] * many).target)))
    assert len(expected) > 3
    for one in found.keys() | expected.keys():
        assert abs(found[one] - expected[one]) < 5 * math.sqrt(2 * max(found[one], expected[one])) + 5


def test_unigram_segmentations_are_drawn_by_their_probability_to_the_power_of_the_rate(monkeypatch) -> None:
    monkeypatch.setattr(sampling, "_DRAWS", 1 << 30)
    tokenizer, many, rate = tokenizer_of("unigram"), 6000, 0.5
    choices = tokenizer.n_best("lower", 64)
    assert all(tokenizer.decode(ids) == "lower" for ids, _ in choices)
    assert choices[0][0] == tokenizer.encode("lower")
    total = sum(math.exp(rate * log_prob) for _, log_prob in choices)
    found = Counter(map(tuple, rows(sampled(tokenizer, rate, lines=["lower"] * many).target)))
    for ids, log_prob in choices:
        expected = many * math.exp(rate * log_prob) / total
        assert abs(found[tuple(ids)] - expected) < 5 * math.sqrt(expected) + 1


@pytest.mark.parametrize("level", ["bpe", "unigram"])
def test_what_is_not_a_whole_known_word_stays(level: str) -> None:
    tokenizer = tokenizer_of(level, [*LINES, "z"], min_count=2)
    (ids,) = tokenizer.encode_segmented(["flzower"])
    assert UNK_ID in ids
    (cut,) = tokenizer.encode_segmented(["flower"])
    cut = [i for i in cut if not tokenizer.tokens([i])[0].startswith("\u2581")] or [tokenizer.encode("w")[-1]]
    column = Ragged.of([ids, cut, []] * 50)
    found = SubwordSampling(None, tokenizer, 0.5)(Pool(FrameColumn([]), column, np.arange(150)), random_for(1))
    assert rows(found.target) == [ids, cut, []] * 50


@pytest.mark.parametrize("level", ["word", "char"])
def test_words_and_characters_are_refused(level: str) -> None:
    subwords, other = tokenizer_of("bpe"), tokenizer_of(level)
    with pytest.raises(UserError, match=rf"subword_sampling is 0.1, but the target is cut into {level}s"):
        SubwordSampling(subwords, other, 0.1)
    with pytest.raises(UserError, match=rf"the source is cut into {level}s"):
        SubwordSampling(other, subwords, 0.1)
    SubwordSampling(None, subwords, 0.1)


PIECES = {side: TokenizerConfig(level="bpe", min_count=1, vocab_size=150) for side in ("source", "target")}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without curves.png, which takes longer than the training."""
    monkeypatch.setattr(nmt.trainer, "draw_curves", lambda folder: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("prepared"), **PIECES)


def test_batches_of_sampled_pools_begin_in_the_middle_as_well(data: Path) -> None:
    corpus, tokenizer = PreparedCorpus(data / "train"), Tokenizer.load(data / "target.model")
    how = {"batch_tokens": 128, "seed": 1, "epoch": 1}
    change = SubwordSampling(Tokenizer.load(data / "source.model"), tokenizer, 0.2)
    whole, rest = (list(plan_batches(corpus, **how, skip=skip, sampling=change)) for skip in (0, 3))
    assert [(plan.rows.tolist(), rows(plan.pool.target)) for plan in whole[3:]] == [
        (plan.rows.tolist(), rows(plan.pool.target)) for plan in rest
    ]
    (plain,) = corpus.in_order()
    known = dict(zip(plain.rows.tolist(), rows(plain.target), strict=True))
    (pool,) = {id(plan.pool): plan.pool for plan in whole}.values()
    assert all(
        tokenizer.decode(ids) == tokenizer.decode(known[row])
        for row, ids in zip(pool.rows.tolist(), rows(pool.target), strict=True)
    )
    assert pool.target.lengths.sum() > plain.target.lengths.sum()


def test_a_run_with_sampling_resumes_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    changes = {"subword_sampling": 0.2, "batch_tokens": 512, "valid_sentences": 1}
    said = io.StringIO()
    train(data, tmp_path / "whole", max_updates=8, said=said, **changes)
    assert "(epoch 1.0" in said.getvalue()
    for updates in (2, 8):
        train(data, tmp_path / "parts", max_updates=updates, resume=updates > 2, **changes)
    newest = [RunDirectory(tmp_path / run).newest() for run in ("whole", "parts")]
    assert weights(newest[0]) == weights(newest[1])


def test_validation_is_not_sampled(data: Path, tmp_path: Path) -> None:
    """Weights that hardly move score alike, whatever was sampled for training."""
    still = {"learning_rate": 1e-30, "model": MODEL}
    one, two = (train(data, tmp_path / str(rate), subword_sampling=rate, **still) for rate in (0.0, 0.9))
    assert one.best == two.best


def test_a_streamed_text_can_be_sampled(tmp_path: Path) -> None:
    data = write_prepared(tmp_path, stream=True, **PIECES)
    one, two = (train(data, tmp_path / str(rate), subword_sampling=rate) for rate in (0.0, 0.2))
    assert weights(one.model) != weights(two.model)


def test_word_level_data_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = write_prepared(tmp_path)
    with pytest.raises(UserError, match="the source is cut into words"):
        train(data, tmp_path / "run", subword_sampling=0.1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("level", ["bpe", "unigram"])
def test_a_mark_whose_word_was_cut_off_stays(level: str) -> None:
    tokenizer = tokenizer_of(level)
    mark = tokenizer.tokens(range(len(tokenizer))).index("▁")
    pool = Pool(Ragged.of([[mark]]), Ragged.of([[mark]]), np.arange(1))
    found = SubwordSampling(tokenizer, tokenizer, 0.3)(pool, random_for(1, 0, 0))
    assert rows(found.target) == [[mark]]


def test_a_recipe_asks_for_the_level_that_a_shared_vocabulary_has() -> None:
    def recipe(source: str, target: str, shared: bool) -> TranslationRecipe:
        sides = {"source": TokenizerConfig(level=source), "target": TokenizerConfig(level=target)}
        return TranslationRecipe(
            prepare=PrepareConfig(**sides, shared_vocabulary=shared), training=TrainingConfig(subword_sampling=0.1)
        )

    recipe("bpe", "word", True)  # the target's own is not looked at
    for levels, side in ((("word", "bpe", True), "source"), (("bpe", "word", False), "target")):
        with pytest.raises(UserError, match=f"the {side} is cut into words"):
            recipe(*levels)
