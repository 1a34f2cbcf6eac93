"""Encoders: whatever they read, they return one `Context`. Here are those of text and of feature frames."""

from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data.source import FrameSource, Source, TextSource
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.dropout import Dropout
from nmt.recurrent import RecurrentStack, RecurrentState
from nmt.word_vectors import WordVectors


class Encoder(nn.Module):
    """What a sequence model needs to know of its encoder beside `forward(source) -> Context`.

    reads: what it is used on, as a model directory says it
    vector: size of the context's vector, 0 if it gives none
    memory: size of a position of the context's memory, 0 if it gives none
    pretrained: the part that comes with trained weights, None if there is none; it is frozen unless it is fine-tuned
    embedding: the source's word vectors, None if it reads no words
    """

    reads: ClassVar[Literal["text", "frames", "images"]] = "text"

    def __init__(self, vector: int = 0, memory: int = 0) -> None:
        super().__init__()
        self.vector, self.memory = vector, memory
        self.pretrained: nn.Module | None = None
        self.embedding: WordVectors | None = None

    def forward(self, source: Source) -> Context:
        raise NotImplementedError


class RecurrentEncoder(Encoder):
    """What is read position by position, to the state after the last of them (Sutskever, Vinyals and Le 2014, section
    2), and to what is attended over or read at every step."""

    def __init__(self, config: ModelConfig, embedding: WordVectors | None = None) -> None:
        read = config.source_every_step or config.repeat_vector
        super().__init__(config.hidden if read else 0, config.hidden)
        self.starts_decoder = not config.repeat_vector
        self.embedding = embedding
        self.dropout = Dropout(config)
        self.stack = RecurrentStack(config, config.embedding, bidirectional=config.bidirectional)

    def forward(self, source: Source) -> Context:
        outputs, state = self.read(source)
        steps = torch.arange(outputs.shape[1], device=outputs.device)
        mask = steps < source.lengths.to(outputs.device, non_blocking=True)[:, None]
        vector = state.hidden[-1] if self.vector else None
        start = state if self.starts_decoder else None
        return Context(state=start, memory=outputs, memory_mask=mask, vector=vector)

    def read(self, source: Source) -> tuple[Float[Tensor, "batch source_time hidden"], RecurrentState]:
        """What the last layer gives at each position, and the state at the end."""
        found: tuple[Tensor, RecurrentState] = self.stack(self.dropout(self.embed(source)), lengths=source.lengths)
        return found

    def embed(self, source: Source) -> Float[Tensor, "batch source_time embedding"]:
        raise NotImplementedError


class TextEncoder(RecurrentEncoder):
    """Source words, as their vectors."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__(config, WordVectors(vocabulary, config.embedding))

    def embed(self, source: Source) -> Float[Tensor, "batch source_time embedding"]:
        assert isinstance(source, TextSource) and self.embedding is not None
        vectors: Tensor = self.embedding(source.ids)
        return vectors


class FrameEncoder(RecurrentEncoder):
    """Frames of features as they come, each standardised and brought to the size of a word's vector."""

    reads = "frames"
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ModelConfig, features: int) -> None:
        super().__init__(config)
        self.linear = nn.Linear(features, config.embedding)
        # buffers are saved with the weights
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def standardise(self, mean: Float[np.ndarray, " features"], deviation: Float[np.ndarray, " features"]) -> None:
        """Set the mean and standard deviation that each feature has in training."""
        self.mean, self.deviation = (torch.from_numpy(each.astype(np.float32)) for each in (mean, deviation))

    def embed(self, source: Source) -> Float[Tensor, "batch source_time embedding"]:
        assert isinstance(source, FrameSource)
        vectors: Tensor = self.linear((source.values - self.mean) / self.deviation)
        return vectors
