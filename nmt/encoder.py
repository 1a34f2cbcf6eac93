"""The text encoder: a recurrent stack over the (reversed) source."""

import torch
from torch import nn

from data.batching import Source
from data.tokenizer import PAD_ID
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.recurrent import RecurrentStack


class TextEncoder(nn.Module):
    """Source words to the state after the last of them (Sutskever, Vinyals and Le 2014, section 2)."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.embedding, padding_idx=PAD_ID)
        self.dropout = nn.Dropout(config.dropout)
        self.stack = RecurrentStack(config.embedding, config.hidden, config.layers, config.dropout, config.residual)

    def forward(self, source: Source) -> Context:
        outputs, state = self.stack(self.dropout(self.embedding(source.ids)), lengths=source.lengths)
        steps = torch.arange(source.ids.shape[1], device=source.ids.device)
        mask = steps < source.lengths.to(source.ids.device, non_blocking=True)[:, None]
        return Context(state=state, memory=outputs, memory_mask=mask)
