"""The decoder as search runs it: weights laid out once for many steps, in the precision that is wanted."""

import contextlib
import copy
import dataclasses
import warnings
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from data.errors import UserError
from data.source import Source
from nmt.decoder import Decoder, DecoderState
from nmt.device import bfloat16_computes
from nmt.encoder import Encoder, TextEncoder
from nmt.folded_encoder import FoldedEncoder
from nmt.folding import FoldedAttention, fold, linear
from nmt.model import SequenceModel
from nmt.recurrent import RecurrentStack

Precision = Literal["float32", "bfloat16", "int8"]

M = TypeVar("M", Decoder, FoldedEncoder)

_MANY = 64  # sentences; of fewer, each step of an encoder in Python takes longer than torch's own
_WIDTH = 64  # what search looks at in blocks of; other widths are multiplied up to a third slower, too


class Stepper:
    """A model and the steps of its decoder, to be made anew when the model has learnt: weights are copied in part.

    float32 gives what the model gives. bfloat16 is faster where the processor computes in it. int8 rounds the weights
    of every matrix product of a step to 8 bits, a scale for each output, and what they are multiplied with at each
    step; embeddings, attention weights and what is added up stay as they are. So it does with the text encoder where 64
    sources or more are read together; what else is done once for a source is in bfloat16 then, where the processor
    computes in it.
    """

    def __init__(self, model: SequenceModel, precision: Precision = "float32") -> None:
        """Raises UserError where the device does not compute in that precision."""
        self.model = model
        self.device = next(model.parameters()).device
        self.precision = precision
        with torch.no_grad():
            self._decoder = _lay_out(_folded(model.decoder), precision, self.device)
            self._encoder: Encoder = model.encoder
            if isinstance(model.encoder, TextEncoder) and self.device.type == "cpu":
                self._encoder = _lay_out(FoldedEncoder(model.encoder), precision, self.device)
        self._output: nn.Module = self._decoder.output
        self._words: Int[Tensor, " width"] | None = None  # of the vocabulary, if only some of it may be written

    @torch.no_grad()
    def restricted(self, words: Int[Tensor, " words"]) -> "Stepper":
        """The same for these words of the vocabulary only, which are called by their places among them.

        Log-probabilities are normalised over these words, and so are larger than those of the whole vocabulary.
        """
        made, extra = copy.copy(self), -len(words) % _WIDTH
        made._words = F.pad(words, (0, extra))
        # 8 bits are packed anew: the packed form has no rows to take
        full = self.model.decoder.output if self.precision == "int8" else self._decoder.output
        weight, bias = full.weight.index_select(0, made._words), full.bias.index_select(0, made._words)
        bias[len(words) :] = -torch.inf
        layer = linear(weight, bias)
        made._output = Int8Linear(layer) if self.precision == "int8" else layer
        return made

    def start(self, source: Source) -> DecoderState:
        """The state that search begins with, one row a sentence."""
        with self._mixed(self.precision != "float32" and bfloat16_computes(self.device)):
            # the model's own decoder: its first layer may read an image before any word
            rows = len(source.lengths)
            encoder = self._encoder if rows >= _MANY else self.model.encoder
            state = self.model.decoder.start(encoder(source), rows)
            if state.memory is not None:
                assert isinstance(self._decoder.attention, FoldedAttention)
                state = dataclasses.replace(state, memory=self._decoder.attention.fold(state.memory))
        return state if self.precision == "bfloat16" else state.float()

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows width"], DecoderState]:
        """Log-probabilities of the next word, -inf beyond the vocabulary (or the words that there are in it): the step
        that search takes."""
        if self._words is not None:
            tokens = self._words[tokens]
        with self._mixed(self.precision == "bfloat16"):
            outputs, state = self._decoder.advance(tokens, state)
            scores = self._output(outputs)
        return torch.log_softmax(scores.float(), dim=-1), state

    def _mixed(self, half: bool) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()


def _folded(decoder: Decoder) -> Decoder:
    """A decoder that shares its weights with the one given where it need not change them."""
    made = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()}).eval()
    made.output = _widened(decoder.output)
    fold(made)
    return made


def _lay_out(made: M, precision: Precision, device: torch.device) -> M:
    """Bring the weights of a folded encoder or decoder into the form that its products want, in place."""
    if precision == "float32":
        for module in made.modules():
            if isinstance(module, nn.Linear | nn.RNNBase):
                for name, weight in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(by_column(weight), requires_grad=False))
    if precision == "bfloat16":
        if not bfloat16_computes(device):
            raise UserError(f"precision bfloat16: this {device.type} does not compute in it: choose float32 or int8")
        for module in made.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(weight.bfloat16(), requires_grad=False))
    if precision == "int8":
        if device.type != "cpu":
            raise UserError(f"precision int8 is for processors, not for a {device.type}: choose float32 or bfloat16")
        for module in list(made.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Linear):
                    setattr(module, name, Int8Linear(child))
        for stack in [module for module in made.modules() if isinstance(module, RecurrentStack)]:
            for i, layer in enumerate(stack.layers):
                if isinstance(layer, nn.RNNBase):
                    stack.layers[i], stack.steps[i] = Int8Cell(layer), _INT8_CELLS[stack.cell]
    return made


def by_column(weight: Tensor) -> Tensor:
    """The same matrix, column after column in memory: few rows are multiplied faster with it (docs/performance.md)."""
    return weight.t().contiguous().t()


def _widened(layer: nn.Linear) -> nn.Linear:
    """The same with outputs of -inf added up to a multiple of _WIDTH."""
    extra = -layer.out_features % _WIDTH
    return linear(F.pad(layer.weight, (0, 0, 0, extra)), F.pad(layer.bias, (0, extra), value=-torch.inf))


# torch's kernels for products of 8-bit integers, which torch.ao.nn.quantized.dynamic is made of, too
_INT8_CELLS = {
    "lstm": torch.ops.quantized.quantized_lstm_cell_dynamic,
    "gru": torch.ops.quantized.quantized_gru_cell_dynamic,
    "rnn": torch.ops.quantized.quantized_rnn_tanh_cell_dynamic,
}


class Int8Linear(nn.Module):
    """A linear layer with weights of 8 bits; what it reads is rounded at every call, with one scale for all of it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.packed = _packed(layer.weight, layer.bias)

    def forward(self, values: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows outputs"]:
        # 7 bits of what is read: without special instructions sums of 8 would overflow
        product: Tensor = torch.ops.quantized.linear_dynamic(values.contiguous(), self.packed, True)
        return product


class Int8Cell(nn.Module):
    """The weights of a recurrent layer, 8 bits each, in the form that torch's step takes them."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        inputs, hidden, input_bias, hidden_bias = layer.all_weights[0]
        self.input_bias, self.hidden_bias = input_bias, hidden_bias
        packed = [_packed(inputs, input_bias), _packed(hidden, hidden_bias)]
        self.all_weights = [[*packed, input_bias, hidden_bias]]


def _packed(weight: Tensor, bias: Tensor | None) -> object:
    """A matrix with a scale for each row, such that its largest entry is 127, in the order that the kernel reads."""
    scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127
    with warnings.catch_warnings():
        # torch means to replace its quantized tensors; the kernels have no other entrance yet
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
        rounded = torch.quantize_per_channel(
            weight.detach().float(), scales, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8
        )
    return torch.ops.quantized.linear_prepack(rounded, bias)
