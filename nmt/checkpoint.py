"""The model directory: weights, tokenizers, configuration and scores, with a manifest that is checked on loading.

config.yaml          everything that shaped the run
model.safetensors    weights
source.model target.model    tokenizers; source.model only where text is read
metrics.json         scores on the validation text
MANIFEST             size and SHA-256 of each of these
state/               only in a checkpoint to resume from: optimizer and position, with a MANIFEST of its own
"""

import hashlib
import io
import json
import pickle
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
import yaml

from data.errors import UserError
from data.length_ratio import LengthRatio
from data.tokenizer import Tokenizer
from nmt.config import ModelConfig
from nmt.device import default_device
from nmt.encoder import Encoder, FrameEncoder, TextEncoder
from nmt.model import SequenceModel

FORMAT = 1
_STATE = "training.pt"
_USED_WITH = {
    "text": "the translate command", "frames": "scripts/translate_frames.py", "images": "the caption command",
}  # fmt: skip
FILES = ("config.yaml", "model.safetensors", "target.model", "metrics.json")


@dataclass(frozen=True)
class TrainedModel:
    """A model with all that is needed to use it on what it reads as it comes; `source` is None where that is no text.

    config holds the settings of everything that shaped it, beside those of the model itself.
    """

    model: SequenceModel
    source: Tokenizer | None
    target: Tokenizer
    length_ratio: LengthRatio
    max_length: int
    config: dict[str, Any]

    @property
    def history(self) -> int:
        """How many turns of a dialogue the source holds; 0 if it was not trained on dialogues."""
        return int(self.config.get("data", {}).get("train", {}).get("history", 0))

    @property
    def truncates(self) -> bool:
        """Whether it learnt from truncated text, rather than from whole sentences."""
        return bool(self.config.get("data", {}).get("overlong") == "truncate")


@dataclass
class Position:
    """Where training stands; together with weights and optimizer all that resuming needs.

    batch counts the batches of this epoch that are done; best holds (score, update), best first; a better score is
    always the larger.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    pairs: int = 0
    seconds: float = 0.0
    best: list[tuple[float, int]] = field(default_factory=list)
    without_gain: int = 0
    halvings: int = 0
    validated: int = -1


def versions() -> dict[str, str]:
    """What the figures of a run were made with."""
    names = ("torch", "torchvision", "accelerate", "datasets", "sacrebleu", "sacremoses", "sentencepiece")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def save_model(folder: Path, trained: TrainedModel, metrics: dict[str, Any]) -> None:
    """Write a model directory into an existing, empty `folder` (see `data.files.atomic_directory`)."""
    tokenizers = {"source": trained.source, "target": trained.target}
    written = {side: tokenizer for side, tokenizer in tokenizers.items() if tokenizer is not None}
    config: dict[str, Any] = {"format": FORMAT, "reads": trained.model.encoder.reads}
    config |= {"model": asdict(trained.model.config)} | trained.config
    config["vocabulary"] = {side: len(tokenizer) for side, tokenizer in written.items()}
    config["length_ratio"] = asdict(trained.length_ratio)
    config["max_length"] = trained.max_length
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _weights(trained.model).items()}
    # not save_file: writing the bytes ourselves reports a full disk as what it is
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights))
    for side, tokenizer in written.items():
        tokenizer.save(folder / f"{side}.model")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    write_manifest(folder, (*FILES, "source.model") if trained.source else FILES)


def load_model(
    path: Path,
    device: torch.device | None = None,
    image_encoder: Callable[[dict[str, Any]], Encoder] | None = None,
    *,
    reads: Literal["text", "frames"] = "text",
) -> TrainedModel:
    """Read a model directory.

    Args:
        device: Where it is to compute; by default `default_device`.
        image_encoder: Makes the encoder of a model that reads images from its configuration.
        reads: What the model is expected to read where no `image_encoder` is given.

    Raises:
        UserError: `path` is no model directory, a file is missing, was changed or cut off, does not fit the others,
            or the model reads something else.
    """
    config = read_config(path)
    found = config.get("reads", "text")
    if found != ("images" if image_encoder else reads):
        raise UserError(f"{path}: this model reads {found}: use it with {_USED_WITH[found]}")
    source = None
    if found == "text":
        source = Tokenizer.load(path / "source.model")
    target = Tokenizer.load(path / "target.model")
    for side, tokenizer in (("source", source), ("target", target)):
        if tokenizer is not None and len(tokenizer) != config["vocabulary"][side]:
            raise UserError(
                f"{path / (side + '.model')}: {len(tokenizer)} entries, but the weights are for "
                f"{config['vocabulary'][side]}: the file is from another model; copy the whole directory again"
            )
    with torch.device("meta"):
        settings = ModelConfig(**config["model"])
        encoder: Encoder
        if image_encoder:
            encoder = image_encoder(config)
        elif reads == "frames":
            encoder = FrameEncoder(settings, config["frames"]["features"])
        else:
            encoder = TextEncoder(settings, config["vocabulary"]["source"])
        model = SequenceModel(settings, encoder, len(target))
    # Tied weights have one name in the file. Not to_empty, which imports sympy for half a second.
    model.load_state_dict(read_weights(model, path), strict=False, assign=True)
    model.tie()
    model.to(device or default_device()).eval()
    ratio = LengthRatio(**config["length_ratio"])
    return TrainedModel(model, source, target, ratio, config["max_length"], config)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a model directory whose files are whole.

    Raises:
        UserError: `path` is no model directory, a file is missing, was changed or cut off, or has another format.
    """
    known = [name for name in ("MANIFEST", "config.yaml", "model.safetensors") if (path / name).is_file()]
    if len(known) < 2:
        raise UserError(f"{path}: no model directory here: {_hint(path)}")
    check_manifest(path, FILES)
    config: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    if config["format"] != FORMAT:
        raise UserError(
            f"{path / 'config.yaml'}: format {config['format']}, but this version reads {FORMAT}: use the version of "
            "verso that wrote it"
        )
    check_manifest(path, ("source.model",) if config.get("reads", "text") == "text" else ())
    return config


def _weights(model: SequenceModel) -> dict[str, torch.Tensor]:
    """Each weight once, under the first of its names: tied weights have several; and what batch norm has counted."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def load_weights(model: SequenceModel, path: Path) -> None:
    """Fill a model from a model directory; raises UserError naming the first weight that does not fit."""
    weights = read_weights(model, path)
    for name, tensor in _weights(model).items():
        with torch.no_grad():
            tensor.copy_(weights[name])


def read_weights(model: SequenceModel, path: Path) -> dict[str, torch.Tensor]:
    """What a model directory has for each weight of a model; raises UserError naming the first that does not fit."""
    file = path / "model.safetensors"
    own, weights = _weights(model), safetensors.torch.load_file(file)
    for name in sorted(own.keys() | weights.keys()):
        found, wanted = (tuple(each[name].shape) if name in each else "missing" for each in (weights, own))
        if found != wanted:
            raise UserError(
                f"{file}: {name} is {found} here, but {wanted} in the model that is asked for: the files are from "
                "different models; copy the whole directory again"
            )
    return weights


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what resuming needs beyond the weights into `folder`/state."""
    (folder / "state").mkdir()
    written = io.BytesIO()
    torch.save(state, written)
    (folder / "state" / _STATE).write_bytes(written.getbuffer())
    write_manifest(folder / "state", (_STATE,))


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Configuration, scores and state of a checkpoint to resume from; only tensors and plain values, never code.

    Raises:
        UserError: a file is missing, was changed, cut off, or holds more than tensors and plain values.
    """
    check_manifest(path, FILES)
    check_manifest(path / "state", (_STATE,))
    config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    file = path / "state" / _STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UserError(
            f"{file}: holds something else than tensors and plain values, which is never loaded: copy it again from "
            "where it was written"
        ) from error
    return config, metrics, state


def write_manifest(folder: Path, names: tuple[str, ...]) -> None:
    lines = []
    for name in names:
        content = (folder / name).read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}\n")
    (folder / "MANIFEST").write_text("".join(lines), encoding="utf-8")


def check_manifest(folder: Path, names: tuple[str, ...]) -> None:
    """Raises UserError naming the first of these files that is not what was written, with both values."""
    entries = _read_manifest(folder / "MANIFEST")
    for name in names:
        path = folder / name
        if name not in entries:
            raise UserError(f"{folder / 'MANIFEST'}: does not list {name}: it was cut off or changed; copy it again")
        if not path.is_file():
            raise UserError(f"{path}: missing: copy the whole directory again")
        digest, size = entries[name]
        if path.stat().st_size != size:
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


def _read_manifest(path: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 and size of each file that a manifest lists."""
    try:
        lines = [line.split(" ", 2) for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: (digest, int(size)) for digest, size, name in lines}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): copy the whole directory again") from error
    except ValueError as error:
        raise UserError(f"{path}: is no manifest: it was cut off or changed; copy it again") from error


def _hint(path: Path) -> str:
    """What the user may have meant by a path without a model."""
    inside = [found.parent for pattern in ("*", "*/*") for found in path.glob(f"{pattern}/config.yaml")]
    inside = [folder for folder in inside if (folder / "MANIFEST").is_file()]
    if inside:
        return f"did you mean {min(inside, key=lambda folder: (folder.name != 'model', folder))}?"
    return "give the model directory of a finished run (RUN/model)"
