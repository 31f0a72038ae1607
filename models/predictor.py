"""Predictor: what a model answers without its training data, from Python and through a Trainer."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from models.data_facts import DataFacts
from models.inputs import ImageInput, ModelInput, as_floats, prepare, split_images
from models.results import Result

Batch = Mapping[str, Any]


class Predictor(L.LightningModule):
    """A model that remembers the names and the geometry of its data, in its checkpoint as well.

    Attributes:
        task: task whose data the model learns from.
        facts: names and geometry of the training data.
    """

    task: ClassVar[str]
    outputs: ClassVar[Mapping[str, str]]
    """The tensors of `answer`, in their order, each with its dtype, shape and meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = DataFacts()

    @property
    def category_names(self) -> list[str]:
        """The names of the labels in the training data; empty if they are not known."""
        return list(self.facts.category_names)

    @property
    def keypoint_names(self) -> list[str]:
        """The names of the landmarks in the training data; empty if they have none."""
        return list(self.facts.keypoint_names)

    def category_name(self, label: int) -> str:
        """Return the name of a label; its number, if it has none."""
        return self.facts.category_name(label)

    @abstractmethod
    def answer(self, images: Tensor) -> dict[str, Tensor]:
        """Return the tensors (B, …) named in `outputs`; an exported model returns the same.

        Args:
            images: float (B, 3, H, W) in [0, 1].
        """

    @abstractmethod
    def result(self, values: Mapping[str, NDArray[Any]], source: ModelInput) -> Result:
        """Return the result of one image, in its own pixels.

        Args:
            values: by the names of `answer`, arrays (n, …) with one row for each view.
            source: the views.
        """

    def settings(self) -> dict[str, float]:
        """Return numbers that a prediction needs next to the weights; saved in checkpoints."""
        return {}

    def create_head(self, facts: DataFacts) -> None:
        """Create the layers whose size depends on the data, unless they exist."""

    def learn_facts(self, stage: str) -> None:
        """Take the facts from the trainer's data module; `setup` calls this.

        Raises:
            ValueError: the data has other categories than the model, outside of training.
        """
        data = DataFacts.of_datamodule(getattr(self.trainer, "datamodule", None), stage)
        if stage == "fit":
            # The data of a new training replaces names; data with fewer categories changes none.
            if self.facts.category_names and self.facts.serves(data):
                data = replace(data, category_names=self.facts.category_names)
            self.facts = data.completed_by(self.facts)
        else:
            self._check_categories(self.facts, data)
            self.facts = self.facts.completed_by(data)
        self.create_head(self.facts)

    def _check_categories(self, facts: DataFacts, data: DataFacts) -> None:
        if not facts.serves(data):
            raise ValueError(
                f"{type(self).__name__} was trained on the categories "
                f"{', '.join(facts.category_names)}; the data has "
                f"{', '.join(data.category_names)}: labels would mean something else. Use the data "
                "that the checkpoint was trained on, or train anew without ckpt_path"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the facts to a checkpoint."""
        self.facts.save(checkpoint, type(self).__name__, **self.settings())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the facts from a checkpoint, and create the layers that its weights need.

        Raises:
            ValueError: the trainer's data has other categories.
        """
        stored = DataFacts.load(checkpoint)
        self._check_categories(stored, self.facts)
        if self._trainer is not None and self.trainer.state.fn == "fit":
            self.facts = self.facts.completed_by(stored)
        else:
            self.facts = stored.completed_by(self.facts)
        numbers = checkpoint.get("hyper_parameters", {})
        self.create_head(
            replace(
                stored,
                num_classes=numbers.get("num_classes", stored.num_classes),
                num_keypoints=numbers.get("num_keypoints", stored.num_keypoints),
            )
        )

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[Result]:
        """Return a result for each sample, in pixels of the stored image.

        Repeated samples, whose `valid` is False, have no result. `image_path` and `sample_index`
        say whose result it is; `dataset.to_source` maps coordinates to the photograph.
        """
        images = as_floats(batch["image"])
        height, width = images.shape[-2:]
        values = to_arrays(self.answer(images))
        results = []
        for i in range(len(images)):
            if "valid" in batch and not batch["valid"][i]:
                continue
            shown = np.array([[0.0, 0.0, width, height]])
            path = str(batch["image_path"][i]) if "image_path" in batch else ""
            source = ModelInput(images[i : i + 1].float().cpu(), shown, (height, width), path)
            rows = {name: value[i : i + 1] for name, value in values.items()}
            result = self.result(rows, source)
            if "index" in batch:
                result = result._replace(sample_index=int(batch["index"][i]))
            results.append(result)
        return results

    def prepare(self, image: ImageInput, boxes: ArrayLike | None = None) -> ModelInput:
        """Return the views of one image that `predict_prepared` takes; see `models.inputs.prepare`.

        Raises:
            ValueError: the size of the training images is not known.
        """
        if self.facts.image_size is None:
            raise ValueError(
                f"{type(self).__name__} does not know the size of its input: load a checkpoint "
                "with load_from_checkpoint, or train it first"
            )
        margin = self.facts.crop_margin or 0.0
        return prepare(image, self.facts.image_size, margin=margin, boxes=boxes)

    def predict_images(
        self,
        images: ImageInput | Iterable[ImageInput],
        boxes: Any = None,
        batch_size: int = 16,
    ) -> list[Any]:
        """Return one result per image; `predict` of each model describes the arguments.

        Raises:
            ImageError: a file is missing, unreadable or damaged.
            TypeError: an image is of a type that is not supported.
            ValueError: an image or a box has another shape or range, or the numbers of images and
                boxes differ.
        """
        single, is_one = split_images(images)
        prepared = self._prepared(single, [boxes] if is_one and boxes is not None else boxes)
        results: list[Any] = []
        while chunk := list(islice(prepared, batch_size)):
            results += self.predict_prepared(chunk, batch_size)
        return results

    def _prepared(self, images: Iterator[ImageInput], boxes: Any) -> Iterator[ModelInput]:
        remaining = None if boxes is None else iter(boxes)
        for i, image in enumerate(images):
            if remaining is None:
                own = None
            elif (own := next(remaining, None)) is None:
                raise ValueError(f"boxes for {i} images, but there are more: give one entry each")
            try:
                yield self.prepare(image, own)
            except (TypeError, ValueError) as error:
                error.add_note(f"image {i} of those given to predict")
                raise
        if remaining is not None and next(remaining, None) is not None:
            raise ValueError("there are more entries of boxes than images: give one entry each")

    def predict_prepared(self, prepared: list[ModelInput], batch_size: int = 16) -> list[Any]:
        """Return one result per prepared image, without gradients and in evaluation mode."""
        if not prepared:
            return []
        counts = [len(one.rects) for one in prepared]
        pixels = torch.cat([one.pixels for one in prepared])
        with evaluation_mode(self):
            # At least one part, so that images without boxes get arrays of the right shape.
            parts = [
                to_arrays(self._answer_on_device(part)) for part in torch.split(pixels, batch_size)
            ]
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        results: list[Any] = []
        start = 0
        for one, count in zip(prepared, counts, strict=True):
            rows = {name: value[start : start + count] for name, value in values.items()}
            results.append(self.result(rows, one))
            start += count
        return results

    def _answer_on_device(self, images: Tensor) -> dict[str, Tensor]:
        weight = next(self.parameters())
        return self.answer(images.to(weight.device, weight.dtype))


def to_arrays(values: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return the tensors as arrays on the host; floats of lower precision become float32."""
    arrays = {}
    for name, value in values.items():
        arrays[name] = (value.float() if value.is_floating_point() else value).cpu().numpy()
    return arrays


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode without gradients, and each layer back to its own afterwards.

    Some layers of a model that is being trained may be frozen in evaluation mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
