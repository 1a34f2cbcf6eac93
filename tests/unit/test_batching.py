from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import collate_source

from data import corpus as corpus_module
from data.batching import Batch, Plan, plan_batches, plan_in_order
from data.config import PrepareConfig
from data.corpus import PreparedCorpus, StreamedCorpus
from data.errors import UserError
from data.pool import Pool, random_for
from data.prepare import prepare
from data.readers import ParallelText
from data.source import Ragged
from data.tokenizer import BOS_ID, EOS_ID, PAD_ID, Tokenizer, TokenizerConfig

SIDE = st.lists(st.integers(4, 99), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=60)
Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]


class Corpus(PreparedCorpus):
    """A corpus in memory, in the Arrow form of a prepared one."""

    def __init__(self, pairs: Pairs, shuffle_within: int = 0) -> None:
        integers = datasets.List(datasets.Value("int32"))
        rows = {"source": [list(one) for one, _ in pairs], "target": [list(two) for _, two in pairs]}
        made = datasets.Dataset.from_dict(rows, features=datasets.Features({"source": integers, "target": integers}))
        self._rows = made.with_format("arrow")
        self._shuffle_within = shuffle_within


def many(count: int, seed: int = 0) -> Pairs:
    random = np.random.default_rng(seed)
    sides = [[random.integers(4, 99, length).tolist() for length in random.integers(1, 30, count)] for _ in range(2)]
    return list(zip(*sides, strict=True))


def epoch(corpus: PreparedCorpus | StreamedCorpus, tokens: int = 60, **options: int) -> list[Plan]:
    return list(plan_batches(corpus, batch_tokens=tokens, **{"seed": 1, "epoch": 1, **options}))


def rows(plans: Sequence[Plan]) -> list[list[int]]:
    return [plan.pool.rows[plan.rows].tolist() for plan in plans]


def pairs_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """What a batch holds, read back from its tensors cell by cell."""
    found = []
    for source, length, target in zip(batch.source.ids, batch.source.lengths, batch.target, strict=True):
        assert source[length:].tolist() == [PAD_ID] * (len(source) - int(length))
        assert target[0] == BOS_ID
        words = target[1:].tolist()
        while words and words[-1] == PAD_ID:
            words.pop()
        assert PAD_ID not in words
        found.append((source[:length].tolist(), words))
    return found


@given(pairs=PAIRS, tokens=st.integers(1, 200), seed=st.integers(0, 5), number=st.integers(0, 2))
def test_an_epoch_holds_every_pair_once_within_the_budget(pairs: Pairs, tokens: int, seed: int, number: int) -> None:
    plans = epoch(Corpus(pairs), tokens, seed=seed, epoch=number)
    assert sorted(row for batch in rows(plans) for row in batch) == list(range(len(pairs)))
    for plan, batch in zip(plans, rows(plans), strict=True):
        longest = max(max(len(pairs[row][0]), len(pairs[row][1]) + 1) for row in batch)
        assert len(batch) * longest <= tokens or len(batch) == 1
        read = pairs_of(plan.collate(reverse_source=False))
        assert read == [(list(pairs[row][0]), list(pairs[row][1])) for row in batch]


@given(pairs=PAIRS, number=st.integers(0, 2), skip=st.integers(0, 30))
def test_skipping_leaves_the_rest_of_the_same_sequence(pairs: Pairs, number: int, skip: int) -> None:
    corpus = Corpus(pairs)
    assert rows(epoch(corpus, epoch=number, skip=skip)) == rows(epoch(corpus, epoch=number))[skip:]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    corpus = Corpus(many(500))
    one = rows(epoch(corpus, seed=3, epoch=2))
    assert one == rows(epoch(Corpus(many(500)), seed=3, epoch=2))
    assert one != rows(epoch(corpus, seed=3, epoch=1))
    assert one != rows(epoch(corpus, seed=2, epoch=2))
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in rows(epoch(corpus, seed=3, epoch=1))}


def test_random_numbers_depend_on_the_whole_path() -> None:
    paths = [(1,), (1, 0), (1, 0, 0), (0, 1), (1, 1), (1, 0, 1), (1, 1, 0), (2**40, 0), (0,), (0, 0)]
    drawn = {random_for(*path).bytes(8) for path in paths}
    assert len(drawn) == len(paths)
    assert random_for(1, 2).bytes(8) == random_for(1, 2).bytes(8)


def test_the_first_batch_of_all_is_the_largest() -> None:
    plans = epoch(Corpus(many(500)), epoch=0)
    assert plans[0].cells == max(plan.cells for plan in plans)
    later = epoch(Corpus(many(500)), epoch=1)
    assert later[0].cells < max(plan.cells for plan in later)
    assert rows(epoch(Corpus(many(500)), epoch=0, skip=1)) == rows(plans)[1:]


def test_like_lengths_share_a_batch() -> None:
    plans = epoch(Corpus(many(2000)), tokens=400)
    assert 1 - sum(plan.real for plan in plans) / sum(plan.cells for plan in plans) < 0.2
    lengths = [plan.pool.target.lengths[plan.rows] for plan in plans]
    assert max(int(np.ptp(batch)) for batch in lengths) <= 3
    means = [float(batch.mean()) for batch in lengths]
    assert means != sorted(means)


@given(pairs=PAIRS)
def test_counts_of_a_plan(pairs: Pairs) -> None:
    for plan in epoch(Corpus(pairs)):
        batch = plan.collate(reverse_source=True)
        assert plan.target_tokens == len(batch.labels) == int((batch.target != PAD_ID).sum())
        assert plan.real == plan.target_tokens + int((batch.source.ids != PAD_ID).sum())
        assert plan.cells == batch.source.ids.numel() + batch.target.numel()


@given(pairs=PAIRS)
def test_a_batch_for_teacher_forcing(pairs: Pairs) -> None:
    pool = Pool(Ragged.of([one for one, _ in pairs]), Ragged.of([two for _, two in pairs]), np.arange(len(pairs)))
    chosen = np.arange(len(pairs))[::-1].copy()
    batch = Plan(pool, chosen).collate(reverse_source=True)
    width = max(len(two) for _, two in pairs) + 1
    assert batch.target.shape == (len(pairs), width)
    assert batch.source.ids.shape == (len(pairs), max(len(one) for one, _ in pairs))
    labels, positions = [], []
    for n, row in enumerate(chosen.tolist()):
        source, target = pairs[row]
        backwards = []
        for word in source:
            backwards.insert(0, word)
        assert batch.source.ids[n].tolist() == backwards + [PAD_ID] * (batch.source.ids.shape[1] - len(source))
        assert batch.source.lengths[n] == len(source)
        assert batch.target[n].tolist() == [BOS_ID, *target] + [PAD_ID] * (width - 1 - len(target))
        labels += [*target, EOS_ID]
        positions += [n * width + time for time in range(len(target) + 1)]
    assert batch.labels.tolist() == labels
    assert batch.positions.tolist() == positions
    for tensor in (batch.source.ids, batch.source.lengths, batch.target, batch.labels, batch.positions):
        assert tensor.dtype == torch.int64


def test_reversal_of_sentences_of_different_lengths() -> None:
    sentences = [[4, 5, 6], [7], [8, 9]]
    assert collate_source(sentences, reverse_source=True).ids.tolist() == [[6, 5, 4], [7, 0, 0], [9, 8, 0]]
    forward = collate_source(sentences, reverse_source=False)
    assert forward.ids.tolist() == [[4, 5, 6], [7, 0, 0], [8, 9, 0]]
    assert forward.lengths.tolist() == [3, 1, 2]


def test_moving_a_batch_leaves_the_lengths_in_host_memory() -> None:
    batch = next(plan_in_order(Corpus(many(5)).in_order(), batch_tokens=99)).collate(reverse_source=True)
    moved = batch.to(torch.device("meta"))
    assert moved.source.lengths.device.type == "cpu"
    others = (moved.source.ids, moved.target, moved.labels, moved.positions)
    assert {tensor.device.type for tensor in others} == {"meta"}


def test_in_order_holds_every_pair_once_and_is_always_the_same() -> None:
    corpus = Corpus(many(300))
    found = rows(list(plan_in_order(corpus.in_order(), batch_tokens=100)))
    assert sorted(row for batch in found for row in batch) == list(range(300))
    assert found == rows(list(plan_in_order(corpus.in_order(), batch_tokens=100)))
    lengths = [max(len(many(300)[row][1]) for row in batch) for batch in found]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("size", [1, 7, 10, 64, 1000])
@pytest.mark.parametrize("most", [1, 8, 13, 1 << 18])
def test_pools_of_blocks(monkeypatch: pytest.MonkeyPatch, size: int, most: int) -> None:
    monkeypatch.setattr(corpus_module, "_MOST_BLOCKS", most)
    pairs = many(103)
    pools = list(Corpus(pairs).pools(1, 0, size))
    drawn = [row for pool in pools for row in pool.rows.tolist()]
    assert sorted(drawn) == list(range(103))
    block = -(-103 // most)
    assert max(len(pool.rows) for pool in pools) <= max(size, block)
    for pool in pools:
        for n, row in enumerate(pool.rows.tolist()):
            start, length = pool.source.offsets[n], pool.source.lengths[n]
            assert pool.source.values[start : start + length].tolist() == pairs[row][0]
    if size < 103 and most > 1:
        others = [row for pool in Corpus(pairs).pools(1, 1, size) for row in pool.rows.tolist()]
        assert drawn != others


def test_the_order_of_a_corpus_in_blocks_stays_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_MOST_BLOCKS", 10)

    class SmallPools(Corpus):
        def pools(self, seed: int, epoch: int, size: int = 30) -> Iterator[Pool]:
            return super().pools(seed, epoch, size)

    corpus = SmallPools(many(103))
    plans = epoch(corpus)
    assert len({id(plan.pool) for plan in plans}) > 2
    assert sorted(row for batch in rows(plans) for row in batch) == list(range(103))
    assert rows(epoch(corpus, skip=9)) == rows(plans)[9:]


@given(rows=st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1), start=st.integers(0, 3))
def test_rows_of_unequal_length(rows: list[list[int]], start: int) -> None:
    column = datasets.Dataset.from_dict(
        {"ids": rows}, features=datasets.Features({"ids": datasets.List(datasets.Value("int32"))})
    ).with_format("arrow")[:]["ids"]
    start = min(start, len(rows) - 1)
    for ragged, kept in (
        (Ragged.of(rows), rows),
        (Ragged.of_arrow(column), rows),
        (Ragged.of_arrow(column.slice(start)), rows[start:]),
    ):
        assert len(ragged) == len(kept)
        read = [ragged.values[o : o + n].tolist() for o, n in zip(ragged.offsets, ragged.lengths, strict=True)]
        assert read == kept


def test_a_missing_split(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("train", "none"):
        with pytest.raises(UserError, match=rf"{name}: no prepared data here .* run scripts/prepare_translation\.py"):
            PreparedCorpus(tmp_path / name)
    (tmp_path / "train" / "state.json").write_text("{")
    (tmp_path / "train" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="train: no prepared data here"):
        PreparedCorpus(tmp_path / "train")


def test_neighbours_may_stay_together() -> None:
    """What a curriculum needs: every pool is a stretch of the corpus, shuffled within."""
    plans = epoch(Corpus(many(100), shuffle_within=30))
    found = [
        np.concatenate([batch.pool.rows[batch.rows] for batch in plans if batch.pool is pool])
        for pool in pools_of(plans)
    ]
    assert [sorted(each.tolist()) for each in found] == [list(range(i, min(i + 30, 100))) for i in (0, 30, 60, 90)]
    assert found[0].tolist() != sorted(found[0])


def pools_of(plans: Sequence[Plan]) -> list[Pool]:
    return list({id(plan.pool): plan.pool for plan in plans}.values())


TEXT = [("the cat sat", "le chat"), ("", "x"), ("the " * 9, "le"), ("a cat", "un chat"), ("cat", "le " * 9)]


def streamed(base: Path, text: Sequence[tuple[str, str]], *, truncate: bool, max_length: int = 5) -> StreamedCorpus:
    (base / "train.tsv").write_text("".join(f"{one}\t{two}\n" for one, two in text), encoding="utf-8")
    tokenizers = [
        Tokenizer.train(Counter(word for pair in TEXT for word in pair[side].split()), TokenizerConfig(min_count=1))
        for side in (0, 1)
    ]
    return StreamedCorpus(ParallelText(files="train.tsv"), base, (tokenizers[0], tokenizers[1]), max_length, truncate)


@pytest.mark.parametrize("truncate", [True, False])
def test_a_streamed_corpus_counts_what_it_drops(tmp_path: Path, truncate: bool) -> None:
    corpus = streamed(tmp_path, TEXT, truncate=truncate)
    for number in range(2):
        found = sorted(row for batch in rows(epoch(corpus, epoch=number)) for row in batch)
        assert found == ([0, 2, 3, 4] if truncate else [0, 3])
        assert corpus.read == 5
        assert corpus.dropped == {"blank": 1, "overlong": 0 if truncate else 2}
        assert corpus.truncated == (2 if truncate else 0)
    expected = "1 blank; 2 truncated" if truncate else "1 blank, 2 overlong; 0 truncated"
    assert corpus.describe() == f"5 pairs streamed; dropped: {expected} to 5 tokens"


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("truncate", [True, False])
def test_streaming_gives_the_pairs_that_preparing_gives(tmp_path: Path, size: int, truncate: bool) -> None:
    corpus = streamed(tmp_path, TEXT, truncate=truncate)
    (tmp_path / "valid.tsv").write_text("cat\tchat\n")
    side = TokenizerConfig(min_count=1)
    config = PrepareConfig(
        train=ParallelText(files="train.tsv"),
        valid=ParallelText(files="valid.tsv"),
        source=side,
        target=side,
        max_length=5,
        overlong="truncate" if truncate else "drop",
    )
    report = prepare(config, tmp_path / "out", base=tmp_path).splits["train"]
    prepared = PreparedCorpus(tmp_path / "out" / "train")
    read: list[list[tuple[list[int], list[int]]]] = []
    for pools in (corpus.pools(1, 0, size), prepared.in_order(size)):
        found: list[tuple[list[int], list[int]]] = []
        for pool in pools:
            assert len(pool.rows) <= size
            found += pairs_of(Plan(pool, np.arange(len(pool.rows))).collate(reverse_source=False))
        read.append(found)
    assert read[0] == read[1]
    assert (corpus.read, corpus.dropped, corpus.truncated) == (report.read, report.dropped, report.truncated)


def test_a_stream_without_a_usable_pair(tmp_path: Path) -> None:
    corpus = streamed(tmp_path, TEXT[1:3], truncate=False)
    with pytest.raises(UserError, match="no pair of the training text is left: 2 pairs streamed; dropped: 1 blank, 1"):
        epoch(corpus)
