"""Search: from a model's next-token log-probabilities to translations.

`search` knows nothing about models. It is given a step, which maps the previous tokens and a state to
log-probabilities and the next state, and a state whose rows can be gathered.

Beam search is that of Sutskever, Vinyals and Le (2014), section 3.2, to the letter. Every partial
hypothesis in the beam is extended with every token, and all but the `beam` most probable results are
discarded. Those that end in the end token leave the beam for the pool of complete hypotheses; the others go
on. Two things follow:

- a hypothesis ends only where its end is among the `beam` best candidates, so a beam of 1 is greedy decoding:
  the first end token that is the most probable token leaves nothing to go on with;
- a beam at least as wide as the number of candidates discards nothing, so it enumerates exhaustively.

A hypothesis that ends leaves its place empty for one step: the next step again keeps the `beam` best. The
pool keeps the `beam` best complete hypotheses by score. A sentence is settled once nothing left in its beam
can reach a better score than the last of those asked for, or nothing is left. So the search never stops too
early, and the best that it finds do not depend on how many are asked for.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from data.errors import UserError
from data.tokenizer import BOS_ID as BOS
from data.tokenizer import EOS_ID as EOS
from data.tokenizer import PAD_ID as PAD
from data.tokenizer import UNK_ID as UNK
from nmt.search_options import SearchOptions

_KEPT = 7 / 8  # of the sentences: while more are left, settled ones stay
_BLOCK = 64  # entries of a vocabulary whose largest is looked at first

# Not typing.Self: runtime type checks look at one method at a time and cannot tell whose self it is.
S = TypeVar("S", bound="State")
P = TypeVar("P", bound="PerSentence")


class BrokenModelError(UserError, ValueError):
    """The model computes no probabilities: huge weights can be finite and still overflow on other text."""


@runtime_checkable
class State(Protocol):
    """What a step carries from one token to the next, with one row per hypothesis.

    Rows stand sentence by sentence, equally many for each, so that what all hypotheses of a sentence share need be
    there only once.
    """

    def select(self: S, rows: Int[Tensor, " selected"], sentences: Int[Tensor, " kept"] | None = None) -> S:
        """The state of these rows, in this order; a row may be taken several times or not at all.

        Args:
            sentences: Those that the rows are of, if some have left the search.
        """
        ...


# The previous tokens and a state to log-probabilities of the next tokens, which search may overwrite, and the next
# state. Entries beyond the vocabulary are -inf.
Step: TypeAlias = Callable[[Int[Tensor, " rows"], S], tuple[Float[Tensor, "rows vocab"], S]]


@dataclass(frozen=True)
class Hypothesis:
    """One translation: token ids without begin and end, and what the model makes of them.

    `log_prob` sums over all tokens, the end token included where `finished`; `score` is after length penalty. One that
    is `cut_off` is as long as was allowed, so that its end was not the model's choice.
    """

    tokens: list[int]
    log_prob: float
    score: float
    finished: bool
    cut_off: bool = False


@dataclass(frozen=True)
class PerSentence:
    """Tensors whose first dimension is the sentences still searched for, and plain numbers."""

    def select(self: P, kept: Int[Tensor, " kept"]) -> P:
        """The same for these sentences only."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: each[kept] for name, each in values.items() if isinstance(each, Tensor)})


@dataclass(frozen=True)
class Limits(PerSentence):
    """What each sentence may write: `prefixes` first (padded), then what the lengths allow.

    `uniforms` are the random numbers of sampling, one per row and position; empty for beam search. Before `all_may_end`
    tokens some sentence must not end yet, from `one_must_end` on some sentence must; they are numbers of the host, for
    a step reads nothing from the device.
    """

    shortest: Int[Tensor, " batch"]
    longest: Int[Tensor, " batch"]
    prefixes: Int[Tensor, "batch prefix"]
    uniforms: Float[Tensor, "batch samples time"]
    all_may_end: int
    one_must_end: int


@dataclass(frozen=True)
class Beams(PerSentence):
    """Where the search stands: hypotheses still growing, and the pool of complete ones, best first.

    A place in the beam whose log-probability is -inf, and a place in the pool whose score is, is empty. The beam begins
    with as many places as there are ways to begin, and is as wide as the pool from the first step on.
    `parents` are the rows of the step's state that the hypotheses continue.
    """

    tokens: Int[Tensor, "batch width time"]
    log_probs: Float[Tensor, "batch width"]
    parents: Int[Tensor, "batch width"]
    pool_tokens: Int[Tensor, "batch beam time"]
    pool_log_probs: Float[Tensor, "batch beam"]
    pool_scores: Float[Tensor, "batch beam"]


class Successors(NamedTuple):
    """Hypotheses one token longer: total log-probability, which beam each continues, and its new token."""

    log_probs: Float[Tensor, "batch beam"]
    origins: Int[Tensor, "batch beam"]
    tokens: Int[Tensor, "batch beam"]


def init_beams(batch: int, beam: int, time: int, device: torch.device, *, width: int = 1) -> Beams:
    """`width` empty hypotheses per sentence; beam search starts from 1, since equals would only repeat it."""
    pool = torch.full((batch, beam, time), PAD, device=device)
    scores = torch.full((batch, beam), -math.inf, device=device)
    rows = torch.arange(batch * width, device=device).view(batch, width)
    begun = torch.zeros((batch, width), device=device)
    return Beams(pool.new_full((batch, width, time), PAD), begun, rows, pool, scores, scores)


def never_written(allow_unknown: bool, device: torch.device) -> Int[Tensor, " special"]:
    """The tokens that stand in no hypothesis, but for the end, whose place is its end."""
    return torch.tensor([PAD, BOS] if allow_unknown else [PAD, BOS, UNK]).to(device, non_blocking=True)


def forbid(
    log_probs: Float[Tensor, "batch width vocab"], length: int, limits: Limits, never: Int[Tensor, " special"]
) -> None:
    """Take the probability, in place, from what a sentence may not write after `length` tokens."""
    end, forced, its = log_probs[:, :, EOS], None, None
    if length < limits.prefixes.shape[1]:
        forced = limits.prefixes[:, length, None, None].expand(-1, log_probs.shape[1], 1)
        its = log_probs.gather(2, forced)
    log_probs.index_fill_(2, never, -math.inf)
    if length < limits.all_may_end:
        end.masked_fill_((length < limits.shortest)[:, None], -math.inf)
    if length >= limits.one_must_end:
        must, kept = (length >= limits.longest)[:, None], end.clone()
        log_probs.masked_fill_(must[:, :, None], -math.inf)
        end.copy_(kept)
    if forced is not None and its is not None:
        log_probs.masked_fill_(forced != PAD, -math.inf)
        log_probs.scatter_(2, forced, torch.where(forced == PAD, -math.inf, its))


def most_probable(
    log_probs: Float[Tensor, "batch width vocab"], count: int
) -> tuple[Float[Tensor, "batch width count"], Int[Tensor, "batch width count"]]:
    """The `count` largest of the last dimension, largest first, and where they stand.

    They stand in the blocks with the largest maxima, so that of a large vocabulary little more than those maxima is
    looked at.
    """
    *rows, vocab = log_probs.shape
    if vocab % _BLOCK or vocab < 2 * count * _BLOCK:
        return log_probs.topk(count)
    blocks = log_probs.view(*rows, -1, _BLOCK)
    places = blocks.amax(-1).topk(count).indices
    candidates = blocks.gather(-2, places[..., None].expand(*places.shape, _BLOCK)).flatten(-2)
    best, index = candidates.topk(count)
    return best, places.gather(-1, index // _BLOCK) * _BLOCK + index % _BLOCK


def best_successors(
    live: Float[Tensor, "batch width"], log_probs: Float[Tensor, "batch width vocab"], beam: int
) -> Successors:
    """The most probable of all extensions of all hypotheses, as many as the beam is wide."""
    width, vocab = log_probs.shape[1:]
    count = min(beam, vocab)
    best, ids = most_probable(log_probs, count)
    sums, ids = (live[:, :, None] + best).flatten(1), ids.flatten(1)
    if missing := max(0, beam - width * count):  # where a tiny vocabulary offers fewer
        sums, ids = F.pad(sums, (0, missing), value=-math.inf), F.pad(ids, (0, missing), value=PAD)
    sums, index = sums.topk(beam)
    return Successors(sums, (index // count).clamp(max=width - 1), ids.gather(1, index))


def drawn_successors(
    live: Float[Tensor, "batch beam"],
    log_probs: Float[Tensor, "batch beam vocab"],
    uniforms: Float[Tensor, "batch beam"],
    options: SearchOptions,
) -> Successors:
    """One extension of every beam, drawn by inverting the distribution function at `uniforms`.

    Temperature, top-k (Fan et al. 2018) and top-p (Holtzman et al. 2020) shape what is drawn from; the
    log-probability counted is the model's own.
    """
    vocab = log_probs.shape[2]
    if options.top_k or options.top_p < 1:
        ranked, ids = log_probs.topk(min(options.top_k or vocab, vocab))
    else:  # any order will do
        ranked, ids = log_probs, torch.arange(vocab, device=log_probs.device).expand_as(log_probs)
    top = ranked.amax(-1, keepdim=True).clamp(min=torch.finfo(ranked.dtype).min)  # where nothing is possible: finite
    weights = ((ranked - top) / options.temperature).exp()
    if options.top_p < 1:
        before = weights.cumsum(-1) - weights
        weights = weights * (before < options.top_p * weights.sum(-1, keepdim=True))
    cumulative = weights.cumsum(-1)
    total = cumulative[..., -1]
    passed = (cumulative <= (uniforms * total)[..., None]).sum(-1)
    places = torch.arange(weights.shape[-1], device=weights.device)
    last = places.where(weights > 0, 0).amax(-1)  # rounding must not step over the end
    place = torch.minimum(passed, last)[..., None]
    origins = torch.arange(live.shape[1], device=live.device).expand_as(live)
    drawn = ranked.gather(2, place)[..., 0] + 0 * total  # NaN anywhere is NaN here, which is reported
    return Successors(live + drawn, origins, ids.gather(2, place)[..., 0])


def gather_rows(
    tokens: Int[Tensor, "batch some time"], index: Int[Tensor, "batch beam"]
) -> Int[Tensor, "batch beam time"]:
    """The token rows at `index` within each sentence."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))


def advance(
    beams: Beams,
    log_probs: Float[Tensor, "rows vocab"],
    length: int,
    limits: Limits,
    never: Int[Tensor, " special"],
    options: SearchOptions,
) -> Beams:
    """One step: hypotheses of `length` tokens become hypotheses of one more; those that end are pooled."""
    batch, width = beams.log_probs.shape
    beam = beams.pool_scores.shape[1]
    allowed = log_probs.float().view(batch, width, -1)
    forbid(allowed, length, limits, never)
    if options.sample:
        new = drawn_successors(beams.log_probs, allowed, limits.uniforms[:, :, length], options)
    else:
        new = best_successors(beams.log_probs, allowed, beam)
    tokens = gather_rows(beams.tokens, new.origins)
    # an empty place may have come from beyond the vocabulary
    tokens[:, :, length] = new.tokens.masked_fill(new.log_probs == -math.inf, PAD)
    ended = new.tokens == EOS
    rows = torch.arange(0, batch * width, width, device=tokens.device)[:, None] + new.origins
    live = new.log_probs.masked_fill(ended, -math.inf)

    scores = (new.log_probs / (length + 1) ** options.length_penalty).masked_fill(~ended, -math.inf)
    scores, order = torch.cat([beams.pool_scores, scores], 1).topk(beam)
    pooled = gather_rows(torch.cat([beams.pool_tokens, tokens], 1), order)
    sums = torch.cat([beams.pool_log_probs, new.log_probs], 1).gather(1, order)

    if length >= limits.one_must_end:
        # At the length limit with nothing complete, the pool takes what was written so far.
        partial = ((length >= limits.longest) & (scores.amax(1) == -math.inf))[:, None]
        scores = torch.where(partial, beams.log_probs / max(length, 1) ** options.length_penalty, scores)
        sums = torch.where(partial, beams.log_probs, sums)
        pooled = torch.where(partial[:, :, None], beams.tokens, pooled)
    return Beams(tokens, live, rows, pooled, sums, scores)


def settled(beams: Beams, limits: Limits, options: SearchOptions) -> Bool[Tensor, " batch"]:
    """Whether nothing in the beam can still be among the `n_best` of the pool, for every sentence.

    Log-probabilities only fall, and no length divides them by more than the longest, so that quotient bounds
    every score still to come. An empty place in a pool scores -inf, and so does an empty beam: with nothing
    left to go on with, any pool is settled. NaN settles a sentence too, so that it is reported at once.
    """
    bound = beams.log_probs.amax(1) / (limits.longest + 1) ** options.length_penalty
    return ~(bound > beams.pool_scores[:, options.n_best - 1])


def read_pool(beams: Beams, limits: Limits, n_best: int) -> list[list[Hypothesis]]:
    """The best distinct hypotheses of every sentence, as plain Python."""
    found = []
    columns = beams.pool_tokens, beams.pool_log_probs, beams.pool_scores, beams.log_probs, limits.longest
    for tokens, log_probs, scores, live, longest in zip(*(column.tolist() for column in columns), strict=True):
        if any(math.isnan(value) for value in scores + live):
            raise BrokenModelError("the model's log-probabilities are NaN: its weights or its input are broken")
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        ranked = sorted(zip(tokens, log_probs, scores, strict=True), key=lambda entry: -entry[2])
        for row, log_prob, score in ranked:
            if score > -math.inf:
                written = tuple(token for token in row if token not in (PAD, EOS))
                one = Hypothesis(list(written), log_prob, score, EOS in row, len(written) >= longest)
                distinct.setdefault(written, one)
        if not distinct:
            raise BrokenModelError("the model gives probability zero to everything that may be written")
        found.append(list(distinct.values())[:n_best])
    return found


def draw_uniforms(
    options: SearchOptions, seeds: Sequence[int], longest: Sequence[int]
) -> Float[Tensor, "batch samples time"]:
    """Random numbers in [0, 1) per sentence, from a seed of its own, so that samples ignore the batch."""
    if not options.sample:
        return torch.zeros(len(seeds), 0, 0)
    samples = options.n_best
    uniforms = torch.zeros(len(seeds), samples, max(longest) + 1)
    for row, seed, length in zip(uniforms, seeds, longest, strict=True):
        # A CPU generator keeps 32 bits of its seed; a digest spreads the two seeds over them.
        digest = hashlib.blake2s(f"{options.seed} {seed}".encode(), digest_size=4).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        row[:, : length + 1] = torch.rand(samples, length + 1, generator=generator)
    return uniforms


def make_limits(
    options: SearchOptions,
    min_lengths: Int[Tensor, " batch"],
    max_lengths: Int[Tensor, " batch"],
    prefixes: Sequence[Sequence[int]],
    seeds: Sequence[int],
) -> Limits:
    """Limits that agree: the longest length makes room for the prefix, and wins over the shortest."""
    if any({PAD, BOS, EOS} & set(prefix) for prefix in prefixes):
        raise ValueError("a prefix holds a padding, begin or end token")
    device = max_lengths.device
    padded = pad_sequence([torch.tensor(prefix, dtype=torch.long) for prefix in prefixes], True, PAD)
    longest = torch.maximum(max_lengths.cpu(), torch.tensor([len(prefix) for prefix in prefixes]))
    shortest = torch.minimum(min_lengths.cpu(), longest)
    uniforms = draw_uniforms(options, seeds, longest.tolist())
    soonest, latest = int(longest.min()), int(shortest.max())
    return Limits(shortest.to(device), longest.to(device), padded.to(device), uniforms.to(device), latest, soonest)


def search(
    step: Step[S],
    state: S,
    options: SearchOptions,
    *,
    min_lengths: Int[Tensor, " batch"],
    max_lengths: Int[Tensor, " batch"],
    prefixes: Sequence[Sequence[int]] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """At most `n_best` distinct hypotheses for every sentence, best first, and never none.

    The state has one row per sentence, on the device of the lengths. Lengths do not count the end token.
    A prefix is written whatever the other limits say, makes room for itself, and counts in the score. `seeds`
    tell the sentences of a sample apart; by default their places in the batch do.
    """
    batch, device = len(max_lengths), max_lengths.device
    if not batch:
        return []
    beam = options.n_best if options.sample else options.beam
    limits = make_limits(options, min_lengths, max_lengths, prefixes or [[]] * batch, seeds or range(batch))
    time = int(limits.longest.max()) + 1
    width = beam if options.sample else 1
    beams = init_beams(batch, beam, time, device, width=width)
    if width > 1:
        state = state.select(beams.parents.flatten() // width)
    previous = torch.full((batch * width,), BOS, device=device)
    never, waiting = never_written(options.allow_unknown, device), list(range(batch))
    found: list[list[Hypothesis]] = [[] for _ in waiting]
    for length in range(time):
        log_probs, state = step(previous, state)
        beams = advance(beams, log_probs, length, limits, never, options)
        sentences = None
        # The one read back from the device in a step. Waiting for the step to end costs some microseconds; it
        # saves the rows of settled sentences, which would else be stepped until the last of the batch ends. They
        # leave some at a time, since what is kept of the others has to be copied then.
        flags = settled(beams, limits, options).tolist()
        if done := [i for i, flag in enumerate(flags) if flag and not found[waiting[i]]]:
            rows = torch.tensor(done, device=device)
            pools = read_pool(beams.select(rows), limits.select(rows), options.n_best)
            for i, hypotheses in zip(done, pools, strict=True):
                found[waiting[i]] = hypotheses
        kept = [i for i, flag in enumerate(flags) if not flag]
        if not kept:
            break
        if len(kept) <= _KEPT * len(waiting):
            sentences = torch.tensor(kept, device=device)
            beams, limits, waiting = beams.select(sentences), limits.select(sentences), [waiting[i] for i in kept]
        if sentences is not None or beam > 1:  # a single hypothesis continues itself
            state = state.select(beams.parents.flatten(), sentences)
        previous = beams.tokens[:, :, length].flatten()
    return found
