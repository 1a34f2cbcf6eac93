"""The model directory: weights, tokenizers, configuration and scores, with a manifest that is checked on loading.

config.yaml          everything that shaped the run
model.safetensors    weights
source.model target.model
metrics.json         scores on the validation text
MANIFEST             size and SHA-256 of each of these
state/               only in a checkpoint to resume from: optimizer and position, with a MANIFEST of its own
"""

import hashlib
import io
import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

from data.errors import UserError
from data.report import LengthRatio
from data.tokenizer import Tokenizer
from nmt.config import ModelConfig
from nmt.model import SequenceModel

FORMAT = 1
_FILES = ("config.yaml", "model.safetensors", "source.model", "target.model", "metrics.json")


@dataclass(frozen=True)
class TranslationModel:
    """A model with all that is needed to use it on raw text."""

    model: SequenceModel
    source: Tokenizer
    target: Tokenizer
    length_ratio: LengthRatio
    max_length: int
    config: dict[str, Any]


def versions() -> dict[str, str]:
    """What the figures of a run were made with."""
    names = ("torch", "accelerate", "datasets", "sacrebleu", "sacremoses", "sentencepiece")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def save_model(folder: Path, trained: TranslationModel, metrics: dict[str, Any]) -> None:
    """Write a model directory into an existing, empty `folder` (see `data.files.atomic_directory`)."""
    config = {"format": FORMAT, "model": asdict(trained.model.config)} | trained.config
    config["vocabulary"] = {"source": len(trained.source), "target": len(trained.target)}
    config["length_ratio"] = asdict(trained.length_ratio)
    config["max_length"] = trained.max_length
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _weights(trained.model).items()}
    # not save_file: writing the bytes ourselves reports a full disk as what it is
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights))
    trained.source.save(folder / "source.model")
    trained.target.save(folder / "target.model")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    write_manifest(folder, _FILES)


def load_model(path: Path, device: torch.device | None = None) -> TranslationModel:
    """Read a model directory.

    Raises:
        UserError: `path` is no model directory, a file is missing, was changed or cut off, or does not fit the others.
    """
    if not (path / "MANIFEST").is_file():
        inside = next(iter(sorted(path.glob("**/MANIFEST"))), None) if path.is_dir() else None
        hint = f"did you mean {inside.parent}?" if inside else "give the model directory of a finished run (RUN/model)"
        raise UserError(f"{path}: no model directory here: {hint}")
    check_manifest(path)
    config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    if config["format"] != FORMAT:
        raise UserError(
            f"{path / 'config.yaml'}: format {config['format']}, but this version reads {FORMAT}: use the version of "
            "verso that wrote it"
        )
    source, target = Tokenizer.load(path / "source.model"), Tokenizer.load(path / "target.model")
    for side, tokenizer in (("source", source), ("target", target)):
        if len(tokenizer) != config["vocabulary"][side]:
            raise UserError(
                f"{path / (side + '.model')}: {len(tokenizer)} entries, but the weights are for "
                f"{config['vocabulary'][side]}: the file is from another model"
            )
    with torch.device("meta"):
        model = SequenceModel(ModelConfig(**config["model"]), len(source), len(target))
    model.to_empty(device=device or torch.device("cpu"))
    weights = safetensors.torch.load_file(path / "model.safetensors")
    load_weights(model, weights, path)
    model.eval()
    ratio = LengthRatio(**config["length_ratio"])
    return TranslationModel(model, source, target, ratio, config["max_length"], config)


def _weights(model: SequenceModel) -> dict[str, torch.Tensor]:
    """Each weight once, under the first of its names: tied weights have several."""
    return dict(model.named_parameters())


def load_weights(model: SequenceModel, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Copy weights into a model; raises UserError naming the first that is missing, unknown or of another shape."""
    own = _weights(model)
    if difference := sorted(own.keys() ^ weights.keys()):
        raise UserError(f"{path / 'model.safetensors'}: {difference[0]} does not fit config.yaml's model")
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            raise UserError(
                f"{path / 'model.safetensors'}: {name} has shape {tuple(weights[name].shape)}, but config.yaml asks "
                f"for {tuple(tensor.shape)}: the files are from different models"
            )
        with torch.no_grad():
            tensor.copy_(weights[name])


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what resuming needs beyond the weights into `folder`/state."""
    (folder / "state").mkdir()
    written = io.BytesIO()
    torch.save(state, written)
    (folder / "state" / "training.pt").write_bytes(written.getvalue())
    write_manifest(folder / "state", ("training.pt",))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; only tensors and plain values are read, never code."""
    check_manifest(path / "state")
    state: dict[str, Any] = torch.load(path / "state" / "training.pt", map_location="cpu", weights_only=True)
    return state


def write_manifest(folder: Path, names: tuple[str, ...]) -> None:
    lines = []
    for name in names:
        content = (folder / name).read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}\n")
    (folder / "MANIFEST").write_text("".join(lines), encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Raises UserError naming the first file that is not what was written, with both values."""
    for line in (folder / "MANIFEST").read_text(encoding="utf-8").splitlines():
        digest, size, name = line.split(" ", 2)
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing: copy the whole model directory again")
        if path.stat().st_size != int(size):
            raise UserError(
                f"{path}: {path.stat().st_size} bytes, but MANIFEST says {size}: the file was cut off or changed; "
                "copy it again"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise UserError(
                f"{path}: SHA-256 is {found[:12]}..., but MANIFEST says {digest[:12]}...: the file was changed; "
                "copy it again"
            )
