"""The image encoder of Show and Tell (Vinyals et al. 2014): a pretrained CNN, and linear maps of its feature.

Its last feature map, or regions of it, are what attention looks at (Xu et al. 2015).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioning.cnn import ImageNetwork, Kind, Preprocessing, load_network
from captioning.config import ImageConfig
from data.errors import UserError
from data.source import Source, TensorSource
from nmt.config import ModelConfig
from nmt.context import Context
from nmt.encoder import Encoder
from nmt.recurrent import RecurrentState


class ImageEncoder(Encoder):
    """Pixels, or features that the same CNN has made before, to what the decoder starts from and reads.

    fine_tuned: the CNN's weights are no longer the published ones, so that cached features are not its own
    """

    reads = "images"

    def __init__(self, image: ImageConfig, config: ModelConfig, network: ImageNetwork, kind: Kind = "pooled") -> None:
        """Args: kind: Of the features that are read."""
        if config.repeat_vector and (image.first_input or image.initial_state or not image.every_step):
            raise UserError(
                "model.repeat_vector reads the image at every step and nothing else: set image.every_step true, "
                "image.first_input false and image.initial_state false"
            )
        if config.source_every_step or config.bidirectional:
            raise UserError(
                "model.source_every_step and model.bidirectional are for sources that are text: leave them false; "
                "image.every_step shows the image at every step"
            )
        # regions that are not attended over are read one after the other, which tells what is where
        joined = kind == "regions" and config.attention == "none"
        super().__init__(
            vector=config.embedding if image.every_step else 0,
            memory=0 if kind == "pooled" or joined else network.size(kind),
        )
        self.image, self.kind, self.joined, self.fine_tuned = image, kind, joined, False
        self.layers, self.hidden = config.layers, config.hidden
        self.pretrained: ImageNetwork = network
        self.first_input = self._linear(image.first_input, config.embedding)
        self.parts = 2 if config.cell == "lstm" else 1  # of a state
        self.initial_state = self._linear(image.initial_state, self.parts * config.layers * config.hidden)
        self.every_step = self._linear(image.every_step, config.embedding)

    def _linear(self, wanted: bool, size: int) -> nn.Linear | None:
        features = math.prod(self.pretrained.shape(self.kind)) if self.joined else self.pretrained.size(self.kind)
        return nn.Linear(features, size, bias=False) if wanted else None

    def forward(self, source: Source) -> Context:
        assert isinstance(source, TensorSource)
        pixels = source.values.dim() == 4
        features: Float[Tensor, "batch *positions features"] = (
            self.pretrained.read(source.values, self.kind) if pixels else source.values
        )
        if self.image.normalise:
            features = features / features.pow(2).mean(-1, keepdim=True).clamp(min=1e-12).sqrt()
        memory = mask = None
        if self.joined:
            features = features.flatten(1)
        elif self.kind != "pooled":
            memory, features = features, features.mean(1)
            mask = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        return Context(
            state=None if self.initial_state is None else self._state(self.initial_state(features)),
            vector=None if self.every_step is None else self.every_step(features),
            memory=memory,
            memory_mask=mask,
            first_input=None if self.first_input is None else self.first_input(features),
        )

    def _state(self, flat: Float[Tensor, "batch both"]) -> RecurrentState:
        hidden, *cell = flat.view(len(flat), self.parts, self.layers, self.hidden).permute(1, 2, 0, 3)
        return RecurrentState(torch.tanh(hidden), *(part.contiguous() for part in cell))


def preprocessing_of(made: dict[str, Any]) -> Preprocessing:
    """The preprocessing that a configuration's `network` section records."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in made["preprocessing"].items()
    }
    return Preprocessing(**values)


def encoder_of(config: dict[str, Any]) -> ImageEncoder:
    """The encoder that a model directory's configuration describes, without weights."""
    made = config["network"]
    network = load_network(made["name"], pretrained=False)
    network.preprocessing = preprocessing_of(made)
    network.weights_sha256 = made["weights_sha256"]
    encoder = ImageEncoder(ImageConfig(**config["image"]), ModelConfig(**config["model"]), network, made["kind"])
    encoder.fine_tuned = config["fine_tuned"]
    return encoder
