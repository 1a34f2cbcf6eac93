"""The one decoder: a recurrent stack from words so far to the next word, whatever the source was."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from data.tokenizer import PAD_ID
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.recurrent import RecurrentStack, RecurrentState


@dataclass(frozen=True)
class DecoderState:
    """What the decoder carries from step to step, a row for each hypothesis."""

    recurrent: RecurrentState

    def select(self, rows: Int[Tensor, " selected"]) -> "DecoderState":
        return DecoderState(self.recurrent.select(rows))


class Decoder(nn.Module):
    """Teacher-forced (`forward`) or step by step (`start`, `step`); a test holds that the two agree."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.embedding, padding_idx=PAD_ID)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = RecurrentStack(config.embedding, config.hidden, config.layers, config.dropout, config.residual)
        self.output = nn.Linear(config.hidden, vocabulary)
        self.tied = config.tied != "none"
        self.tie()

    def tie(self) -> None:
        """Make input and output share their word vectors, if they are to."""
        if self.tied:
            self.output.weight = self.embedding.weight

    def start(self, context: Context, rows: int) -> DecoderState:
        """The state before the start token; `rows` is the batch size."""
        state = context.state or self.stack.zeros(rows, self.output.weight)
        if context.first_input is not None:
            _, state = self.stack.step(self.dropout(context.first_input), state)
        return DecoderState(state)

    def forward(
        self, context: Context, target: Int[Tensor, "rows time"], positions: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens vocabulary"]:
        """Scores of the next word after each target prefix, at the real positions only.

        Args:
            positions: Where in the flattened (rows x time) grid the real positions are.
        """
        state = self.start(context, target.shape[0])
        outputs, _ = self.stack(self.dropout(self.embedding(target)), state.recurrent)
        # attention goes here, for all steps at once, before the projection
        real = outputs.reshape(-1, outputs.shape[-1]).index_select(0, positions)
        logits: Tensor = self.output(self.dropout(real))
        return logits

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        """Scores of the next word after one more token."""
        outputs, recurrent = self.stack.step(self.dropout(self.embedding(tokens)), state.recurrent)
        return self.output(self.dropout(outputs)), DecoderState(recurrent)
