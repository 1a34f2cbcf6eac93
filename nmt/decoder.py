"""The one decoder: a recurrent stack from words so far to the next word, whatever the source was."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from data.errors import UserError
from nmt.attention import Attention, Memory
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.dropout import Dropout
from nmt.recurrent import RecurrentStack, RecurrentState
from nmt.word_vectors import WordVectors


@dataclass(frozen=True)
class DecoderState:
    """What the decoder carries from step to step.

    recurrent: a row for each hypothesis, sentence by sentence, equally many of each
    vector: read at every step, a row for each sentence, or None
    memory: attended over at every step, a row for each sentence, or None
    above: that of the layers above attention, as `recurrent`, or None
    """

    recurrent: RecurrentState
    vector: Float[Tensor, "sentences summary"] | None = None
    memory: Memory | None = None
    above: RecurrentState | None = None

    def select(self, rows: Int[Tensor, " selected"], sentences: Int[Tensor, " kept"] | None = None) -> "DecoderState":
        """The state of these hypotheses, and of these sentences if they are not the same as before."""
        vector, memory = self.vector, self.memory
        if sentences is not None:
            vector = None if vector is None else vector.index_select(0, sentences)
            memory = None if memory is None else memory.select(sentences)
        above = None if self.above is None else self.above.select(rows)
        return DecoderState(self.recurrent.select(rows), vector, memory, above)

    def float(self) -> "DecoderState":
        """The same in float32."""
        vector = None if self.vector is None else self.vector.float()
        memory = None if self.memory is None else self.memory.float()
        above = None if self.above is None else self.above.float()
        return DecoderState(self.recurrent.float(), vector, memory, above)


@dataclass(frozen=True)
class Forced:
    """What teacher forcing gives: what the output layer is to read at the real positions, and the weights of attention,
    if any, at all of them."""

    outputs: Float[Tensor, "tokens features"]
    weights: Float[Tensor, "rows time positions"] | None


class Decoder(nn.Module):
    """Teacher-forced (`forward`) or step by step (`start`, `step`); a test holds that the two agree."""

    def __init__(self, config: ModelConfig, vocabulary: int, vector: int = 0, memory: int = 0) -> None:
        """
        Args:
            vector: The size of what the encoder gives to be read at every step (Cho et al. 2014, section 2.2).
            memory: The size of a position that it gives to be attended over.

        Raises:
            UserError: There is nothing to attend over, or not with the attention of `config`; or nothing to read at
                every step, where that is all there is.
        """
        super().__init__()
        if config.repeat_vector and not vector:
            raise UserError(
                "model.repeat_vector: this source gives nothing to be read at every step; for images, set "
                "image.every_step true"
            )
        words = 0 if config.repeat_vector else config.embedding
        self.embedding: nn.Embedding | None = WordVectors(vocabulary, words) if words else None
        self.dropout = Dropout(config)
        self.stack = RecurrentStack(config, words + vector)
        if config.attention != "none" and not memory:
            raise UserError(
                f"model.attention {config.attention}: this source is one vector, with no positions in it: set "
                "model.attention none, or prepare images with kind regions or grid"
            )
        self.attention = None if config.attention == "none" else Attention(config.attention, config.hidden, memory)
        self.above = None
        if config.layers_above:
            self.above = RecurrentStack(replace(config, layers=config.layers_above), config.hidden)
        self.tied = config.tied != "none"
        # words that are read and written as one vector are compared with the output in their own space
        narrow = self.tied and config.embedding != config.hidden
        self.projection = nn.Linear(config.hidden, config.embedding, bias=False) if narrow else None
        self.output = nn.Linear(config.embedding if self.tied else config.hidden, vocabulary)
        self.tie()

    def tie(self) -> None:
        """Make input and output share their word vectors, if they are to."""
        if self.tied:
            assert self.embedding is not None
            self.output.weight = self.embedding.weight

    def start(self, context: Context, rows: int) -> DecoderState:
        """The state before the start token; `rows` is the batch size."""
        state = context.state or self.stack.zeros(rows, next(self.parameters()))
        if context.first_input is not None:
            _, state = self.stack.step(self._beside(context.first_input, context.vector), state)
        memory = None
        if self.attention is not None:
            assert context.memory is not None and context.memory_mask is not None
            memory = self.attention.remember(context.memory, context.memory_mask)
        above = None if self.above is None else self.above.zeros(rows, next(self.parameters()))
        return DecoderState(state, context.vector, memory, above)

    def forward(
        self, context: Context, target: Int[Tensor, "rows time"], positions: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens vocabulary"]:
        """Scores of the next word after each target prefix, at the real positions only.

        Args:
            positions: Where in the flattened (rows x time) grid the real positions are.
        """
        scores: Tensor = self.output(self.forced(context, target, positions).outputs)
        return scores

    def forced(self, context: Context, target: Int[Tensor, "rows time"], positions: Int[Tensor, " tokens"]) -> Forced:
        """What `forward` makes its scores of, and the attention behind it."""
        state = self.start(context, target.shape[0])
        vector = None if context.vector is None else context.vector[:, None].expand(-1, target.shape[1], -1)
        outputs, _ = self.stack(self._inputs(target, vector), state.recurrent)
        weights = None
        if self.attention is not None:
            attended = self.attention(outputs, state.memory)
            outputs, weights = attended.outputs, attended.weights
        if self.above is not None:
            outputs = outputs + self.above(self.dropout(outputs), state.above)[0]
        real = self.dropout(outputs).reshape(-1, outputs.shape[-1]).index_select(0, positions)
        return Forced(self._projected(real), weights)

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        """Scores of the next word after one more token."""
        outputs, state = self.advance(tokens, state)
        return self.output(outputs), state

    def advance(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows features"], DecoderState]:
        """What the output layer is to read after one more token."""
        vector = state.vector
        if vector is not None:
            vector = vector.repeat_interleave(len(tokens) // len(vector), 0)
        outputs, recurrent = self.stack.step(self._inputs(tokens, vector), state.recurrent)
        if self.attention is not None:
            assert state.memory is not None
            # the hypotheses of a sentence ask together, as the steps of a target do in training
            asked = outputs.view(len(state.memory.mask), -1, outputs.shape[1])
            outputs = self.attention(asked, state.memory).outputs.flatten(0, 1)
        above = state.above
        if self.above is not None:
            assert above is not None
            more, above = self.above.step(self.dropout(outputs), above)
            outputs = outputs + more
        return self._projected(outputs), DecoderState(recurrent, state.vector, state.memory, above)

    def _inputs(self, tokens: Int[Tensor, "*rows"], vector: Tensor | None) -> Float[Tensor, "*rows inputs"]:
        """What the recurrent stack reads: the word before, and beside it the source's vector; either may be missing."""
        if self.embedding is None:
            assert vector is not None
            return vector
        return self._beside(self.embedding(tokens), vector)

    def _beside(self, words: Float[Tensor, "*rows embedding"], vector: Tensor | None) -> Float[Tensor, "*rows inputs"]:
        words = self.dropout(words)
        return words if vector is None else torch.cat([words, vector], -1)

    def _projected(self, outputs: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows features"]:
        """In the space of the word vectors, if they are read and written as one."""
        return outputs if self.projection is None else self.projection(outputs)
