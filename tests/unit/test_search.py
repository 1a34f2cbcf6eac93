import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.search import (
    BOS,
    EOS,
    PAD,
    UNK,
    Beams,
    Hypothesis,
    Limits,
    advance,
    forbid,
    init_beams,
    most_probable,
    settled,
)
from nmt.search_options import SearchOptions
from tests.table_model import TableModel, greedy

torch.set_num_threads(1)

INF = math.inf
WIDE = 400  # more places than any tiny model has candidates


def every_hypothesis(
    model: TableModel, sentence: int, alpha: float, shortest: int, longest: int, unknown: bool, prefix=()
) -> list[tuple[float, float, list[int]]]:
    """All that may be written, best first, by enumeration: score, log-probability and tokens."""
    words = [UNK] * unknown + list(range(EOS + 1, model.vocab))
    found = []
    for length in range(shortest, max(longest, len(prefix)) + 1):
        for tokens in itertools.product(words, repeat=length):
            if tokens[: len(prefix)] == tuple(prefix):
                ended = [*tokens, EOS]
                log_prob = sum(model.next(sentence, tokens[:i])[ended[i]].item() for i in range(length + 1))
                found.append((log_prob / (length + 1) ** alpha, log_prob, list(tokens)))
    return sorted(found, key=lambda entry: -entry[0])


def assert_same(found: list[Hypothesis], expected: list[tuple[float, float, list[int]]]) -> None:
    assert [each.tokens for each in found] == [tokens for _, _, tokens in expected]
    assert [each.score for each in found] == pytest.approx([score for score, _, _ in expected], abs=1e-5)
    assert [each.log_prob for each in found] == pytest.approx([one for _, one, _ in expected], abs=1e-5)
    assert all(each.finished for each in found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("shortest", "longest", "unknown"), [(0, 4, False), (2, 3, False), (1, 3, True), (0, 0, False)]
)
def test_a_wide_beam_enumerates(seed, alpha, shortest, longest, unknown):
    model = TableModel(seed=seed)
    options = SearchOptions(beam=WIDE, n_best=WIDE, length_penalty=alpha, allow_unknown=unknown)
    (found,) = model.run([0], options, [shortest], [longest])
    assert_same(found, every_hypothesis(model, 0, alpha, shortest, longest, unknown))


def reference_beam_search(model: TableModel, sentence: int, beam: int, alpha: float, longest: int):
    """Section 3.2 with lists, which never stops before the length limit."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    pool: list[tuple[float, float, list[int]]] = []
    for length in range(longest + 1):
        words = [EOS, *range(EOS + 1, model.vocab)] if length < longest else [EOS]
        candidates = [
            (total + log_prob, [*tokens, word])
            for total, tokens in live
            for word, log_prob in enumerate(model.next(sentence, tokens).tolist())
            if word in words
        ]
        kept = sorted(candidates, key=lambda entry: -entry[0])[:beam]
        live = [(total, tokens) for total, tokens in kept if tokens[-1] != EOS]
        pool += [(total / (length + 1) ** alpha, total, tokens[:-1]) for total, tokens in kept if tokens[-1] == EOS]
    return sorted(pool, key=lambda entry: -entry[0])[:beam]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_never_stops_too_early(seed, alpha, beam):
    """Nothing is missed that the same beam finds when it always goes on to the length limit."""
    model = TableModel(seed=seed, vocab=9, sharpness=1.0)
    options = SearchOptions(beam=beam, n_best=beam, length_penalty=alpha)
    found = model.run(range(5), options, [0] * 5, [9, 3, 12, 1, 6])
    for sentence, longest in enumerate([9, 3, 12, 1, 6]):
        assert_same(found[sentence], reference_beam_search(model, sentence, beam, alpha, longest))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("unknown", [False, True])
def test_a_beam_of_one_is_greedy(seed, unknown):
    model = TableModel(seed=seed)
    shortest, longest = [0, 0, 2, 3, 0, 0], [8, 5, 9, 3, 0, 12]
    found = model.run(range(6), SearchOptions(beam=1, allow_unknown=unknown), shortest, longest)
    for sentence, (hypothesis,) in enumerate(found):
        tokens, total = greedy(model, sentence, shortest[sentence], longest[sentence], unknown)
        assert hypothesis.tokens == tokens
        assert hypothesis.log_prob == pytest.approx(total, abs=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 0.6, 1.0]))
@settings(max_examples=30, deadline=None)
def test_n_best_is_sorted_distinct_and_a_prefix_of_a_longer_list(seed, beam, alpha):
    model = TableModel(seed=seed)
    options = SearchOptions(beam=beam, n_best=beam, length_penalty=alpha)
    (found,) = model.run([seed % 5], options, [0], [6])
    assert 1 <= len(found) <= beam
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert len({tuple(each.tokens) for each in found}) == len(found)
    assert not {PAD, UNK, BOS, EOS} & {token for each in found for token in each.tokens}
    for n_best in range(1, beam + 1):
        assert model.run([seed % 5], replace(options, n_best=n_best), [0], [6]) == [found[:n_best]]


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=24),
    st.sampled_from([SearchOptions(beam=1), SearchOptions(beam=4, n_best=4), SearchOptions(sample=True, n_best=3)]),
)
@settings(max_examples=40, deadline=None)
def test_a_sentence_ignores_its_batch(seed, sentences, options):
    model = TableModel(seed=seed, vocab=9)
    numbers, shortest, longest = (list(column) for column in zip(*sentences, strict=True))
    prefixes = [[4, 5][: number % 3] for number in numbers]
    together = model.run(numbers, options, shortest, longest, prefixes=prefixes, seeds=numbers)
    for i, number in enumerate(numbers):
        alone = model.run([number], options, [shortest[i]], [longest[i]], prefixes=[prefixes[i]], seeds=[number])
        assert alone == [together[i]]


def test_settled_sentences_leave_the_batch():
    """The longest sentence of a batch does not keep the others' rows in the step."""
    model = TableModel()
    options = SearchOptions(beam=2)
    model.run([1] * 10, options, [0] * 10, [0] * 9 + [20])
    batched, model.rows = model.rows, 0
    model.run([1], options, [0], [20])
    assert batched == model.rows + 9  # of the others only the first step, which begins with one hypothesis


def test_settled_sentences_stay_while_they_are_few():
    model = TableModel()
    options = SearchOptions(beam=1)
    model.run([1] * 16, options, [0, *[9] * 15], [0, *[9] * 15])
    assert model.rows == 16 * 10  # one of 16 does not leave alone
    model.rows = 0
    model.run([1] * 16, options, [0, 3, *[9] * 14], [0, 3, *[9] * 14])
    assert model.rows == 16 * 4 + 14 * 6  # two are an eighth


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("place", [0, 2])
def test_a_sentence_is_settled_just_when_the_bound_is_reached(alpha, place):
    beams = init_beams(3, 3, 6, torch.device("cpu"), width=3)
    beams.log_probs[:] = torch.tensor([-30.0, -10.0, -INF])
    bound = -10.0 / 6**alpha  # five tokens and the end, at no further cost
    scores = torch.full((3, 3), -0.1)
    scores[:, place] = torch.tensor([bound + 0.01, bound - 0.01, -INF])
    limits = Limits(torch.zeros(3).long(), torch.full((3,), 5), torch.zeros(3, 0).long(), torch.zeros(3, 0, 0), 0, 5)
    options = SearchOptions(beam=3, n_best=place + 1, length_penalty=alpha)
    assert settled(replace(beams, pool_scores=scores), limits, options).tolist() == [True, False, False]
    dead = replace(beams, pool_scores=scores, log_probs=torch.full((3, 3), -INF))
    assert settled(dead, limits, options).all()


@given(
    st.integers(1, 5), st.sampled_from([64, 300, 640, 1024]), st.integers(1, 5), st.integers(0, 10_000), st.booleans()
)
@settings(max_examples=80, deadline=None)
def test_the_most_probable_are_found_by_blocks(width, vocab, count, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(2, width, vocab, generator=generator)
    if ties:
        log_probs = log_probs.round()
    log_probs[:, :, vocab // 2 :] = -INF
    best, places = most_probable(log_probs, count)
    torch.testing.assert_close(best, log_probs.topk(count).values, rtol=0, atol=0)
    assert torch.equal(log_probs.gather(2, places), best)
    assert all(len(set(row)) == count for row in places.flatten(0, 1).tolist())


@pytest.mark.parametrize("vocab", [7, 640])
def test_what_is_forbidden_has_no_probability(vocab):
    log_probs = torch.randn(4, 2, vocab).log_softmax(-1)
    prefixes = torch.tensor([[PAD], [PAD], [PAD], [UNK]])
    limits = Limits(torch.tensor([0, 3, 0, 3]), torch.tensor([9, 9, 2, 9]), prefixes, torch.zeros(4, 0, 0), 3, 2)
    for length, after_prefix in ((2, True), (0, False)):
        left = log_probs.clone()
        forbid(left, length, limits, torch.tensor([PAD, BOS, UNK]))
        possible = [set(row[0].isfinite().nonzero().flatten().tolist()) for row in left]
        words = set(range(EOS + 1, vocab))
        assert possible[0] == words | {EOS}  # free
        assert possible[1] == words  # may not end yet
        assert possible[2] == ({EOS} if after_prefix else words | {EOS})  # must end
        assert possible[3] == (words if after_prefix else {UNK})  # forced, whatever else is said
        assert torch.equal(left[left.isfinite()], log_probs[left.isfinite()])


def test_the_state_may_be_empty_of_sentences():
    assert TableModel().run([], SearchOptions(), [], []) == []


@pytest.mark.parametrize("options", [SearchOptions(beam=3, n_best=3), SearchOptions(sample=True, n_best=3)])
def test_partial_hypotheses_where_nothing_can_end(options):
    model = TableModel(seed=3)
    model.table[:, EOS] = -INF
    (found, empty) = model.run([0, 1], options, [0, 0], [4, 0])
    assert [len(each.tokens) for each in found] == [4] * len(found)
    assert not any(each.finished for each in found)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for each in found:
        total = sum(model.next(0, each.tokens[:i])[token].item() for i, token in enumerate(each.tokens))
        assert (each.log_prob, each.score) == pytest.approx((total, total / 4), abs=1e-5)
    assert empty == [Hypothesis([], 0.0, 0.0, False, True)]


def test_complete_hypotheses_come_before_partial_ones():
    """Nothing unfinished is returned next to a finished hypothesis, however few there are."""
    model = TableModel(seed=3)
    first = model.table[(BOS + 1) % model.size].clone()
    model.table[:, EOS] = -INF
    model.table[(BOS + 1) % model.size] = first
    (found,) = model.run([0], SearchOptions(beam=5, n_best=5), [0], [4])
    assert [each.tokens for each in found] == [[]]
    assert found[0].finished


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("prefix", [[], [5], [5, 4], [6, UNK, 5, 4]])
def test_a_prefix_is_forced(alpha, prefix):
    """Whatever the limits and the unknown token say, and its log-probability counts."""
    model = TableModel(seed=5)
    options = SearchOptions(beam=WIDE, n_best=WIDE, length_penalty=alpha)
    (found,) = model.run([2], options, [0], [3], prefixes=[prefix])
    if UNK in prefix:
        total = sum(model.next(2, prefix[:i])[token].item() for i, token in enumerate([*prefix, EOS]))
        assert_same(found, [(total / 5**alpha, total, prefix)])
    else:
        assert_same(found, every_hypothesis(model, 2, alpha, len(prefix), 3, False, prefix))
    samples = SearchOptions(sample=True, n_best=9)
    assert all(each.tokens[: len(prefix)] == prefix for each in model.run([2], samples, [0], [3], prefixes=[prefix])[0])


def test_prefixes_differ_within_a_batch():
    model = TableModel(seed=5)
    prefixes = [[], [4, 4, 4], [6]]
    found = model.run([0, 0, 0], SearchOptions(beam=2), [0, 2, 0], [4, 1, 4], prefixes=prefixes)
    assert found[1][0].tokens == [4, 4, 4]
    assert found[2][0].tokens[:1] == [6]


@pytest.mark.parametrize("token", [PAD, BOS, EOS])
def test_a_prefix_of_special_tokens_is_refused(token):
    with pytest.raises(ValueError, match="prefix"):
        TableModel().run([0], SearchOptions(), [0], [3], prefixes=[[4, token]])


@pytest.mark.parametrize("options", [SearchOptions(), SearchOptions(beam=1), SearchOptions(sample=True, n_best=8)])
def test_lengths_are_respected_and_the_longest_wins(options):
    model = TableModel(seed=1)
    model.table[:, EOS] += 4
    found = model.run([0, 1, 2, 3], options, [0, 3, 4, 9], [5, 5, 4, 2])
    for hypotheses, allowed in zip(found, [range(6), range(3, 6), [4], [2]], strict=True):
        assert {len(each.tokens) for each in hypotheses} <= set(allowed)
    assert all(each.finished for hypotheses in found for each in hypotheses)
    for hypotheses, longest in zip(found, [5, 5, 4, 2], strict=True):
        assert all(each.cut_off == (len(each.tokens) == longest) for each in hypotheses)
    assert any(each.cut_off for each in found[3])


@pytest.mark.parametrize("sample", [False, True])
def test_the_unknown_token_needs_leave(sample):
    model = TableModel(seed=1)
    model.table[:, UNK] += 5
    options = SearchOptions(sample=sample)
    assert UNK not in model.run([0], options, [3], [5])[0][0].tokens
    assert UNK in model.run([0], replace(options, allow_unknown=True), [3], [5])[0][0].tokens


@pytest.mark.parametrize("options", [SearchOptions(), SearchOptions(beam=1), SearchOptions(sample=True)])
@pytest.mark.parametrize("broken", ["all", "one", "late"])
def test_nan_is_reported(options, broken):
    model = TableModel()
    if broken == "all":
        model.table[:] = math.nan
    elif broken == "one":
        model.table[:, 5] = math.nan
    else:
        model.table[model.table[:, 4] < model.table[:, 5]] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        model.run([0, 1, 2], options, [3, 3, 3], [6, 6, 6])


@pytest.mark.parametrize("sample", [False, True])
def test_no_possible_token_is_reported(sample):
    model = TableModel()
    model.table[:, EOS:] = -INF
    with pytest.raises(ValueError, match="probability zero"):
        model.run([0], SearchOptions(sample=sample), [0], [6])


@pytest.mark.parametrize(
    "options", [SearchOptions(beam=3), SearchOptions(sample=True, n_best=3, top_k=4, top_p=0.9, temperature=0.7)]
)
def test_a_step_reads_nothing_from_the_device(options):
    """On the meta device tensors have no values to read, and tensors made elsewhere do not mix with them."""
    meta = torch.device("meta")
    limits = Limits(
        torch.zeros(2, dtype=torch.long, device=meta),
        torch.full((2,), 5, device=meta),
        torch.zeros(2, 1, dtype=torch.long, device=meta),
        torch.zeros(2, 3, 6, device=meta),
        0,
        5,
    )
    never = torch.tensor([PAD, BOS, UNK], device=meta)
    beams = init_beams(2, 3, 6, meta, width=3)
    for length in range(6):
        log_probs = torch.zeros(6, 9, device=meta, dtype=torch.bfloat16)
        after = advance(beams, log_probs, length, limits, never, options)
        for name in Beams.__dataclass_fields__:
            tensor, before = getattr(after, name), getattr(beams, name)
            assert (tensor.device, tensor.shape, tensor.dtype) == (meta, before.shape, before.dtype)
        beams = after
    flags = settled(beams, limits, options)
    assert (flags.device, flags.shape, flags.dtype) == (meta, (2,), torch.bool)
