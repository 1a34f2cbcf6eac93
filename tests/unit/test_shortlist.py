"""Vocabulary shortlists: what is learnt, what search may write with one, and how they are made and refused."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import UserError
from data.lexicon import NULL_ID, learn_lexicon
from data.pool import Pool
from data.shortlist import Shortlist
from data.source import Ragged
from data.tokenizer import SPECIAL_IDS, Tokenizer, TokenizerConfig
from nmt.checkpoint import load_model
from nmt.search_options import SearchOptions
from nmt.shortlist_making import learn_shortlist, measure_coverage
from nmt.translator import Translator
from scripts import make_shortlist, translate
from scripts.command import run
from tests.tiny import SCENE_WORDS, save_translator, train, write_prepared

FIRST, KINDS = SPECIAL_IDS, 12


class Translated:
    """Random sentences whose word n is translated by n + 1, in another order, with one word that stands in all."""

    everywhere = FIRST + KINDS + 1

    def __init__(self, pairs: int = 300) -> None:
        draw = random.Random(1)
        source = [[draw.randrange(FIRST, FIRST + KINDS) for _ in range(draw.randint(1, 6))] for _ in range(pairs)]
        target = [[self.everywhere, *draw.sample([i + 1 for i in one], len(one))] for one in source]
        self._pool = Pool(Ragged.of(source), Ragged.of(target), np.arange(pairs))
        self.sizes = FIRST + KINDS, FIRST + KINDS + 2

    def pools(self, seed: int, epoch: int, size: int = 0):
        half = len(self._pool.rows) // 2
        for rows in (slice(0, half), slice(half, None)):
            sides = (self._pool.source, self._pool.target)
            parts = [Ragged(side.values, side.offsets[rows], side.lengths[rows]) for side in sides]
            yield Pool(*parts, self._pool.rows[rows])


def brute_force(corpus: Translated, iterations: int) -> dict[tuple[int, int], float]:
    """IBM Model 1 pair by pair, as Brown et al. write it."""
    pairs = [
        ([NULL_ID, *pool.source.taken(np.array([i])).tolist()], pool.target.taken(np.array([i])).tolist())
        for pool in corpus.pools(1, 0)
        for i in range(len(pool.rows))
    ]
    table = {(s, t): 1.0 for source, target in pairs for s in source for t in target}
    for _ in range(iterations):
        counts, totals = Counter(), Counter()
        for source, target in pairs:
            for t in target:
                total = sum(table[s, t] for s in source)
                for s in source:
                    counts[s, t] += table[s, t] / total
                    totals[s] += table[s, t] / total
        table = {(s, t): count / totals[s] for (s, t), count in counts.items()}
    return table


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize("cells", [40, 1 << 21])
def test_probabilities_are_those_of_ibm_model_1(iterations, cells, monkeypatch):
    monkeypatch.setattr("data.lexicon._CELLS", cells)  # with few, a pool falls into many parts
    corpus = Translated(60)
    found = learn_lexicon(lambda: corpus.pools(1, 0), corpus.sizes[1], iterations=iterations)
    expected = brute_force(corpus, iterations)
    pairs = list(zip(found.sources.tolist(), found.targets.tolist(), strict=True))
    assert pairs == sorted(expected)
    np.testing.assert_allclose(found.probabilities, [expected[pair] for pair in pairs], rtol=1e-9)


@pytest.mark.parametrize("most", [10**6, 60])
def test_the_right_word_is_found_even_where_few_pairs_of_words_are_kept(most):
    corpus = Translated()
    found = learn_lexicon(lambda: corpus.pools(1, 0), corpus.sizes[1], most_entries=most)
    best = found.best(1)
    expected = {i: i + 1 for i in range(FIRST, FIRST + KINDS)} | {NULL_ID: corpus.everywhere}
    assert dict(zip(best.sources.tolist(), best.targets.tolist(), strict=True)) == expected
    assert len(found.sources) <= most and (best.probabilities > 0.5).all()


def test_a_list_holds_the_best_the_frequent_and_the_forced():
    corpus = Translated()
    made = learn_shortlist(corpus, corpus.sizes, best=1, frequent=0)
    specials = list(range(SPECIAL_IDS))
    assert made.words(np.array([[6, 9], [0, 6]])).tolist() == [*specials, 7, 10, corpus.everywhere]
    assert made.words(np.array([6]), [[], [12]]).tolist() == [*specials, 7, 12, corpus.everywhere]
    [top] = set(learn_shortlist(corpus, corpus.sizes, best=1, frequent=2).always) - set(made.always)
    counts = Counter(word for pool in corpus.pools(1, 0) for word in pool.target.values.tolist())
    assert [corpus.everywhere, top] == [word for word, _ in counts.most_common(2)]
    fit = measure_coverage(made, corpus.pools(1, 0), corpus.sizes[1])
    assert fit.covered == 1 and fit.entries == KINDS + 1 + SPECIAL_IDS + 1
    assert SPECIAL_IDS + 2 <= fit.mean_words <= SPECIAL_IDS + 1 + 6
    nothing = Shortlist(Ragged.of([[]] * corpus.sizes[0]), np.array([*specials, corpus.everywhere]))
    assert 0.1 < measure_coverage(nothing, corpus.pools(1, 0), corpus.sizes[1]).covered < 0.5


def everything(size: int) -> Shortlist:
    return Shortlist(Ragged.of([[]] * size), np.arange(size))


def few(size: int, *words: int) -> Shortlist:
    return Shortlist(Ragged.of([[]] * size), np.array([*range(SPECIAL_IDS), *words]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shortlists")
    save_translator(path / "one", 1, attention="general")
    save_translator(path / "two", 2)
    save_translator(path / "tied", 3, tied="all")
    save_translator(path / "other", 4, words=SCENE_WORDS[:9])
    return path


TEXTS = ["a dog sleeps .", "", "the cat runs in the house .", "a cat sees the dog !", "dog", "a xyzzy ? " * 8]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("names", [["one"], ["tied"], ["one", "two"]])
@pytest.mark.parametrize("options", [SearchOptions(beam=1), SearchOptions(beam=3, n_best=3, allow_unknown=True)])
def test_with_the_whole_vocabulary_translations_are_the_same(folder, names, precision, options):
    models = [load_model(folder / name, torch.device("cpu")) for name in names]
    size = len(models[0].target)
    plain = Translator(models, precision=precision)
    listed = Translator(models, precision=precision, shortlist=everything(size))
    prefixes = ["", "", "the", "", "a cat", ""]
    for one, other in zip(
        *(each.translate(TEXTS, options, prefixes=prefixes) for each in (plain, listed)), strict=True
    ):
        assert [each.text for each in one.hypotheses] == [each.text for each in other.hypotheses]
        scores = [[each.score for each in result.hypotheses] for result in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("options", [SearchOptions(beam=3, n_best=3), SearchOptions(sample=True, n_best=3)])
def test_no_word_that_is_not_listed_is_written_but_those_of_prefixes(folder, precision, options):
    models = [load_model(folder / name, torch.device("cpu")) for name in ("one", "two")]
    target = models[0].target
    words = target.encode("dog runs house")
    assert len(set(words)) == 3
    listed = Translator(models, precision=precision, shortlist=few(len(target), *words))
    found = listed.translate(TEXTS, options)
    written = {word for one in found for each in one.hypotheses for word in each.text.split()}
    assert written and written <= {"dog", "runs", "house"}
    others = {word for one in Translator(models).translate(TEXTS, options) for word in one.text.split()}
    assert others - written
    # a prefix is allowed to all that are translated with it
    for one in listed.translate(["a dog"], options, prefixes=["the cat"]):
        for each in one.hypotheses:
            assert each.text.startswith("the cat") and set(each.text.split()) <= {*written, "the", "cat"}


def test_a_file_is_read_as_it_was_written_and_refused_with_another_model(folder, tmp_path):
    model = load_model(folder / "one", torch.device("cpu"))
    assert model.source is not None
    made = Shortlist(Ragged.of([[5, 7], [], *[[4]] * (len(model.source) - 2)]), np.arange(6))
    made.save(tmp_path / "file", model.source, model.target)
    read = Shortlist.load(tmp_path / "file", model.source, model.target)
    for sources in ([0], [1], [0, 8]):
        assert read.words(np.array(sources)).tolist() == made.words(np.array(sources)).tolist()
    assert read.words(np.array([0])).tolist() == [0, 1, 2, 3, 4, 5, 7]
    Translator.load(folder / "two", shortlist=tmp_path / "file")  # which has the same vocabularies
    with pytest.raises(UserError, match=r"made for the source vocabulary .*make one for this model"):
        Translator.load(folder / "other", shortlist=tmp_path / "file")
    other = Tokenizer.train(Counter(SCENE_WORDS * 9), TokenizerConfig(lowercase=True))
    with pytest.raises(UserError, match="made for the target vocabulary"):
        Shortlist.load(tmp_path / "file", model.source, other)
    (tmp_path / "broken").write_bytes((tmp_path / "file").read_bytes()[:-9])
    (tmp_path / "text").write_text("no shortlist\n")
    for name in ("broken", "text", "none", "."):
        with pytest.raises(UserError, match="give a"):
            Shortlist.load(tmp_path / name, model.source, model.target)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("trained")
    data = write_prepared(path, 200)
    train(data, path / "run", max_updates=2)
    return path


@pytest.fixture
def call(capfd, monkeypatch):
    """Run a command; its exit code and what it wrote."""

    def start(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            if module is translate:
                translate.main()
            else:
                run(module.NAME, module.main)
        return end.value.code, capfd.readouterr()

    return start


def test_the_command_makes_what_translate_takes(call, trained, tmp_path):
    model, file = trained / "run" / "model", tmp_path / "out"
    given = ["--model", model, "--data", trained / "data", "--out", file, "--best", "2"]
    code, written = call(make_shortlist, *given, "--frequent", "0")
    assert code == 0 and "% of the known target words are in the list of their sentence" in written.out
    loaded = load_model(model, torch.device("cpu"))
    assert loaded.source is not None
    text = "ein roter kreis ."
    allowed = Shortlist.load(file, loaded.source, loaded.target).words(np.array(loaded.source.encode(text)))
    assert SPECIAL_IDS < len(allowed) <= SPECIAL_IDS + 2 * 5 < len(loaded.target)
    (tmp_path / "in").write_text(text + "\n")
    code, written = call(translate, "--model", model, tmp_path / "in", "--shortlist", file, "--n-best", "5")
    assert code == 0
    hypotheses = [row.split("\t")[4] for row in written.out.splitlines()]
    assert hypotheses and {i for one in hypotheses for i in loaded.target.encode(one)} <= set(allowed.tolist())

    before = file.read_bytes()
    code, written = call(make_shortlist, *given)
    assert code == 1 and "exists already" in written.err and file.read_bytes() == before
    assert call(make_shortlist, *given, "--frequent", "9", "--overwrite")[0] == 0 and file.read_bytes() != before


def test_mistakes_are_one_line(call, trained, folder, tmp_path):
    model, data, file = trained / "run" / "model", trained / "data", tmp_path / "out"
    for arguments, code, message in [
        (["--model", folder / "one", "--data", data, "--out", file], 1, "its source vocabulary is not that of"),
        (["--model", model, "--data", tmp_path, "--out", file], 1, "no prepared data here"),
        (["--model", tmp_path, "--data", data, "--out", file], 1, "no model directory here"),
        (["--model", model, "--data", data, "--out", file, "--best", "0"], 2, "best"),
    ]:
        found, written = call(make_shortlist, *arguments)
        assert found == code and message in written.err.splitlines()[-1] and not file.exists()
    (tmp_path / "text").write_text("no shortlist\n")
    code, written = call(translate, "--model", model, "/dev/null", "--shortlist", tmp_path / "text")
    assert code == 1 and "no shortlist" in written.err and "Traceback" not in written.err
