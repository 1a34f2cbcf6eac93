"""The sequence model: an encoder, the decoder, and the loss between them."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from data.batching import Batch
from data.errors import UserError
from data.source import Source
from data.tokenizer import BOS_ID, PAD_ID
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.decoder import Decoder, DecoderState
from nmt.encoder import Encoder, TextEncoder


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

    def forward(self, batch: Batch, label_smoothing: float = 0.0) -> Loss:
        logits = self.decoder(self.encode(batch.source), batch.target, batch.positions)
        return cross_entropy(logits, batch.labels, label_smoothing, batch.weights)

    def tie(self) -> None:
        """Make weights shared as configured; leaving the meta device parts them."""
        self.decoder.tie()
        if self.config.tied == "all":
            assert self.encoder.embedding is not None and self.decoder.embedding is not None
            self.encoder.embedding.weight = self.decoder.embedding.weight

    def encode(self, source: Source) -> Context:
        context: Context = self.encoder(source)
        return context

    def start(self, source: Source) -> DecoderState:
        """The state that search begins with, one row a sentence."""
        return self.decoder.start(self.encode(source), len(source.lengths))

    def step(
        self, tokens: Int[Tensor, " rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        """Log-probabilities of the next word: the step function that search takes."""
        logits, state = self.decoder.step(tokens, state)
        return torch.log_softmax(logits.float(), dim=-1), state

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


def cross_entropy(
    logits: Float[Tensor, "tokens vocabulary"],
    labels: Int[Tensor, " tokens"],
    smoothing: float,
    weights: Float[Tensor, " tokens"] | None = None,
) -> Loss:
    """Cross-entropy summed over tokens, with uniform label smoothing (Szegedy et al. 2016, section 7).

    With `weights` each token's loss counts so much, nothing is smoothed, and what search never writes has no
    probability (see captioning/self_critical.py).
    """
    if weights is None:
        return Loss(*_SmoothedCrossEntropy.apply(logits.float(), labels, smoothing))
    never = torch.tensor([PAD_ID, BOS_ID], device=logits.device)
    each = F.cross_entropy(logits.float().index_fill(1, never, -torch.inf), labels, reduction="none")
    return Loss((each * weights).sum(), each.sum())


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Smoothed loss and negative log-likelihood; only the first has a gradient.

    torch's own way back through smoothing, selection and log-softmax goes over tokens x vocabulary six times and makes
    three such tensors anew; this one makes none. It can be gone back through only once.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(logits, dim=-1)
        nll = F.nll_loss(log_probs, labels, reduction="sum")
        uniform = -log_probs.sum() / log_probs.shape[-1] if smoothing else 0.0
        ctx.save_for_backward(log_probs, labels)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * nll + smoothing * uniform, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        log_probs, labels = ctx.saved_tensors
        gradient = log_probs.exp_()  # in place: nobody reads it again
        gradient -= ctx.smoothing / gradient.shape[-1]
        wanted = gradient.new_full((len(labels), 1), ctx.smoothing - 1.0)
        gradient.scatter_add_(1, labels[:, None], wanted)
        return gradient.mul_(scale), None, None
