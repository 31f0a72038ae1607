"""CheckedTransform: checks the result of a user's transform, sample by sample.

The checks run where the transform runs, in a worker process, because only there a message can name
the sample. A result that can be understood in one way only is converted; any other is refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from processing.core.channels import channel_axis, stored_channel_axis
from processing.datasets.collate import Sample, collate_transformed
from processing.datasets.ragged_row import ragged_row

ANNOTATION_OF: Final = {"detector": "bboxes", "teacher": "bboxes", "landmarker": "keypoints"}
"""The annotation that every sample of a task has."""

_IMAGE: Final = (
    "uint8 from 0 to 255, or finite float32, as (H, W, C) or (C, H, W) with 1, 3 or 4 channels"
)


def name_of(function: object) -> str:
    """Returns the name of a function, or of the class of another callable."""
    inner = getattr(function, "func", function)  # of a functools.partial
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


class CheckedTransform:
    """Calls a transform, and checks that a batch can be made of its result.

    Picklable if the transform is.

    Args:
        setting: argument of the datamodule that the transform was given as.
        transform: called with a `Sample`.
        task: of the samples.

    Raises:
        ValueError: when called: the result cannot be used. The message names the transform and the
            sample, and says what to return.
    """

    def __init__(self, setting: str, transform: Callable[[Sample], Any], task: str) -> None:
        self.setting = setting
        self.transform = transform
        self.task = task

    def __call__(self, sample: Sample) -> dict[str, Any]:
        """Returns the transformed sample: images (H, W, C), all keys of the task, equal dtypes."""
        stored = dict(sample)  # the transform may change the sample itself
        stored_shape = sample["image"].shape
        result = self.transform(sample)
        if not isinstance(result, Mapping):
            self._refuse(
                stored, f"is {type(result).__name__}", "a dict", "return the sample's dict"
            )
        found = dict(result)
        for key in stored:
            if key in ("index", "image_path"):
                found.setdefault(key, stored[key])
            elif key not in found:
                self._refuse(
                    stored,
                    f"has no {key!r}, only {', '.join(map(repr, found))}",
                    f"the keys {', '.join(map(repr, stored))}",
                    "return {**sample, ...}; for batches with other keys, give collate_fn",
                )
        if not np.array_equal(found["index"], stored["index"]):
            self._refuse(
                stored,
                f"has index {found['index']!r}",
                f"{stored['index']!r}",
                "keep 'index': the augmentation depends on it",
            )
        if "valid" in found:
            self._refuse(
                stored,
                "has the key 'valid'",
                "another name",
                "loaders mark repeated samples with it",
            )
        found["image"] = self._image(found["image"], stored, stored_shape)
        self._check_annotations(found, stored)
        return found

    def _refuse(
        self, stored: Mapping[str, Any], found: str, expected: str, remedy: str
    ) -> NoReturn:
        raise ValueError(
            f"{self.setting} {name_of(self.transform)}: its result for sample {stored['index']} "
            f"({stored['image_path']}) {found}; expected {expected}: {remedy}"
        )

    def _image(self, image: Any, stored: Mapping[str, Any], stored_shape: Sequence[int]) -> Any:
        """Returns an image as (H, W, C), uint8 or float32."""
        if not isinstance(image, np.ndarray | torch.Tensor):
            self._refuse(
                stored,
                f"has an image of type {type(image).__name__}",
                "an array or a tensor",
                "return numpy.asarray(image)",
            )
        dtype, shape = _dtype(image), tuple(image.shape)
        kind = f"has an image {dtype} {shape}"
        if isinstance(image, torch.Tensor) and image.layout != torch.strided:
            self._refuse(stored, f"{kind}, {image.layout}", _IMAGE, "return image.to_dense()")
        if dtype != "uint8" and "float" not in dtype:
            self._refuse(
                stored,
                kind,
                _IMAGE,
                "scale it to floats from 0 to 1, for example image.astype('float32') / 65535",
            )
        array = _as_array(image, None if dtype == "uint8" else np.float32)
        if array.ndim == 2:
            array = array[..., None]
        axis = self._axis(array.shape, stored_shape) if array.ndim == 3 and array.size else None
        if axis is None:
            self._refuse(stored, kind, _IMAGE, "return one image in one of these shapes")
        if not np.isfinite(array).all():
            self._refuse(
                stored,
                f"{kind} with NaN or infinity",
                "finite values",
                "does it divide by 0, for example by a standard deviation?",
            )
        return array if axis == 2 else array.transpose(1, 2, 0)

    @staticmethod
    def _axis(shape: Sequence[int], stored_shape: Sequence[int]) -> int | None:
        """Returns the dimension of the channels, by comparing with the stored image if needed."""
        if tuple(shape) == tuple(stored_shape):
            return stored_channel_axis(stored_shape)
        axis = channel_axis(shape)
        channels = stored_shape[stored_channel_axis(stored_shape)]
        # An unusual number of channels is known from the file.
        if axis is None and (shape[0] == channels) != (shape[2] == channels):
            axis = 0 if shape[0] == channels else 2
        return axis

    def _check_annotations(self, found: dict[str, Any], stored: Mapping[str, Any]) -> None:
        """Converts boxes, points and labels to arrays of the dtypes that files have."""
        key = ANNOTATION_OF[self.task]
        is_detector = self.task == "detector"
        values = self._numbers(found, key, stored)
        shape, expected = tuple(values.shape), np.shape(stored[key])
        if is_detector and 0 in shape:  # an empty list has no second dimension
            values = values.reshape(0, 4)
        elif is_detector and (len(shape) != 2 or shape[1] != 4):
            self._refuse(
                stored, f"has {key!r} {shape}", "(k, 4)", "return x1, y1, x2, y2 in pixels"
            )
        elif not is_detector and shape != expected and not self._fits_ragged(shape, key, stored):
            self._refuse(
                stored, f"has {key!r} {shape}", f"{expected}", "return as many as in the sample"
            )
        found[key] = values
        if "labels" not in found:
            return
        labels = self._numbers(found, "labels", stored)
        number = (len(values),) if is_detector else np.shape(stored.get("labels", 0))
        if is_detector and labels.ndim != 1 and 0 in labels.shape:
            labels = labels.reshape(0)
        if tuple(labels.shape) != number:
            self._refuse(
                stored,
                f"has 'labels' {tuple(labels.shape)} for {key!r} {tuple(values.shape)}",
                f"{number}",
                "filter the labels together with the boxes",
            )
        whole = labels.astype(np.int64)
        if not np.array_equal(whole, labels):
            self._refuse(stored, "has 'labels' with fractions", "whole numbers", "keep them as int")
        found["labels"] = ragged_row(whole) if is_detector else whole

    @staticmethod
    def _fits_ragged(shape: Sequence[int], key: str, stored: Mapping[str, Any]) -> bool:
        """Checks whether samples differ in their number of points anyway."""
        is_ragged = bool(getattr(stored[key], "is_ragged", False))
        return is_ragged and len(shape) == 2 and shape[1:] == np.shape(stored[key])[1:]

    def _numbers(
        self, found: Mapping[str, Any], key: str, stored: Mapping[str, Any]
    ) -> NDArray[Any]:
        """Returns an annotation as float32; labels keep their dtype."""
        value = found[key]
        try:
            array = _as_array(value, None if key == "labels" else np.float32)
            is_number = array.size == 0 or bool(np.isfinite(array).all())
        except (TypeError, ValueError):  # text, objects, rows of different lengths
            is_number = False
        if not is_number:
            self._refuse(
                stored,
                f"has {key!r} that are not finite numbers: {reprlib.repr(value)}",
                "an array of numbers",
                "return one row for each object",
            )
        return array


class CheckedCollate:
    """Makes a batch of the results of a `CheckedTransform`.

    Args:
        setting: argument of the datamodule that the transform was given as.
        transform: for the messages.

    Raises:
        ValueError: when called: the samples do not fit together.
    """

    def __init__(self, setting: str, transform: object) -> None:
        self.setting = setting
        self.name = name_of(transform)

    def __call__(self, samples: Sequence[Sample]) -> Any:
        """Collates samples, after checking that keys and images agree."""
        first = samples[0]
        for sample in samples[1:]:
            self._compare("keys", sorted(first), sorted(sample), first, sample)
            one, other = (f"{_dtype(s['image'])} {s['image'].shape}" for s in (first, sample))
            self._compare("image", one, other, first, sample)
        try:
            return collate_transformed(samples)
        except (TypeError, ValueError) as error:  # TypeError: torch cannot collate such values
            for key, value in first.items():
                if not isinstance(
                    value, np.ndarray | torch.Tensor | str | int | float | np.generic
                ):
                    error.add_note(f"{key!r} of sample {first['index']} is {type(value).__name__}")
            error.add_note(f"the samples are the results of {self.setting} {self.name}")
            raise

    def _compare(self, part: str, one: Any, other: Any, first: Sample, sample: Sample) -> None:
        if one != other:
            raise ValueError(
                f"{self.setting} {self.name}: its results do not fit into one batch: {part} of "
                f"sample {first['index']} ({first['image_path']}): {one}; of sample "
                f"{sample['index']} ({sample['image_path']}): {other}. Return the same for all "
                "samples (resize and crop to one size), or give collate_fn"
            )


class UserCollate:
    """Calls the user's `collate_fn` with a list of samples.

    Args:
        function: the user's function.
    """

    def __init__(self, function: Callable[[list[Any]], Any]) -> None:
        self.function = function

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Returns what the function makes of a batch's samples."""
        return self.function(list(samples))


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _as_array(value: Any, dtype: type[np.generic] | None) -> NDArray[Any]:
    """Returns an array, or a tensor of any class, as an array that torch can read."""
    if isinstance(value, torch.Tensor):
        # numpy has no bfloat16, and torchvision's classes of tensors have no meaning here.
        plain = value.detach().as_subclass(torch.Tensor).cpu()
        value = (plain.float() if plain.is_floating_point() else plain).numpy()
    array = np.asarray(value, dtype)
    # torch cannot read an array that was flipped by a negative stride.
    return array if all(stride >= 0 for stride in array.strides) else array.copy()
