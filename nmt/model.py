"""The sequence model: an encoder, the decoder, and the loss between them."""

import torch
from torch import nn

from data.batching import Batch
from data.errors import UserError
from data.source import Source
from data.tokenizer import PAD_ID
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.decoder import Decoder
from nmt.encoder import Encoder, TextEncoder
from nmt.loss import Loss, cross_entropy, sampled_cross_entropy


class SequenceModel(nn.Module):
    """Encoder and decoder; calling it gives the loss of a batch."""

    def __init__(self, config: ModelConfig, encoder: Encoder, vocabulary: int) -> None:
        """Weights of both are initialised as `config` says; what is pretrained must be loaded after that.

        Args:
            vocabulary: Entries of the target's.

        Raises:
            UserError: `config` ties vocabularies of different sizes, or that of a source which has none, or attends
                over a source that has no positions.
        """
        super().__init__()
        if config.tied == "all":
            source = encoder.embedding.num_embeddings if encoder.embedding is not None else 0
            if source != vocabulary:
                raise UserError(
                    f"model.tied all needs one shared vocabulary, but the source has {source} entries and the "
                    f"target {vocabulary}: prepare with shared_vocabulary, or set model.tied target"
                )
        self.config = config
        self.encoder = encoder
        self.decoder = Decoder(config, vocabulary, encoder.vector, encoder.memory)
        self.tie()
        self._initialise()

    def forward(self, batch: Batch, label_smoothing: float = 0.0, sampled: int = 0) -> Loss:
        """The loss of a batch; an estimate of it by so many `sampled` words, if any (see `sampled_cross_entropy`)."""
        forced = self.decoder.forced(self.encode(batch.source), batch.target, batch.positions)
        if sampled:
            return sampled_cross_entropy(forced.outputs, self.decoder.output, batch.labels, sampled)
        return cross_entropy(forced.outputs, self.decoder.output, batch.labels, label_smoothing, batch.weights)

    def tie(self) -> None:
        """Make weights shared as configured; leaving the meta device parts them."""
        if self.config.tied == "all":
            assert self.encoder.embedding is not None and self.decoder.embedding is not None
            self.decoder.embedding.weight = self.encoder.embedding.weight  # a file has the first of its names
        self.decoder.tie()

    def encode(self, source: Source) -> Context:
        context: Context = self.encoder(source)
        return context

    @torch.no_grad()
    def _initialise(self) -> None:
        if self.decoder.output.weight.is_meta:
            return  # weights will be read
        if self.config.init == "uniform":
            for parameter in self.parameters():
                parameter.uniform_(-self.config.init_range, self.config.init_range)
        else:
            for module in self.modules():
                if isinstance(module, nn.Embedding):
                    # as narrow as a linear layer's weights, so that tied and untied outputs start alike
                    module.weight.normal_(std=module.embedding_dim**-0.5)
                elif isinstance(module, nn.LSTM):
                    # forget gates start open (Jozefowicz et al. 2015, section 3.2); the two biases add up
                    for _, _, bias, _ in module.all_weights:
                        bias[module.hidden_size : 2 * module.hidden_size].fill_(1.0)
        for embedding in (self.encoder.embedding, self.decoder.embedding):
            if embedding is not None:
                embedding.weight[PAD_ID].zero_()


def text_model(config: ModelConfig, source_vocabulary: int, target_vocabulary: int) -> SequenceModel:
    """The translator: a text encoder before the decoder."""
    return SequenceModel(config, TextEncoder(config, source_vocabulary), target_vocabulary)
