"""Teacher: an autoencoder. Other models can be trained to reproduce its code of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from models.arguments import check_count
from models.inputs import ImageInput, ModelInput
from models.layers import Residual, convolution, downward
from models.metrics import peak_signal_to_noise
from models.model import TILE_HEIGHT, WHITE, Model, to_numpy, to_uint8, weights_of
from models.predictor import Batch
from models.results import TeacherResult
from processing.imaging.drawing import Colour, Image, enlarge


class Teacher(Model):
    """Encodes each 16x16 pixels of an image as a few numbers and reconstructs the image from them.

    Args:
        width: channels at half the image's resolution.
        learning_rate: peak learning rate of the schedule.
        code_channels: numbers per 16x16 pixels.
    """

    task = "teacher"
    outputs = {  # noqa: RUF012 - declared as a class variable by the base class
        "reconstruction": "float32 (B, 3, H, W): RGB, 0 to 1",
        "code": "float32 (B, C, H / 16, W / 16), rounded up",
    }
    metric = "PSNR"
    unit = " dB"
    min_steps = 800

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
        return self.reconstruct(self.encoder(images), (images.shape[2], images.shape[3]))

    def reconstruct(self, code: Tensor, size: tuple[int, int]) -> Tensor:
        """Map codes to images of a height and width, float (B, 3, H, W) in [0, 1]."""
        drawn: Tensor = self.decoder(code)
        # If a side is no multiple of 16, the code covers a little more than the image.
        return drawn.float().sigmoid()[..., : size[0], : size[1]]

    def loss(self, batch: Batch, output: Any = None) -> Tensor:
        """Return the mean squared error."""
        images, weights = batch["image"].float(), weights_of(batch)
        drawn = self(images) if output is None else output
        errors = F.mse_loss(drawn, images, reduction="none").mean(dim=(1, 2, 3))
        return (errors * weights).sum() / weights.sum().clamp(min=1)

    def evaluate(self, batch: Batch, output: Any = None) -> list[Any]:
        """Return (PSNR, reconstruction) per sample."""
        drawn = self(batch["image"]) if output is None else output
        errors = peak_signal_to_noise(to_numpy(drawn), to_numpy(batch["image"]))
        return [(error, to_uint8(image)) for error, image in zip(errors, drawn, strict=True)]

    def answer(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``reconstruction`` (B, 3, H, W) in [0, 1], and ``code`` (B, C, H / 16, W / 16)."""
        code = self.encoder(images)
        drawn = self.reconstruct(code, (images.shape[2], images.shape[3]))
        return {"reconstruction": drawn, "code": code}

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        boxes: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        batch_size: int = 16,
    ) -> list[TeacherResult]:
        """Encode and reconstruct photographs of any size, without gradients, in evaluation mode.

        Arguments and errors are those of `Landmarker.predict`. The reconstruction has the size of
        the model's input.
        """
        return self.predict_images(images, boxes, batch_size)

    def result(self, values: Mapping[str, NDArray[Any]], source: ModelInput) -> TeacherResult:
        """Return the reconstructions, their codes and their errors."""
        drawn, shown = values["reconstruction"], source.pixels.numpy()
        errors = peak_signal_to_noise(drawn, shown).astype(np.float32)
        fields: list[Any] = [_pictures(drawn), _pictures(shown), errors]
        fields += [values["code"], source.rects]
        if source.is_single:
            fields = [field[0] for field in fields]
        return TeacherResult._make([*fields, source.size, source.path, None])

    def essence(self, record: tuple[float, Image]) -> float:
        """Return the PSNR: reconstructions of all samples would fill the memory."""
        return record[0]

    def scores(self, records: Sequence[Any]) -> dict[str, float]:
        """Return the mean PSNR of the samples in dB."""
        return {self.metric: float(np.mean(records))}

    def quality(self, record: tuple[float, Image]) -> float:
        """Return the PSNR."""
        return record[0]

    def legend(self) -> Sequence[tuple[str, Colour]]:
        """Return the words of the picture's caption."""
        return (("above: image, below: reconstruction", WHITE),)

    def draw(self, image: Image, record: tuple[float, Image]) -> Image:
        """Draw the image with its reconstruction below it."""
        return np.vstack([enlarge(part, TILE_HEIGHT)[0] for part in (image, record[1])])


def _pictures(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert float (n, 3, H, W) in [0, 1] to uint8 (n, H, W, 3)."""
    return np.asarray((images * 255).round(), np.uint8).transpose(0, 2, 3, 1)
