import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import seeded

from nmt.config import Cell, ModelConfig
from nmt.context import Context
from nmt.recurrent import RecurrentStack, RecurrentState

CELLS = st.sampled_from(["lstm", "gru", "rnn"])


def make(layers: int, residual: bool, cell: Cell = "lstm", *, bidirectional: bool = False) -> RecurrentStack:
    config = ModelConfig(cell=cell, layers=layers, hidden=8, dropout=0.5, residual=residual)
    return seeded(lambda: RecurrentStack(config, 5, bidirectional=bidirectional)).eval()


def random_state(layers: int, rows: int, cell: Cell = "lstm") -> RecurrentState:
    return RecurrentState(torch.randn(layers, rows, 8), torch.randn(layers, rows, 8) if cell == "lstm" else None)


def same(one: RecurrentState, other: RecurrentState) -> None:
    torch.testing.assert_close(one.parts(), other.parts(), atol=1e-5, rtol=0)


@given(
    CELLS, st.integers(1, 3), st.booleans(), st.booleans(), st.integers(1, 4), st.integers(1, 6),
    st.integers(0, 10_000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_steps_give_what_forward_gives(cell, layers, residual, started, rows, time, seed):
    stack = make(layers, residual, cell)
    torch.manual_seed(seed)
    inputs = torch.randn(rows, time, 5)
    state = random_state(layers, rows, cell) if started else None
    outputs, end = stack(inputs, state)
    state = state or stack.zeros(rows, inputs)
    for t in range(time):
        output, state = stack.step(inputs[:, t], state)
        torch.testing.assert_close(output, outputs[:, t], atol=1e-5, rtol=0)
    same(state, end)


@given(
    CELLS, st.booleans(), st.integers(1, 3), st.booleans(), st.booleans(),
    st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_end_at_their_own_lengths(cell, bidirectional, layers, residual, started, lengths, padding):
    stack = make(layers, residual, cell, bidirectional=bidirectional)
    inputs = torch.randn(len(lengths), max(lengths) + padding, 5)
    state = random_state(layers, len(lengths), cell) if started else None
    outputs, end = stack(inputs, state, torch.tensor(lengths))
    assert outputs.shape[:2] == inputs.shape[:2]
    for row, length in enumerate(lengths):
        alone, own = stack(inputs[row : row + 1, :length], state and state.select(torch.tensor([row])))
        torch.testing.assert_close(outputs[row, :length], alone[0], atol=1e-5, rtol=0)
        same(end.select(torch.tensor([row])), own)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_both_directions_have_half_of_the_units_each(cell):
    stack, inputs = make(1, False, cell, bidirectional=True), torch.randn(2, 5, 5)
    outputs, end = stack(inputs)
    assert torch.equal(end.hidden[0], torch.cat([outputs[:, -1, :4], outputs[:, 0, 4:]], 1))
    inputs[:, -1] += 1  # what comes last changes the first outputs of the direction from the end only
    changed, _ = stack(inputs)
    assert torch.equal(changed[:, 0, :4], outputs[:, 0, :4])
    assert not torch.allclose(changed[:, 0, 4:], outputs[:, 0, 4:])


def test_forward_is_torchs_own_lstm():
    """With one layer and no state, and with torch's own way of packing."""
    stack, lengths = make(1, False), torch.tensor([2, 5, 3])
    inputs = torch.randn(3, 5, 5)
    packed = torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected, (hidden, cell) = stack.layers[0](packed)
    outputs, end = stack(inputs, None, lengths)
    assert torch.equal(outputs, torch.nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)[0])
    assert torch.equal(end.hidden, hidden)
    assert torch.equal(end.cell, cell)


def test_residual_connections_add_the_input_of_every_layer_but_the_first():
    plain, residual = make(3, False), make(3, True)
    inputs = torch.randn(2, 1, 5)
    state = plain.zeros(2, inputs)
    below = inputs[:, 0]
    for i, layer in enumerate(plain.layers):
        out = layer(below[:, None])[0][:, 0]
        below = out + below if i else out
    torch.testing.assert_close(residual(inputs)[0][:, 0], below)
    torch.testing.assert_close(residual.step(inputs[:, 0], state)[0], below)
    assert not torch.allclose(plain(inputs)[0][:, 0], below)


def test_dropout_lies_between_layers_only():
    inputs = torch.randn(2, 4, 5)
    for layers, differs in ((1, False), (2, True)):
        stack = make(layers, False).train()
        assert torch.equal(stack(inputs)[0], stack(inputs)[0]) is not differs
        step = [stack.step(inputs[:, 0], stack.zeros(2, inputs))[0] for _ in range(2)]
        assert torch.equal(*step) is not differs


def test_states_and_contexts_select_rows_in_any_order_and_number():
    state = random_state(2, 3)
    rows = torch.tensor([2, 0, 2, 1])
    assert torch.equal(state.select(rows).hidden, state.hidden[:, rows])
    assert torch.equal(state.select(rows).cell, state.cell[:, rows])
    context = Context(
        state, torch.randn(3, 4, 7), torch.rand(3, 4) > 0.5, vector=torch.randn(3, 2), first_input=torch.randn(3, 5)
    )
    chosen = context.select(rows)
    assert torch.equal(chosen.state.hidden, state.hidden[:, rows])
    for name in ("memory", "memory_mask", "vector", "first_input"):
        assert torch.equal(getattr(chosen, name), getattr(context, name)[rows]), name
    assert Context().select(rows) == Context()


@pytest.mark.parametrize("layers", [1, 3])
def test_gradients_reach_every_weight(layers):
    stack = make(layers, True).train()
    stack(torch.randn(3, 4, 5), None, torch.tensor([1, 4, 2]))[0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in stack.parameters())
