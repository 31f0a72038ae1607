"""The blocks that the models are made of; PyTorch only."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


def convolution(channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Float (B, C, h, w) to the same."""
        return features + self.block(features)  # type: ignore[no-any-return]  # torch's modules return Any


def downward(*widths: int) -> nn.Sequential:
    """Stages that halve the resolution, from ``widths[0]`` channels to each next."""
    return nn.Sequential(
        *(nn.Sequential(convolution(a, b, stride=2), Residual(b)) for a, b in pairwise(widths))
    )


class FeaturePyramid(nn.Module):
    """Features at a quarter of the resolution that know their surroundings (Lin et al. 2017)."""

    STRIDE: ClassVar[int] = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.channels = 2 * width
        self.stem = nn.Sequential(convolution(3, width // 2, stride=2), downward(width // 2, width))
        self.down = downward(*widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, self.channels, 1) for width in widths)
        self.out = convolution(self.channels, self.channels)

    def forward(self, images: Tensor) -> Tensor:
        """Float (B, 3, H, W) to (B, channels, H / 4, W / 4), rounded up."""
        levels = [self.stem(images)]
        for stage in self.down:
            levels.append(stage(levels[-1]))
        merged = self.lateral[-1](levels.pop())
        for level, lateral in zip(levels[::-1], self.lateral[-2::-1], strict=True):
            merged = lateral(level) + F.interpolate(merged, size=level.shape[-2:])
        return self.out(merged)  # type: ignore[no-any-return]  # as above
