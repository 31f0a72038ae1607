"""Teacher: an autoencoder. Other models can be trained to reproduce its code of an image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from models.arguments import check_count
from models.drawing import Image, enlarge
from models.layers import Residual, convolution, downward
from models.metrics import peak_signal_to_noise
from models.model import TILE_HEIGHT, TILES, WHITE, Batch, Model, to_numpy, to_uint8


class Teacher(Model):
    """Encodes each 16x16 pixels of an image as a few numbers and reconstructs the image from them.

    Args:
        width: channels at half the image's resolution.
        learning_rate: peak learning rate of the schedule.
        code_channels: numbers per 16x16 pixels.
    """

    task = "teacher"
    metric = "PSNR"
    unit = " dB"
    legend = (("above: image, below: reconstruction", WHITE),)

    def __init__(
        self, width: int = 16, learning_rate: float = 1.5e-2, code_channels: int = 32
    ) -> None:
        super().__init__(learning_rate)
        self.save_hyperparameters()
        check_count("width", width, least=1)
        check_count("code_channels", code_channels, least=1)
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.encoder = nn.Sequential(downward(3, *widths), nn.Conv2d(widths[-1], code_channels, 1))
        self.decoder = nn.Sequential()
        for channels, out_channels in pairwise((code_channels, *widths[2::-1])):
            # Pixel shuffle makes 4 channels into 2x2 pixels: upsampling without a checkerboard.
            expanded = convolution(channels, 4 * out_channels)
            stage = nn.Sequential(expanded, nn.PixelShuffle(2), Residual(out_channels))
            self.decoder.append(stage)
        self.decoder.append(nn.Conv2d(width, 4 * 3, 3, padding=1))
        self.decoder.append(nn.PixelShuffle(2))

    def forward(self, images: Tensor) -> Tensor:
        """Map images to their reconstructions, float (B, 3, H, W) in [0, 1]."""
        drawn: Tensor = self.decoder(self.encoder(images))
        # If a side is no multiple of 16, the code covers a little more than the image.
        return drawn.float().sigmoid()[..., : images.shape[2], : images.shape[3]]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(self(batch["image"]), batch["image"].float())

    def predict(self, batch: Batch) -> list[Any]:
        """Return (PSNR, reconstruction) per sample; the reconstruction is None if not drawn."""
        drawn = self(batch["image"])
        errors = peak_signal_to_noise(to_numpy(drawn), to_numpy(batch["image"]))
        # Records of all samples stay in memory: keep only the images that the picture shows.
        shown = [to_uint8(image) for image in drawn[: TILES - len(self.tiles)]]
        return list(zip_longest(errors, shown))

    def score(self, records: Sequence[Any]) -> float:
        """Return the mean PSNR of the samples in dB."""
        return float(np.mean([error for error, _ in records]))

    def draw(self, image: Image, record: tuple[float, Image]) -> Image:
        """Draw the image with its reconstruction below it."""
        return np.vstack([enlarge(part, TILE_HEIGHT)[0] for part in (image, record[1])])
