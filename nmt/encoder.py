"""Encoders: whatever they read, they return one `Context`. Here is the one of text."""

import torch
from torch import nn

from data.source import Source, TextSource
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.recurrent import RecurrentStack
from nmt.word_vectors import WordVectors


class Encoder(nn.Module):
    """What a sequence model needs to know of its encoder beside `forward(source) -> Context`.

    vector: size of the context's vector, 0 if it gives none
    memory: size of a position of the context's memory, 0 if it gives none
    pretrained: the part that comes with trained weights, None if there is none; it is frozen unless it is fine-tuned
    embedding: the source's word vectors, None if it reads no words
    """

    def __init__(self, vector: int = 0, memory: int = 0) -> None:
        super().__init__()
        self.vector, self.memory = vector, memory
        self.pretrained: nn.Module | None = None
        self.embedding: WordVectors | None = None

    def forward(self, source: Source) -> Context:
        raise NotImplementedError


class TextEncoder(Encoder):
    """Source words to the state after the last of them (Sutskever, Vinyals and Le 2014, section 2), and to what is
    attended over or read at every step."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        read = config.source_every_step or config.repeat_vector
        super().__init__(config.hidden if read else 0, config.hidden)
        self.starts_decoder = not config.repeat_vector
        self.embedding: WordVectors = WordVectors(vocabulary, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = RecurrentStack(
            config.embedding, config.hidden, config.layers, config.dropout, config.residual, config.cell,
            bidirectional=config.bidirectional,
        )  # fmt: skip

    def forward(self, source: Source) -> Context:
        assert isinstance(source, TextSource)
        outputs, state = self.stack(self.dropout(self.embedding(source.ids)), lengths=source.lengths)
        steps = torch.arange(source.ids.shape[1], device=source.ids.device)
        mask = steps < source.lengths.to(source.ids.device, non_blocking=True)[:, None]
        vector = state.hidden[-1] if self.vector else None
        start = state if self.starts_decoder else None
        return Context(state=start, memory=outputs, memory_mask=mask, vector=vector)
