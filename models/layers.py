"""Building blocks of the models. Needs PyTorch only."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_count


def convolution(channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Return a 3x3 convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        # No bias: the batch normalisation that follows would subtract it again.
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map float (B, C, h, w) to the same shape."""
        return features + self.block(features)  # type: ignore[no-any-return]  # torch's modules return Any


def downward(*widths: int) -> nn.Sequential:
    """Return stages that each halve the resolution.

    Args:
        widths: channels before the first stage and after each stage.
    """
    stages = nn.Sequential()
    for channels, out_channels in pairwise(widths):
        halved = convolution(channels, out_channels, stride=2)
        stages.append(nn.Sequential(halved, Residual(out_channels)))
    return stages


class FeaturePyramid(nn.Module):
    """Features at a quarter of the resolution, with context from coarser levels (Lin et al. 2017).

    Args:
        width: channels of the finest level; the features have twice as many.
    """

    STRIDE: ClassVar[int] = 4
    """Pixels of the image per cell of the features, in each direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        check_count("width", width, least=2)
        # The last two levels are equally wide: the models are meant to train on a CPU.
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.channels = 2 * width
        self.stem = nn.Sequential(convolution(3, width // 2, stride=2), downward(width // 2, width))
        self.down = downward(*widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, self.channels, 1) for width in widths)
        self.out = convolution(self.channels, self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map float (B, 3, H, W) to (B, channels, H / 4, W / 4), rounded up."""
        levels = [self.stem(images)]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        # From coarse to fine: each level adds what the coarser ones know of the surroundings.
        merged = self.lateral[-1](levels.pop())
        for level, lateral in zip(levels[::-1], self.lateral[-2::-1], strict=True):
            # Sizes, not a factor of 2: a level may have been rounded up.
            merged = lateral(level) + F.interpolate(merged, size=level.shape[-2:])
        return self.out(merged)  # type: ignore[no-any-return]  # torch's modules return Any
