"""DataFacts: the facts about the training data that a model needs to answer without that data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from processing.imaging.resizing import PADDING

_KEY = "npz_vision_data"
"""The facts' key in a checkpoint."""


@dataclass(frozen=True)
class DataFacts:
    """Names and geometry of the training data.

    Args:
        category_names: the names of the labels; empty: unknown.
        keypoint_names: the names of the landmarks; empty: unknown, or there are none.
        num_classes: the number of categories; None: unknown.
        num_keypoints: landmarks per sample; None: unknown.
        image_size: height, width of the images; None: unknown.
        crop_margin: how far a crop extends beyond its box on each side, as a fraction of the box's
            width and height; None: unknown.
    """

    category_names: tuple[str, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    num_classes: int | None = None
    num_keypoints: int | None = None
    image_size: tuple[int, int] | None = None
    crop_margin: float | None = None

    @classmethod
    def of_datamodule(cls, datamodule: Any, stage: str) -> Self:
        """Return the facts that a data module of any project gives after its `setup`.

        A fact that neither the data module nor its dataset has is unknown.

        Args:
            datamodule: the data module, or None.
            stage: the stage that was set up: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        dataset = _open_dataset(datamodule, stage)
        names = _names("category_names", dataset, datamodule)
        if stage != "fit" and dataset is not None:
            # Our data module makes up names for files without names: these are not compared.
            names = _names("category_names", dataset)
        num_classes = _attribute(datamodule, "num_classes")
        if num_classes is None and names is not None:
            num_classes = max(1, len(names))
        num_keypoints = _attribute(datamodule, "num_keypoints")
        if num_keypoints is None and dataset is not None:
            num_keypoints = _keypoints_of_first_sample(dataset)
        size = getattr(dataset, "image_size", None)
        return cls(
            tuple(names or ()),
            tuple(_names("keypoint_names", datamodule, dataset) or ()),
            num_classes,
            num_keypoints,
            None if size is None else (int(size[0]), int(size[1])),
            _crop_margin(dataset),
        )

    def category_name(self, label: int) -> str:
        """Return the name of a label; its number, if it has none."""
        return self.category_names[label] if label < len(self.category_names) else str(label)

    def keypoint_labels(self, count: int) -> list[str]:
        """Return the names of `count` landmarks; their numbers, if they have none."""
        if len(self.keypoint_names) == count:
            return list(self.keypoint_names)
        return [str(i) for i in range(count)]

    def completed_by(self, other: DataFacts) -> Self:
        """Return these facts, with those of `other` in place of unknown ones."""
        unknown = {}
        for field in fields(self):
            if getattr(self, field.name) in (None, ()):
                unknown[field.name] = getattr(other, field.name)
        return replace(self, **unknown)

    def serves(self, data: DataFacts) -> bool:
        """Check whether labels of `data` mean the same to a model that has these facts."""
        names = self.category_names
        # Data of other writers has no names, and a model of a data set with more categories knows
        # all of these.
        return not names or data.category_names == names[: len(data.category_names)]

    def save(self, checkpoint: dict[str, Any], model: str, **settings: float) -> None:
        """Write the facts into a checkpoint, as lists and numbers that `weights_only` allows.

        Args:
            checkpoint: the checkpoint.
            model: name of the model's class.
            settings: further numbers of the model.
        """
        checkpoint[_KEY] = {
            "model": model,
            "category_names": list(self.category_names),
            "keypoint_names": list(self.keypoint_names),
            "num_classes": self.num_classes,
            "num_keypoints": self.num_keypoints,
            "image_size": None if self.image_size is None else list(self.image_size),
            "crop_margin": self.crop_margin,
            "padding": PADDING,
            **settings,
        }

    @classmethod
    def load(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Return the facts in a checkpoint; unknown ones, if the checkpoint has none.

        Raises:
            ValueError: the model was trained with another padding.
        """
        stored = stored_facts(checkpoint)
        if stored is None:
            return cls()
        if stored["padding"] != PADDING:
            raise ValueError(
                f"the model was trained on images padded with grey {stored['padding']}, this "
                f"version pads with {PADDING}: use the version that trained it"
            )
        size = stored["image_size"]
        return cls(
            tuple(stored["category_names"]),
            tuple(stored["keypoint_names"]),
            stored["num_classes"],
            stored["num_keypoints"],
            None if size is None else (size[0], size[1]),
            stored["crop_margin"],
        )


def stored_facts(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the entry that `DataFacts.save` wrote; None if this project made no such entry."""
    return checkpoint.get(_KEY)


_LOADERS = {
    "fit": "train_dataloader",
    "validate": "val_dataloader",
    "test": "test_dataloader",
    "predict": "predict_dataloader",
}
"""The method of a data module that gives the samples of a stage."""


def _open_dataset(datamodule: Any, stage: str) -> Any:
    """Return a dataset that is open in a stage, or None."""
    opened = getattr(datamodule, "datasets", None)
    if isinstance(opened, Mapping):  # of this project: the splits that the stage has opened
        return next(iter(opened.values()), None)
    if datamodule is None:
        return None
    return getattr(getattr(datamodule, _LOADERS[stage])(), "dataset", None)


def _attribute(datamodule: Any, name: str) -> int | None:
    number = getattr(datamodule, name, None)
    return None if number is None else int(number)


def _names(name: str, *owners: Any) -> list[str] | None:
    """Return the names that the first of `owners` has; None if none has any."""
    for owner in owners:
        for place in (owner, getattr(owner, "layout", None)):
            names = getattr(place, name, None)
            if names:
                return [str(one) for one in names]
    return None


def _keypoints_of_first_sample(dataset: Any) -> int | None:
    """Return the number of landmarks; None if the samples have none."""
    if not len(dataset):
        return None
    sample = dataset[0]
    if not isinstance(sample, Mapping) or "keypoints" not in sample:
        return None
    return len(sample["keypoints"])


def _crop_margin(dataset: Any) -> float | None:
    """Return the margin that the processor noted in the file; None for files of other writers."""
    first = getattr(dataset, "datasets", (dataset,))[0]  # of several files read as one
    options = getattr(first, "metadata", {}).get("options", {})
    margin = options.get("crop_margin")
    return None if margin is None else float(margin)
