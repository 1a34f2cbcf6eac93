"""The sequence model: an encoder, the decoder, and the loss between them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from data.batching import Batch, Source
from data.tokenizer import PAD_ID
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.decoder import Decoder, DecoderState
from nmt.encoder import TextEncoder


@dataclass(frozen=True)
class Loss:
    """Sums over the target tokens of a batch, in nats.

    smoothed: what training lowers; equal to nll without label smoothing
    nll: negative log-likelihood of the labels, which perplexity is made of
    """

    smoothed: Float[Tensor, ""]
    nll: Float[Tensor, ""]


class SequenceModel(nn.Module):
    """Encoder and decoder; calling it gives the loss of a batch."""

    def __init__(self, config: ModelConfig, source_vocabulary: int, target_vocabulary: int) -> None:
        """Raises ValueError if `config` ties vocabularies of different sizes."""
        super().__init__()
        if config.tied == "all" and source_vocabulary != target_vocabulary:
            raise ValueError(
                f"model.tied all needs one shared vocabulary, but the source has {source_vocabulary} entries and the "
                f"target {target_vocabulary}: prepare with shared_vocabulary, or set model.tied target"
            )
        self.config = config
        self.encoder = TextEncoder(config, source_vocabulary)
        self.decoder = Decoder(config, target_vocabulary)
        self.tie()
        self._initialise()

    def forward(self, batch: Batch, label_smoothing: float = 0.0) -> Loss:
        logits = self.decoder(self.encode(batch.source), batch.target, batch.positions)
        return cross_entropy(logits, batch.labels, label_smoothing)

    def tie(self) -> None:
        """Make weights shared as configured; leaving the meta device parts them."""
        self.decoder.tie()
        if self.config.tied == "all":
            self.encoder.embedding.weight = self.decoder.embedding.weight

    def encode(self, source: Source) -> Context:
        context: Context = self.encoder(source)
        return context

    def start(self, source: Source) -> DecoderState:
        """The state that search begins with, one row a sentence."""
        return self.decoder.start(self.encode(source), source.ids.shape[0])

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        """Log-probabilities of the next word: the step function that search takes."""
        logits, state = self.decoder.step(tokens, state)
        return torch.log_softmax(logits.float(), dim=-1), state

    @torch.no_grad()
    def _initialise(self) -> None:
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
                    _, _, bias, _ = module.all_weights[0]
                    bias[module.hidden_size : 2 * module.hidden_size].fill_(1.0)
        for embedding in (self.encoder.embedding, self.decoder.embedding):
            embedding.weight[PAD_ID].zero_()


def cross_entropy(logits: Float[Tensor, "tokens vocabulary"], labels: Int[Tensor, " tokens"], smoothing: float) -> Loss:
    """Cross-entropy summed over tokens, with uniform label smoothing (Szegedy et al. 2016, section 7)."""
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    nll = F.nll_loss(log_probs, labels, reduction="sum")
    if not smoothing:
        return Loss(nll, nll)
    uniform = -log_probs.sum() / log_probs.shape[-1]
    return Loss((1 - smoothing) * nll + smoothing * uniform, nll)
