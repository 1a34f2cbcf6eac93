"""From prepared training text to a vocabulary shortlist, and how well it fits the validation text."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from data.corpus import PreparedCorpus, training_corpus
from data.errors import UserError
from data.lexicon import NULL_ID, learn_lexicon
from data.pool import Corpus, Pool
from data.shortlist import Shortlist
from data.source import Ragged
from data.tokenizer import SPECIAL_IDS, UNK_ID, Tokenizer
from nmt.checkpoint import read_config
from nmt.train_translation import prepared_file

_MOST_PAIRS = 1 << 20  # that the probabilities are learnt from


def learn_shortlist(corpus: Corpus, sizes: tuple[int, int], *, best: int, frequent: int) -> Shortlist:
    """The `best` target ids for each source id and the `frequent` most frequent ones.

    Args:
        corpus: Sentence pairs; a million of a larger one are looked at.
        sizes: Entries of the source and of the target vocabulary.
    """

    def pools() -> Iterable[Pool]:
        read = 0
        for pool in corpus.pools(seed=1, epoch=0):
            yield pool
            read += len(pool.rows)
            if read >= _MOST_PAIRS:
                return

    found = learn_lexicon(pools, sizes[1]).best(best)
    lengths = np.bincount(found.sources, minlength=sizes[0])
    by_source = Ragged(found.targets.astype(np.int32), np.cumsum(lengths) - lengths, lengths)
    counts = sum((np.bincount(pool.target.values, minlength=sizes[1]) for pool in pools()), np.zeros(sizes[1]))
    top = np.argsort(-counts, kind="stable")[:frequent]
    always = np.concatenate([np.arange(SPECIAL_IDS), top, by_source.taken(np.array([NULL_ID]))])
    return Shortlist(by_source, np.unique(always))


@dataclass(frozen=True)
class Coverage:
    """How well a shortlist fits a text.

    Args:
        entries: Target ids in all lists, those that are always there counted once.
        covered: Share of the target words, unknown ones left out, that are in the list of their sentence.
        mean_words: Target ids in the list of a sentence.
        vocabulary: Target ids that there are.
    """

    entries: int
    covered: float
    mean_words: float
    vocabulary: int


def measure_coverage(shortlist: Shortlist, pools: Iterable[Pool], vocabulary: int) -> Coverage:
    """How well the lists of single sentences hold what their translations are made of."""
    covered = words = sentences = listed = 0
    for pool in pools:
        assert isinstance(pool.source, Ragged)
        for i in range(len(pool.rows)):
            source, target = (side.taken(np.array([i])) for side in (pool.source, pool.target))
            found = shortlist.words(source)
            target = target[target != UNK_ID]
            covered += int(np.isin(target, found).sum())
            words, sentences, listed = words + len(target), sentences + 1, listed + len(found)
    entries = len(shortlist.by_source.values) + len(shortlist.always)
    return Coverage(entries, covered / max(words, 1), listed / max(sentences, 1), vocabulary)


def make_shortlist(model: Path, prepared: Path, out: Path, *, best: int, frequent: int) -> Coverage:
    """Learn a shortlist for a model directory from what it was trained on, and write it.

    Raises:
        UserError: `model` is no translator, `prepared` has other vocabularies or is none, or `out` cannot be written.
    """
    reads = read_config(model).get("reads", "text")
    if reads != "text":
        raise UserError(f"{model}: this model reads {reads}: shortlists are for models that read text")
    settings = yaml.safe_load(prepared_file(prepared, "config.yaml"))
    tokenizers = [Tokenizer.load(prepared / f"{side}.model") for side in ("source", "target")]
    for side, tokenizer in zip(("source", "target"), tokenizers, strict=True):
        if Tokenizer.load(model / f"{side}.model") != tokenizer:
            raise UserError(
                f"{prepared}: its {side} vocabulary is not that of {model}: give the data that it was trained on"
            )
    source, target = tokenizers
    corpus = training_corpus(prepared, settings, (source, target))
    found = learn_shortlist(corpus, (len(source), len(target)), best=best, frequent=frequent)
    found.save(out, source, target)
    return measure_coverage(found, PreparedCorpus(prepared / "valid").in_order(), len(target))
