"""Averages of weights: a moving one while a model is trained, and the mean of finished models."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from data.errors import UserError
from data.files import atomic_directory
from nmt.checkpoint import FILES, read_config, versions, write_manifest
from nmt.config import changed_settings


class MovingAverage:
    """The exponential moving average of what a model learns (Polyak averaging as in Kingma and Ba 2015, section 7.2).

    After update n it is moved by 1 - min(decay, (1 + n) / (10 + n)) towards the weights, so that the random ones it
    starts from are soon forgotten. What is not learnt, such as the counts of batch norm, is not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._average = self._copy()

    def update(self, n: int) -> None:
        """Take in the weights after update `n`, counted from 1."""
        share = 1 - min(self._decay, (1 + n) / (10 + n))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), list(self._learnt.values()), share)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[dict[str, Tensor]]:
        """Let the model have the average for weights meanwhile; yields its own by name."""
        own = self._copy()
        self._fill(self._average)
        try:
            yield own
        finally:
            self._fill(own)

    def resume(self, own: dict[str, Tensor]) -> None:
        """Go on with what the model holds as the average, and with these as its own weights."""
        self._average = self._copy()
        self._fill(own)

    def _copy(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._learnt.items()}

    def _fill(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._learnt.items():
                weight.copy_(values[name])


def average_models(models: Sequence[Path], out: Path, *, overwrite: bool = False) -> None:
    """Write a model directory whose weights are the mean of others, as of the best checkpoints of a run.

    Args:
        models: Two or more, whatever they read. What is not weights is taken from the first.
        overwrite: Replace `out` if it is a model directory that is not among them.

    Raises:
        UserError: they do not fit together, one is no model directory or is damaged, or `out` cannot be written.
    """
    configs = [read_config(path) for path in models]
    first, others = models[0], models[1:]
    if not others or len({path.resolve() for path in models}) < len(models):
        raise UserError("an average needs two or more models: give each its own --model")
    tokenizers = [name for name in ("source.model", "target.model") if (first / name).is_file()]
    for path, config in zip(others, configs[1:], strict=True):
        differences = changed_settings(_compared(configs[0]), _compared(config), {})
        for name in tokenizers:
            if (first / name).read_bytes() != (path / name).read_bytes():
                differences.append(f"{name.removesuffix('.model')} vocabularies differ")
        if differences:
            raise UserError(
                f"{first} and {path} have no meaningful average: {'; '.join(differences)}. Give checkpoints of one "
                "run; models of several runs can be used together as an ensemble, with several --model"
            )
    if out.exists() and overwrite:
        written = {"MANIFEST", "source.model", *FILES}
        known = out.is_dir() and {path.name for path in out.iterdir()} <= written
        if not known or out.resolve() in {path.resolve() for path in models}:
            raise UserError(f"{out}: is not replaced: it is read, or holds more than a model: choose another --out")
    weights = [safetensors.torch.load_file(path / "model.safetensors") for path in models]
    for path, each in zip(others, weights[1:], strict=True):
        for name in sorted(weights[0].keys() | each.keys()):
            shapes = [tuple(one[name].shape) if name in one else "missing" for one in (weights[0], each)]
            if shapes[0] != shapes[1]:
                raise UserError(f"{name} is {shapes[0]} in {first}, but {shapes[1]} in {path}: give models of one run")
    mean = {
        name: torch.stack([each[name] for each in weights]).double().mean(dim=0).to(weight.dtype)
        for name, weight in weights[0].items()
    }
    metrics = {"average_of": [str(path) for path in models], "versions": versions()}
    with atomic_directory(out, overwrite=overwrite) as folder:
        for name in ("config.yaml", *tokenizers):
            shutil.copyfile(first / name, folder / name)
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(mean))
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        write_manifest(folder, (*FILES, "source.model") if "source.model" in tokenizers else FILES)


def _compared(config: dict[str, Any]) -> dict[str, Any]:
    """What models with a meaningful average share: all but how they were trained, if from the same initial weights."""
    training = config.get("training", {})
    return config | {"training": {"seed": training.get("seed")}}
