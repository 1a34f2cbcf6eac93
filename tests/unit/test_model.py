import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import FEATURES, WORDS, collate_frames, collate_source, random_batch, random_sequences, random_source, seeded

from data.errors import UserError
from data.tokenizer import BOS_ID, PAD_ID
from nmt.config import ModelConfig, TrainingConfig
from nmt.context import Context
from nmt.decoder import Decoder
from nmt.encoder import FrameEncoder
from nmt.loss import cross_entropy
from nmt.model import SequenceModel, text_model
from nmt.recurrent import RecurrentState
from nmt.stepper import Stepper

LENGTHS = [(3, 5), (6, 2), (1, 1), (4, 4)]


def make(seed: int = 3, reads: str = "text", **config) -> SequenceModel:
    config = ModelConfig(**{"hidden": 8, "embedding": 8, "layers": 2, "dropout": 0.3, **config})
    if reads == "text":
        return seeded(lambda: text_model(config, WORDS, WORDS), seed)
    return seeded(lambda: SequenceModel(config, FrameEncoder(config, FEATURES), WORDS), seed)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("tied", "embedding"), [("none", 8), ("target", 8), ("target", 6)])
@pytest.mark.parametrize("first_input", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_decoder_steps_give_what_forward_gives(layers, residual, tied, embedding, first_input, started):
    config = ModelConfig(layers=layers, hidden=8, embedding=embedding, residual=residual, tied=tied)
    decoder = Decoder(config, WORDS).eval()
    batch = random_batch(0, LENGTHS)
    rows, time = batch.target.shape
    context = Context(
        state=RecurrentState(torch.randn(layers, rows, 8), torch.randn(layers, rows, 8)) if started else None,
        first_input=torch.randn(rows, embedding) if first_input else None,
    )
    together = decoder(context, batch.target, batch.positions)
    state, steps = decoder.start(context, rows), []
    for t in range(time):
        logits, state = decoder.step(batch.target[:, t], state)
        steps.append(logits)
    grid = torch.stack(steps, 1).flatten(0, 1)
    torch.testing.assert_close(together, grid[batch.positions], atol=1e-5, rtol=0)


@given(
    st.sampled_from(["lstm", "gru", "rnn"]), st.booleans(), st.sampled_from(["none", "dot", "general", "additive"]),
    st.sampled_from(["word", "both", "vector"]), st.booleans(), st.integers(1, 2),
    st.sampled_from([("none", 8), ("target", 6)]), st.sampled_from(["text", "frames"]), st.integers(0, 2),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_steps_after_an_encoder_give_what_forward_gives(
    cell, bidirectional, attention, vector, residual, layers, sizes, reads, above
):
    tied, embedding = ("none", 8) if vector == "vector" else sizes
    model = make(
        cell=cell, bidirectional=bidirectional, attention=attention, source_every_step=vector == "both",
        repeat_vector=vector == "vector", residual=residual,
        layers=layers, tied=tied, embedding=embedding, reads=reads,
        layers_above=0 if attention == "none" else above,
    ).eval()  # fmt: skip
    batch = random_batch(0, LENGTHS)
    if reads == "frames":
        batch = dataclasses.replace(batch, source=collate_frames(random_sequences(0, [one for one, _ in LENGTHS])))
    together = model.decoder(model.encode(batch.source), batch.target, batch.positions).log_softmax(-1)
    # each row twice, in another order: what is selected goes on alike
    stepper, sentences = Stepper(model), torch.arange(len(LENGTHS)).flip(0)
    rows = sentences.repeat_interleave(2)
    state, steps = stepper.start(batch.source).select(rows, sentences), []
    for t in range(batch.target.shape[1]):
        log_probs, state = stepper.step(batch.target[rows, t], state)
        steps.append(log_probs[:, :WORDS])
    both = torch.stack(steps, 1).flip(0).unflatten(0, (-1, 2))
    torch.testing.assert_close(both[:, 0], both[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(together, both[:, 0].flatten(0, 1)[batch.positions], atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["dot", "general", "additive"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("reads", ["text", "frames"])
def test_padding_of_the_source_changes_nothing(attention, bidirectional, reads):
    model = make(attention=attention, bidirectional=bidirectional, source_every_step=True, reads=reads).eval()
    if reads == "text":
        alone = collate_source([[5, 6, 7]], reverse_source=True)
        beside = collate_source([[5, 6, 7], [4, 5, 6, 7, 8, 9]], reverse_source=True)
    else:
        sequences = random_sequences(0, [3, 6])
        alone, beside = collate_frames(sequences[:1]), collate_frames(sequences)
    start = torch.full((2,), BOS_ID)
    stepper = Stepper(model)
    expected, _ = stepper.step(start[:1], stepper.start(alone))
    found, _ = stepper.step(start, stepper.start(beside))
    torch.testing.assert_close(found[:1], expected, atol=1e-5, rtol=0)


def test_layers_above_attention_know_what_was_attended_to_before():
    torch.manual_seed(0)
    decoder = make(attention="general", layers_above=1).eval().decoder
    assert decoder.above is not None
    state = Stepper(make(attention="general", layers_above=1).eval()).start(random_source(0, [5]))
    first, after = decoder.step(torch.tensor([5]), state)
    # all that the layers below carry on is put back, so that only those above remember the first step
    again, _ = decoder.step(torch.tensor([5]), dataclasses.replace(after, recurrent=state.recurrent))
    assert not torch.allclose(first, again)
    for weight in decoder.above.parameters():
        weight.data.zero_()
    (first, after), below = decoder.step(torch.tensor([5]), state), state.recurrent
    assert torch.equal(first, decoder.step(torch.tensor([5]), dataclasses.replace(after, recurrent=below))[0])


def test_layers_above_attention_need_one():
    with pytest.raises(ValueError, match=r"model\.layers_above 1 .* model\.attention is none"):
        ModelConfig(layers_above=1)


def test_a_decoder_of_the_repeated_vector_knows_no_word_before():
    model = Stepper(make(repeat_vector=True).eval())
    state = model.start(random_source(0, [3]))
    assert torch.equal(model.step(torch.tensor([5]), state)[0], model.step(torch.tensor([6]), state)[0])
    assert not state.recurrent.hidden.any()
    other = model.start(random_source(1, [3]))
    assert not torch.allclose(model.step(torch.tensor([5]), state)[0], model.step(torch.tensor([5]), other)[0])
    with pytest.raises(ValueError, match=r"with model\.repeat_vector it reads none"):
        ModelConfig(repeat_vector=True, tied="target")
    with pytest.raises(UserError, match="this source gives nothing to be read at every step"):
        Decoder(ModelConfig(repeat_vector=True), WORDS)


def test_attention_without_positions_is_refused():
    with pytest.raises(UserError, match=r"model\.attention dot: this source is one vector"):
        Decoder(ModelConfig(attention="dot"), WORDS)


def test_the_first_input_matters():
    decoder, batch = Decoder(ModelConfig(hidden=8, embedding=8), WORDS).eval(), random_batch(0, LENGTHS)
    with_it = decoder(Context(first_input=torch.randn(4, 8)), batch.target, batch.positions)
    assert not torch.allclose(with_it, decoder(Context(), batch.target, batch.positions))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_encoder_treats_every_row_alone(lengths, layers, reverse):
    encoder = make(layers=layers).encoder.eval()
    random = np.random.default_rng(len(lengths))
    sentences = [random.integers(4, WORDS, n).tolist() for n in lengths]
    context = encoder(collate_source(sentences, reverse_source=reverse))
    for row, sentence in enumerate(sentences):
        alone = encoder(collate_source([sentence], reverse_source=reverse))
        mine = context.select(torch.tensor([row]))
        assert mine.memory_mask[0].tolist() == [True] * len(sentence) + [False] * (max(lengths) - len(sentence))
        torch.testing.assert_close(mine.memory[:, : len(sentence)], alone.memory, atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.state.hidden, alone.state.hidden, atol=1e-5, rtol=0)
        torch.testing.assert_close(mine.state.cell, alone.state.cell, atol=1e-5, rtol=0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans())
@settings(max_examples=40, deadline=None)
def test_frames_are_padded_and_each_sequence_is_reversed_from_its_own_end(lengths, reverse):
    sequences = random_sequences(1, lengths)
    source = collate_frames(sequences, reverse_source=reverse)
    assert source.values.shape == (len(lengths), max(lengths), FEATURES) and source.lengths.tolist() == lengths
    for row, frames in zip(source.values.numpy(), sequences, strict=True):
        assert np.array_equal(row[: len(frames)], frames[::-1] if reverse else frames)
        assert not row[len(frames) :].any()


def test_frames_are_standardised_by_the_encoder():
    encoder = make(reads="frames", dropout=0.0).encoder.eval()
    sequences = random_sequences(1, [3, 5])
    plain = encoder(collate_frames(sequences))
    mean, deviation = np.array([5.0, -1.0, 100.0]), np.array([1.0, 2.0, 50.0])
    encoder.standardise(mean, deviation)
    scaled = encoder(collate_frames([(each * deviation + mean).astype(np.float32) for each in sequences]))
    torch.testing.assert_close(scaled.state.hidden, plain.state.hidden, atol=1e-4, rtol=0)
    assert not torch.allclose(encoder(collate_frames(sequences)).state.hidden, plain.state.hidden, atol=0.01)


def test_a_batchs_loss_is_the_sum_over_its_rows():
    model = make().eval()
    together = model(random_batch(0, LENGTHS), 0.1)
    random = np.random.default_rng(0)
    sides = [[random.integers(4, WORDS, n).tolist() for n in side] for side in zip(*LENGTHS, strict=True)]
    smoothed = nll = 0.0
    for source, target in zip(*sides, strict=True):
        forced = model.decoder.forced(
            model.encode(collate_source([source], reverse_source=True)),
            torch.tensor([[BOS_ID, *target]]),
            torch.arange(len(target) + 1),
        )
        loss = cross_entropy(forced.outputs, model.decoder.output, torch.tensor([*target, 3]), 0.1)
        smoothed, nll = smoothed + loss.smoothed, nll + loss.nll
    torch.testing.assert_close(together.smoothed, smoothed)
    torch.testing.assert_close(together.nll, nll)


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({}, 2 * WORDS * 8 + 4 * (2 * 8 * 32 + 2 * 32) + WORDS * 9),
        ({"layers": 1}, 2 * WORDS * 8 + 2 * (2 * 8 * 32 + 2 * 32) + WORDS * 9),
        ({"hidden": 12}, 2 * WORDS * 8 + 2 * ((8 + 12) * 48 + 2 * 48 + 24 * 48 + 2 * 48) + WORDS * 13),
        ({"embedding": 4}, 2 * WORDS * 4 + 2 * ((4 + 8) * 32 + 2 * 32 + 16 * 32 + 2 * 32) + WORDS * 9),
        ({"tied": "target"}, WORDS * 8 + 4 * (2 * 8 * 32 + 2 * 32) + WORDS * 9),
        ({"tied": "all"}, 4 * (2 * 8 * 32 + 2 * 32) + WORDS * 9),
        # the output is brought to the size of the word vectors
        (
            {"tied": "target", "embedding": 4},
            WORDS * 4 + 2 * ((4 + 8) * 32 + 2 * 32 + 16 * 32 + 2 * 32) + 8 * 4 + WORDS * 5,
        ),
    ],
)
def test_sizes_and_ties_count_weights(changed, count):
    assert sum(parameter.numel() for parameter in make(**changed).parameters()) == count


def test_tied_weights_are_one_weight():
    target, everything = make(tied="target"), make(tied="all")
    for model in (target, everything):
        assert model.decoder.output.weight is model.decoder.embedding.weight
    assert target.encoder.embedding.weight is not target.decoder.embedding.weight
    assert everything.encoder.embedding.weight is everything.decoder.embedding.weight


def test_tying_all_needs_one_vocabulary():
    config = ModelConfig(hidden=8, embedding=8, tied="all")
    with pytest.raises(UserError, match="20 entries and the target 21"):
        text_model(config, 20, 21)
    text_model(dataclasses.replace(config, tied="target"), 20, 21)


def test_dropout_acts_in_training_only():
    batch = random_batch(0, LENGTHS)
    for rate, same in ((0.3, False), (0.0, True)):
        model = make(dropout=rate, layers=1)
        assert torch.equal(model(batch).nll, model(batch).nll) is same
        model.eval()
        assert torch.equal(model(batch).nll, model(batch).nll)


def test_dropout_lies_on_both_embeddings_between_layers_and_before_the_output():
    model = make(dropout=0.3, layers=3)
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    model(random_batch(0, [(3, 5), (6, 2)]))
    # encoder words, between its layers; decoder words, between its layers, before the output
    assert seen == [(6, 8)] * 7


def test_residual_changes_the_result():
    batch = random_batch(0, LENGTHS)
    plain, residual = (make(residual=residual).eval()(batch).nll for residual in (False, True))
    assert plain != residual


@pytest.mark.parametrize("init_range", [0.08, 0.5])
def test_uniform_initialisation(init_range):
    model = make(init="uniform", init_range=init_range, hidden=32, embedding=32)
    for name, parameter in model.named_parameters():
        assert parameter.abs().max() <= init_range, name
        if parameter.numel() > 1000:
            assert parameter.abs().max() > 0.9 * init_range, name
            assert parameter.std().item() == pytest.approx(init_range / 3**0.5, rel=0.15), name


def test_default_initialisation_opens_forget_gates():
    model = make(hidden=64, embedding=16)
    for stack in (model.encoder.stack, model.decoder.stack):
        for layer in stack.layers:
            assert torch.equal(layer.bias_ih_l0[64:128], torch.ones(64))
            assert layer.bias_ih_l0[:64].abs().max() <= 1 / 8
            assert layer.bias_hh_l0.abs().max() <= 1 / 8
    assert model.encoder.embedding.weight[4:].std().item() == pytest.approx(16**-0.5, rel=0.15)


@pytest.mark.parametrize("init", ["default", "uniform"])
@pytest.mark.parametrize("tied", ["none", "target", "all"])
def test_padding_starts_as_zero(init, tied):
    model = make(init=init, tied=tied)
    assert not model.encoder.embedding.weight[PAD_ID].any()
    assert not model.decoder.embedding.weight[PAD_ID].any()


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [(ModelConfig, field, 0) for field in ("layers", "hidden", "embedding", "init_range")]
    + [(ModelConfig, "dropout", 1.0), (ModelConfig, "dropout", -0.1), (ModelConfig, "dropout", float("nan"))]
    + [
        (TrainingConfig, field, 0)
        for field in ("max_epochs", "batch_tokens", "accumulate", "valid_sentences", "valid_beam", "keep_best")
    ]
    + [
        (TrainingConfig, field, -1)
        for field in ("seed", "max_updates", "weight_decay", "halve_after", "warmup_updates", "clip_norm")
    ]
    + [(TrainingConfig, field, -1) for field in ("validate_every", "patience", "checkpoint_every", "max_minutes")]
    + [(TrainingConfig, "learning_rate", value) for value in (0.0, -1.0, float("nan"), float("inf"))]
    + [
        (TrainingConfig, "label_smoothing", 1.0),
        (TrainingConfig, "subword_sampling", 1.0),
        (TrainingConfig, "clip_norm", float("nan")),
    ],
)
def test_impossible_options_are_refused_by_name_and_value(config, field, value):
    hint = type(getattr(config(), field))
    with pytest.raises(ValueError, match=rf"\.{field} is {hint(value)}: it must be"):
        config(**{field: hint(value)})
