"""From images to captions: `Captioner.load("RUN/model").caption(["photo.jpg"])`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from captioning.cnn import fast
from captioning.columns import FeatureColumn
from captioning.decoding import caption_features
from captioning.encoder import ImageEncoder, encoder_of
from captioning.features import compute_features, view
from captioning.images import ImageError, open_image
from captioning.options import CaptionOptions
from data.errors import UserError
from nmt.checkpoint import TrainedModel, load_model
from nmt.explanation import Explanation, explain
from nmt.search_options import SearchOptions
from nmt.stepper import Precision, Stepper
from nmt.written import WrittenHypothesis

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = "Path | str | Image | Tensor"

_DEFAULTS = CaptionOptions()


@dataclass(frozen=True)
class ImageCaption:
    """What became of one image: at most `n_best` captions, best first; none where `error` says why it is unreadable."""

    hypotheses: list[WrittenHypothesis]
    error: str | None = None

    @property
    def text(self) -> str:
        """The best caption, or nothing."""
        return self.hypotheses[0].text if self.hypotheses else ""


@dataclass(frozen=True)
class ReadImages:
    """The images that could be read, as features, and why the others could not, by their place.

    rows: the places of the readable ones, in the order of `features`
    """

    features: Float[np.ndarray, "images views *shape"]
    rows: list[int]
    errors: dict[int, str]


class Captioner:
    """A model, or several that share vocabulary and CNN, with all that is needed to use them on image files."""

    def __init__(
        self, models: Sequence[TrainedModel], names: Sequence[str] = (), *, precision: Precision = "float32"
    ) -> None:
        """Raises UserError if the models do not fit together, or the device does not compute in that precision."""
        first, *others = models
        names = names or [f"model {i}" for i in range(1, len(models) + 1)]
        for other, name in zip(others, names[1:], strict=True):
            for differ, what in (
                (first.target != other.target, "their vocabularies differ"),
                (first.config["network"] != other.config["network"], "their CNNs differ"),
                (first.config["fine_tuned"] or other.config["fine_tuned"], "the CNN of one was fine-tuned"),
            ):
                if differ:
                    raise UserError(
                        f"{names[0]} and {name} cannot be used together: {what}. Ensembles need models trained on one "
                        "prepared directory"
                    )
        for model in models:
            model.model.eval()
        encoder = first.model.encoder
        assert isinstance(encoder, ImageEncoder)
        self.models = list(models)
        self._steppers = [Stepper(model.model, precision) for model in models]
        self.network, self.kind = fast(encoder.pretrained), encoder.kind

    @classmethod
    def load(
        cls,
        path: Path | str | Sequence[Path | str],
        device: torch.device | None = None,
        *,
        precision: Precision = "float32",
    ) -> Captioner:
        """Read a model directory, or several for an ensemble; by default onto the GPU if there is one.

        Raises:
            UserError: a directory is none, is damaged, is no captioner, or does not fit the others.
        """
        paths = [Path(path)] if isinstance(path, Path | str) else [Path(one) for one in path]
        if not paths:
            raise ValueError("no model directory given")
        models = [load_model(one, device, encoder_of) for one in paths]
        return cls(models, [str(one) for one in paths], precision=precision)

    @torch.inference_mode()
    def read(self, images: Sequence[ImageSource], *, views: int = 1, batch_images: int = 32) -> ReadImages:
        """Open images and run the CNN over them; each is as large in memory as the CNN wants it, not as its file.

        Args:
            views: Of each image, numbered as `captioning.features.view` does.
        """
        features: list[np.ndarray] = []
        rows: list[int] = []
        errors: dict[int, str] = {}
        waiting: list[Tensor] = []
        for i, image in enumerate(images):
            try:
                opened, preprocessing = open_image(_as_image(image)), self.network.preprocessing
                waiting.append(torch.stack([preprocessing.pixels(view(opened, number)) for number in range(views)]))
                rows.append(i)
            except ImageError as error:
                errors[i] = str(error)
            if waiting and (len(waiting) == batch_images or i + 1 == len(images)):
                made = compute_features(self.network, torch.cat(waiting), self.kind).float()
                features.append(made.view(-1, views, *made.shape[1:]).numpy())
                waiting = []
        empty = np.zeros((0, views, *self.network.shape(self.kind)), dtype=np.float32)
        return ReadImages(np.concatenate([empty, *features]), rows, errors)

    def caption(
        self,
        images: Sequence[ImageSource],
        options: SearchOptions = _DEFAULTS,
        *,
        batch_images: int = 32,
        first_image: int = 0,
    ) -> list[ImageCaption]:
        """Caption images, in their order; one that cannot be read has an error instead of captions.

        Args:
            images: Paths, PIL images, or tensors (3 x height x width, floats from 0 to 1 or bytes).
            options: How captions are searched for; CaptionOptions may also have mirror images looked at.
            batch_images: Images that go through the CNN at a time.
            first_image: The number of the first image. Sampling draws for each by `options.seed` and its number, so a
                long list may be given in parts.
        """
        if isinstance(images, str | Path):
            raise TypeError("images must be a list, not one path")
        read = self.read(images, views=CaptionOptions.of(options).views, batch_images=batch_images)
        found = [ImageCaption([], read.errors.get(i)) for i in range(len(images))]
        views = FeatureColumn.by_view(read.features)
        seeds = [first_image + i for i in read.rows]
        captions = caption_features(self.models, views, options, steppers=self._steppers, seeds=seeds)
        for i, hypotheses in zip(read.rows, captions, strict=True):
            found[i] = ImageCaption(hypotheses)
        return found

    def explain(self, image: ImageSource, caption: ImageCaption) -> Explanation:
        """How the model came to the best caption of an image; raises ImageError if that cannot be read any more.

        It is shown the image itself, also where the caption was chosen by its mirror image as well.
        """
        read = self.read([image])
        if read.errors:
            raise ImageError(read.errors[0])
        column, models = FeatureColumn.plain(read.features), [model.model for model in self.models]
        return explain(models, column, caption.hypotheses[0].parts, self.models[0].target)[0]


def _as_image(image: ImageSource) -> Path | Image:
    if isinstance(image, Tensor):
        from torchvision.transforms.functional import to_pil_image

        made: Image = to_pil_image(image)
        return made
    return Path(image) if isinstance(image, str) else image
