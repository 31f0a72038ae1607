"""AnnotationSet: where annotations come from, and how many of them were read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnnotationSet:
    """The annotations of one file, or of all the small files of one folder.

    Args:
        path: relative to the raw directory: ``train.json``, ``data.yaml``, ``Annotations/*.xml``.
        format: name of the format; the format's module need not give it.
        place: names an entry of `InstanceColumns.entries` for people, such as ``line {}``.
        has_names: whether the data set names its categories, not only numbers them.
        details: how the set was read, where there was a choice, as part of a sentence.
        units: ``pixels`` or ``fractions`` if the user said so; otherwise ``""``.
        keypoint_names: names of the points in their order; empty if the set names none.
        category_names: categories that the set declares, also unused ones. An image without objects
            of such a category shows none of them.
    """

    path: str
    format: str = ""
    place: str = "line {}"
    has_names: bool = True
    details: str = ""
    units: str = ""
    keypoint_names: tuple[str, ...] = ()
    category_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetReport:
    """The size of one annotation set, as it was read.

    Args:
        path: as in `AnnotationSet`.
        format: as in `AnnotationSet`.
        images: how many images it describes.
        instances: how many boxes and sets of points of them can be used.
        details: as in `AnnotationSet`.
    """

    path: str
    format: str
    images: int
    instances: int
    details: str = ""
