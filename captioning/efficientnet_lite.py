"""EfficientNet-Lite 0 to 2: EfficientNet (Tan and Le 2019, table 1) without squeeze-and-excitation and with ReLU6.

As in the TensorFlow TPU repository's `efficientnet/lite`: stem and head are not widened, and the first and the last
stage not deepened. Written here because the libraries that have it take seconds to import, which a single caption would
mostly consist of.
"""

import math
from typing import no_type_check

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LITE_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}  # pixels a side
_SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
# expansion, channels, blocks, stride of the first of them, kernel
_STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
           (6, 320, 1, 1, 3))  # fmt: skip


class EfficientNetLite(nn.Module):
    """Classes of ImageNet from normalised pixels; its parts are in order of computation, as the published weights."""

    def __init__(self, name: str) -> None:
        """Args: name: One of `LITE_SIZES`."""
        super().__init__()
        width, depth = _SCALES[name]
        self.stem = _convolution(3, _STEM, 3, stride=2)
        blocks, channels = [], _STEM
        for stage, (expansion, base, count, stride, kernel) in enumerate(_STAGES):
            wide = _round(base * width)
            deep = count if stage in (0, len(_STAGES) - 1) else math.ceil(count * depth)
            for i in range(deep):
                blocks.append(InvertedResidual(channels, wide, expansion, kernel, 1 if i else stride))
                channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, _HEAD, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    @no_type_check  # torch.fx calls it with a stand-in for the tensor
    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        return self.classifier(self.pool(self.head(self.blocks(self.stem(pixels)))).flatten(1))


class InvertedResidual(nn.Module):
    """Widen, look around in each channel by itself, and narrow (Sandler et al. 2018, section 3.3)."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers = [] if expansion == 1 else [_convolution(channels, wide, 1)]
        layers += [_convolution(wide, wide, kernel, stride, groups=wide), _convolution(wide, out, 1, activation=False)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels == out

    @no_type_check  # torch.fx calls it with a stand-in for the tensor
    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out rows columns"]:
        found = self.layers(pixels)
        return pixels + found if self.residual else found


class SamePadding(nn.Conv2d):
    """A convolution with a stride, padded as TensorFlow does: as little as is needed, the odd pixel right and below."""

    def forward(self, input: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out rows columns"]:
        return super().forward(self.padded(input))

    def padded(
        self, input: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        down, across = (
            max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            for size, stride, kernel in zip(input.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        return F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, activation: bool = True
) -> nn.Sequential:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (SamePadding, 0)
    conv = kind(channels, out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out, eps=1e-3), *([nn.ReLU6()] if activation else []))


def _round(channels: float) -> int:
    """To a multiple of 8, but never to less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 * (near < 0.9 * channels)
