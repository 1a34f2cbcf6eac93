"""Pretrained convolutional networks that see for the captioner, without their classifiers."""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioning.efficientnet_lite import LITE_SIZES, SamePadding
from captioning.pretrained import build, fill, torchvision_weights, weights_file
from data.errors import UserError
from data.text_files import fingerprint

Kind = Literal["pooled", "regions", "grid"]
REGIONS = 3

Pixels = UInt8[Tensor, "batch 3 height width"] | Float[Tensor, "batch 3 height width"]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the pixels that a network was trained on.

    Args:
        size: Height and width, in pixels.
        mean: Per channel, of values from 0 to 1; subtracted.
        std: Per channel; divided by.
        interpolation: bicubic or bilinear.
        resize: squash shows the whole image but distorts its proportions; crop keeps them, but cuts off what is beyond
            the central square (a quarter of a 4:3 photo), and what is cut off cannot be captioned.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]
    interpolation: str = "bicubic"
    resize: Literal["squash", "crop"] = "squash"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # YAML and JSON have lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 size size"]:
        """The normalised pixels of an RGB image."""
        return self.normalize(self.pixels(image))

    def pixels(self, image: Image.Image) -> UInt8[Tensor, "3 size size"]:
        """An RGB image resized, values from 0 to 255: a quarter of the memory of what `normalize` makes of it."""
        import numpy as np

        if image.size != (self.size, self.size):
            filter_ = Image.Resampling[self.interpolation.upper()]
            image = image.resize((self.size, self.size), filter_, self.seen(image))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def seen(self, image: Image.Image) -> tuple[float, float, float, float]:
        """The part of an image that the network sees: left, top, right and bottom, in pixels."""
        if self.resize == "squash":
            return 0.0, 0.0, float(image.width), float(image.height)
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return left, top, left + side, top + side

    def normalize(self, pixels: UInt8[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
        # Tensors made here each time: as buffers of a network they would be lost on the meta device.
        mean, std = (torch.tensor(list(v), device=pixels.device).view(3, 1, 1) * 255 for v in (self.mean, self.std))
        return (pixels.float() - mean) / std

    def with_resize(self, resize: Literal["squash", "crop"]) -> "Preprocessing":
        return replace(self, resize=resize)


class ImageNetwork(nn.Module):
    """A network up to what its classifier reads; always in evaluation mode, also while it is fine-tuned, so that
    the statistics of batch norm stay those of its training."""

    def __init__(
        self,
        name: str,
        body: nn.Module,
        preprocessing: Preprocessing,
        features: int,
        weights_sha256: str = "",
    ) -> None:
        """
        Args:
            body: From normalised pixels to features.
            features: Size of the pooled feature.
            weights_sha256: Of the file that the weights came from.
        """
        super().__init__()
        self.name, self.preprocessing, self.features = name, preprocessing, features
        self.weights_sha256 = weights_sha256
        self.body = body
        self._grid_graph: fx.Graph | None = None
        self._grid_shape = (0, 0)
        self.train()

    def train(self, mode: bool = True) -> "ImageNetwork":
        del mode
        return super().train(False)

    def forward(self, pixels: Pixels) -> Float[Tensor, "batch features"]:
        """The pooled feature of images as `preprocessing` makes them, normalised (float) or not (uint8)."""
        pooled: Tensor = self.body(self._normalized(pixels))
        return pooled.float()

    def grid(self, pixels: Pixels) -> Float[Tensor, "batch positions grid_features"]:
        """The last feature map that has positions, row by row; raises UserError if the network has none."""
        run = fx.Interpreter(self.body, graph=self._found_grid())
        found: Tensor = run.run(self._normalized(pixels))
        return found.flatten(2).transpose(1, 2).float()

    def regions(self, pixels: Pixels) -> Float[Tensor, "batch regions grid_features"]:
        """The mean of the grid in each of 3 x 3 regions, row by row, so that what is where is kept (the second level of
        Lazebnik, Schmid and Ponce 2006 with other cells). Raises UserError as `grid`."""
        run = fx.Interpreter(self.body, graph=self._found_grid())
        found: Tensor = run.run(self._normalized(pixels))
        return F.adaptive_avg_pool2d(found.float(), REGIONS).flatten(2).transpose(1, 2)

    def read(self, pixels: Pixels, kind: Kind) -> Float[Tensor, "batch *shape"]:
        """The features of one kind."""
        if kind == "pooled":
            return self(pixels)  # type: ignore[no-any-return]
        return self.regions(pixels) if kind == "regions" else self.grid(pixels)

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """Of the features of one kind of one image: (features,), or (positions, features) of a grid."""
        if kind == "pooled":
            return (self.features,)
        self._found_grid()
        positions, features = self._grid_shape
        return (REGIONS**2 if kind == "regions" else positions, features)

    def size(self, kind: Kind) -> int:
        """How many features of one kind there are, for each position where there are positions."""
        return self.shape(kind)[-1]

    def learn(self, kind: Kind) -> None:
        """Let the weights learn that the features of one kind are made with; the others stay as they are."""
        self.requires_grad_(kind == "pooled")
        if kind != "pooled":
            for node in self._found_grid().nodes:
                if node.op == "call_module":
                    self.body.get_submodule(str(node.target)).requires_grad_(True)
                elif node.op == "get_attr":
                    self.body.get_parameter(str(node.target)).requires_grad_(True)

    def _normalized(self, pixels: Pixels) -> Float[Tensor, "batch 3 height width"]:
        if pixels.dtype == torch.uint8:
            pixels = self.preprocessing.normalize(pixels)
        return pixels.to(next(self.body.parameters()).dtype)

    def _found_grid(self) -> fx.Graph:
        """The part of the network that leads to the grid; found once, by following one blank image through it."""
        if self._grid_graph is None:
            graph = _Tracer().trace(self.body)
            weight = next(self.body.parameters())
            size = self.preprocessing.size
            shapes = _Shapes(self.body, graph)
            with torch.no_grad():
                shapes.run(torch.zeros(1, 3, size, size, device=weight.device, dtype=weight.dtype))
            node = shapes.last
            if node is None or len(shapes.of[node]) != 4:
                raise UserError(
                    f"{self.name} has no feature map at its end to attend over: use its pooled feature, or a "
                    "convolutional network"
                )
            channels, height, width = shapes.of[node][1:]
            self._grid_shape = (height * width, channels)
            output = next(n for n in graph.nodes if n.op == "output")
            output.args = (node,)
            for unused in reversed(graph.nodes):
                if not unused.users and unused.op not in ("placeholder", "output"):
                    graph.erase_node(unused)
            self._grid_graph = graph
        return self._grid_graph


class _Tracer(fx.Tracer):
    """Takes convolution and batch norm as single steps, and what is derived from them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d, _Activated)) or super().is_leaf_module(
            m, module_qualified_name
        )


class _Shapes(fx.Interpreter):
    """Runs a network and keeps the shape of everything in it that has positions; `last` is the last of them."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.of: dict[fx.Node, torch.Size] = {}
        self.last: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "placeholder" or not isinstance(result, Tensor) or result.dim() < 3:
            return result
        # a map that was resized to suit a classifier is not meant, nor one of a single row or column
        resized = n.op == "call_module" and isinstance(self.fetch_attr(str(n.target)), nn.AdaptiveAvgPool2d)
        if not resized and (result.dim() == 3 or min(result.shape[2:]) > 1):
            self.of[n], self.last = result.shape, n
        return result


def load_network(name: str, weights: Path | None = None, *, pretrained: bool = True) -> ImageNetwork:
    """A network by its name: efficientnet_lite0, 1 or 2, or any classification model of torchvision.

    The pooled feature is what the last linear layer reads; of a network without one, the mean of its last feature
    map.

    Args:
        weights: File of its weights (.pth or .safetensors), with classifier or without; by default `weights_file`.
        pretrained: If not, no weights are read: for what is loaded from a model directory.

    Raises:
        UserError: No such network, no weights, or weights of another network.
    """
    if pretrained:
        weights = weights or weights_file(name)
        with torch.device("meta"):  # no time is spent on initial weights
            model = build(name)
    else:
        model = build(name)
    head, features = _remove_classifier(model)
    if pretrained and weights is not None:
        fill(model, weights, name, head)
    digest = fingerprint(weights) if pretrained and weights is not None else ""
    return ImageNetwork(name, model, _preprocessing(name), features, digest)


def fast(network: ImageNetwork) -> ImageNetwork:
    """A copy for inference that gives the same features: batch norm folded into the convolutions before it, channels
    last in memory, and bfloat16 where the device computes in it. Batch norm that follows no convolution stays.

    On a processor, rectifiers are computed by the convolution before them, while its results are at hand.
    """
    from nmt.device import bfloat16_computes

    made = copy.deepcopy(network).requires_grad_(False)
    device = next(made.parameters()).device
    graph = _Tracer().trace(made.body)
    _fold_batch_norm(made.body, graph)
    half = bfloat16_computes(device)
    if device.type == "cpu" and _convolves(half):
        _join_activations(made.body, graph)
    made.body, made._grid_graph = fx.GraphModule(made.body, graph), None
    if half:
        made.to(torch.bfloat16)
    return made.to(memory_format=torch.channels_last)


def _convolves(half: bool) -> bool:
    """Whether the kernel of `_Activated` is there, and takes bfloat16 if it is to."""
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return there and (not half or torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Activated(nn.Module):
    """A convolution and the activation after it in one pass, by the kernel that torch.compile takes for the two."""

    KERNELS: ClassVar[dict[type[nn.Module], tuple[str, list[float]]]] = {
        nn.ReLU: ("relu", []),
        nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    }

    def __init__(self, conv: nn.Conv2d, activation: type[nn.Module]) -> None:
        super().__init__()
        self.conv, self.kernel = conv, self.KERNELS[activation]

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out rows columns"]:
        conv = self.conv
        if isinstance(conv, SamePadding):
            pixels = conv.padded(pixels)
        shape = conv.padding, conv.stride, conv.dilation, conv.groups
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(pixels, conv.weight, conv.bias, *shape, *self.kernel, "")
        return made


def _fold_batch_norm(body: nn.Module, graph: fx.Graph) -> None:
    for node, conv, after, norm in _followed(body, graph):
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            _replace(body, node, after, fuse_conv_bn_eval(conv, norm))


def _join_activations(body: nn.Module, graph: fx.Graph) -> None:
    for node, conv, after, activation in _followed(body, graph):
        zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        if zeros and type(conv) in (nn.Conv2d, SamePadding) and type(activation) in _Activated.KERNELS:
            _replace(body, node, after, _Activated(conv, type(activation)))


def _replace(body: nn.Module, node: fx.Node, after: fx.Node, joined: nn.Module) -> None:
    body.set_submodule(str(node.target), joined)
    after.replace_all_uses_with(node)
    after.graph.erase_node(after)


def _followed(body: nn.Module, graph: fx.Graph) -> list[tuple[fx.Node, nn.Conv2d, fx.Node, nn.Module]]:
    """The convolutions whose result one module reads and nothing else, and what reads it."""
    modules = dict(body.named_modules())
    uses = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" and uses[node.target] == 1 else None
        if isinstance(conv, nn.Conv2d) and len(node.users) == 1:
            after = next(iter(node.users))
            if after.op == "call_module":
                found.append((node, conv, after, modules[str(after.target)]))
    return found


def _preprocessing(name: str) -> Preprocessing:
    if name in LITE_SIZES:
        return Preprocessing(LITE_SIZES[name], (0.5,) * 3, (0.5,) * 3)
    made = torchvision_weights(name).transforms()
    return Preprocessing(made.crop_size[0], tuple(made.mean), tuple(made.std), made.interpolation.value)


def _remove_classifier(model: nn.Module) -> tuple[str, int]:
    """Replace the last linear layer by nothing; returns its name, and how many features it reads."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if linear:
        head = linear[-1]
        size = int(cast(nn.Linear, model.get_submodule(head)).in_features)
        model.set_submodule(head, nn.Identity())
        return head, size
    head, last = list(model.named_children())[-1]  # SqueezeNet's classifier is a convolution
    size = next(module.in_channels for module in last.modules() if isinstance(module, nn.Conv2d))
    model.set_submodule(head, nn.AdaptiveAvgPool2d(1))
    return head, size
