"""A datamodule in a notebook: a table with a row for each split, before and after `setup`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from datamodules.settings import Split
from datamodules.split_files import is_there
from processing.core import html
from processing.core.urls import URL, Location
from processing.datasets.names import describe_categories
from processing.lazy_dataset import LazyNPZDataset

if TYPE_CHECKING:
    from datamodules.keypoint_names import AnyDataset

_HEADER = ("split", "rows", "objects", "image", "categories", "files", "state")


def datamodule_html(
    title: str, opened: Mapping[Split, AnyDataset], paths_of: Callable[[Split], Sequence[Location]]
) -> str:
    """Returns the HTML of a datamodule; never raises.

    Args:
        title: class, task and directories.
        opened: the open datasets by split.
        paths_of: returns the files of a split. Those of splits that are not open are opened to read
            their headers, unless they are at URLs.
    """
    rows: list[tuple[object, ...]] = []
    for split in get_args(Split):
        try:
            rows += _rows(split, opened, paths_of)
        except Exception as error:  # a damaged file does not hide the other splits
            reason = f"cannot be shown: {type(error).__name__}: {error}"
            rows.append((split, "", "", "", "", "", reason))
    return html.block(html.heading(title), html.table(_HEADER, rows))


def _rows(
    split: Split,
    opened: Mapping[Split, AnyDataset],
    paths_of: Callable[[Split], Sequence[Location]],
) -> list[tuple[object, ...]]:
    """Returns a row of the table for an open split, and one for each file of another."""
    paths = paths_of(split)
    stand_in = "val is used" if split == "test" and paths == paths_of("val") else ""
    if split in opened:
        return [(split, *_facts(opened[split]), "open" + (f", {stand_in}" if stand_in else ""))]
    if stand_in:
        return [(split, "", "", "", "", "", f"no such file: {stand_in}")]
    rows: list[tuple[object, ...]] = []
    for path in paths:
        if isinstance(path, URL):
            rows.append((split, "", "", "", "", path, "not open: setup() opens it"))
        elif is_there(path):
            with LazyNPZDataset[Any](path) as dataset:
                rows.append((split, *_facts(dataset), "not open: setup() opens it"))
        else:
            reason = "not there: prepare_data() makes it if there is a processor"
            rows.append((split, "", "", "", "", path, reason))
    return rows


def _facts(dataset: AnyDataset) -> tuple[object, ...]:
    height, width = dataset.image_size
    summary = dataset.info_if_quick()
    objects = "" if summary is None else summary.objects.total
    names = describe_categories(dataset.category_names) if dataset.category_names else ""
    files = "\n".join(dataset._files)
    return len(dataset), objects, f"{height}x{width}", names, files
