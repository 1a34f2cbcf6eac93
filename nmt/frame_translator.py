"""From feature frames to sentences: `FrameTranslator.load("RUN/model").translate([array])`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data.frame_files import FrameError, as_frames
from data.source import FrameColumn, Frames
from nmt.checkpoint import TrainedModel, load_model
from nmt.decoding import decode
from nmt.search_options import SearchOptions
from nmt.stepper import Precision, Stepper
from nmt.translator import check_pair
from nmt.written import WrittenHypothesis

_DEFAULTS = SearchOptions()


@dataclass(frozen=True)
class FrameTranslation:
    """What became of one sequence: at most `n_best` sentences, best first; none where `error` says why it is unusable.

    frames: how many it has
    """

    hypotheses: list[WrittenHypothesis]
    frames: int = 0
    error: str | None = None

    @property
    def text(self) -> str:
        """The best sentence, or nothing."""
        return self.hypotheses[0].text if self.hypotheses else ""


class FrameTranslator:
    """A model, or an ensemble of several that share their vocabulary, for frames as they were before preparing.

    max_frames: the most frames of a sequence in training; longer ones are read whole all the same
    """

    def __init__(
        self, models: Sequence[TrainedModel], names: Sequence[str] = (), *, precision: Precision = "float32"
    ) -> None:
        """Raises UserError if the models do not fit together, or the device does not compute in that precision."""
        names = names or [f"model {i}" for i in range(1, len(models) + 1)]
        for model, name in zip(models, names, strict=True):
            check_pair(models[0], model, names[0], name)
            model.model.eval()
        self._steppers, self._target = [Stepper(model.model, precision) for model in models], models[0].target
        self._ratio, self.max_frames = models[0].length_ratio, models[0].max_length
        self._features: int = models[0].config["frames"]["features"]

    @classmethod
    def load(
        cls,
        path: Path | str | Sequence[Path | str],
        device: torch.device | None = None,
        *,
        precision: Precision = "float32",
    ) -> "FrameTranslator":
        """Read a model directory, or several for an ensemble; by default onto the GPU if there is one.

        Raises:
            UserError: a directory is none, is damaged, reads no frames, or does not fit the others.
        """
        paths = [Path(path)] if isinstance(path, Path | str) else [Path(one) for one in path]
        models = [load_model(one, device, reads="frames") for one in paths]
        return cls(models, [str(one) for one in paths], precision=precision)

    @property
    def lowercase(self) -> bool:
        """Whether it writes lower case only."""
        return bool(self._target.lowercase)

    def translate(
        self,
        sequences: Sequence[object],
        options: SearchOptions = _DEFAULTS,
        *,
        first: int = 0,
        batch_frames: int = 8192,
    ) -> list[FrameTranslation]:
        """The sentences of sequences, in their order.

        Args:
            sequences: Arrays or lists of lists, frames x features; see `data.frame_files.as_frames`.
            options: How sentences are searched for.
            first: The number of the first one. Sampling draws for each by `options.seed` and its number, so a long
                list may be given in parts.
            batch_frames: The most frames in work at a time: sequences times beam times the longest.
        """
        read: dict[int, Frames] = {}
        found = [FrameTranslation([]) for _ in sequences]
        for i, given in enumerate(sequences):
            try:
                read[i] = as_frames(given, self._features)
            except FrameError as error:
                found[i] = FrameTranslation([], error=str(error))
        columns, seeds = [FrameColumn(list(read.values()))] * len(self._steppers), [first + i for i in read]
        results = decode(self._steppers, columns, options, self._ratio, batch_tokens=batch_frames, seeds=seeds)
        for (i, frames), hypotheses in zip(read.items(), results, strict=True):
            found[i] = FrameTranslation([WrittenHypothesis.of([one], self._target) for one in hypotheses], len(frames))
        return found
