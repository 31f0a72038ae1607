"""The flags for the arguments of `DataProcessor`, and how their values are parsed."""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from processing.core.engines import EXECUTORS
from processing.imaging.encoding import STORES, SUBSAMPLINGS
from processing.imaging.tasks import TASKS

_OPTION_VALUES: Final = {"0": 0, "1": 1, "true": True, "false": False}
"""Values of options of a format that are no text: numbers of `coordinate_base`, and switches."""


def sources(values: Sequence[Sequence[str]] | None) -> list[str | dict[str, Any]] | None:
    """Parses ``coco``, or a format with options such as ``coco path=train.json``."""
    if values is None:
        return None
    sources: list[str | dict[str, Any]] = []
    for name, *pairs in values:
        entry: dict[str, Any] = {"format": name}
        for pair in pairs:
            key, sign, value = pair.partition("=")
            if not sign or key in entry:
                raise ValueError(f"source {name}: expected KEY=VALUE, each key once, got {pair!r}")
            entry[key] = _OPTION_VALUES.get(value, value)
        sources.append(entry if pairs else name)
    return sources


def image_size(
    values: Sequence[str] | None,
) -> int | list[int] | dict[str, int | list[int]] | None:
    """Parses ``256``, ``192x256``, or several values such as ``detector=256``."""
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return _sides(values[0])
    sizes = {}
    for value in values:
        task, sign, sides = value.partition("=")
        if not sign or task in sizes:
            raise ValueError(
                f"image size must be one size, or one TASK=SIZE for each of some tasks, got "
                f"{' '.join(values)!r}"
            )
        sizes[task] = _sides(sides)
    return sizes


def _sides(text: str) -> int | list[int]:
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        raise ValueError(
            f"image size must be like 256, 192x256 (height x width) or detector=256, got {text!r}"
        ) from None
    return sides[0] if len(sides) == 1 else sides


def _fraction(text: str) -> float:
    """Parses a number from 0 to 1; argparse adds the flag to the error."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1], got {text}")
    return number


class Flag(NamedTuple):
    """A flag for an argument of `DataProcessor`, whose default it takes.

    Args:
        argument: name of the argument.
        help: its effect; also its default, if that is None.
        options: further arguments of `argparse.ArgumentParser.add_argument`.
        name: the flag, if it is not called like the argument.
    """

    argument: str
    help: str
    options: dict[str, Any]
    name: str = ""

    def add_to(self, group: argparse._ArgumentGroup, function: Callable[..., Any]) -> None:
        """Adds the flag to a group; the default is that of the function's argument."""
        default = inspect.signature(function).parameters[self.argument].default
        name = self.name or f"--{self.argument.replace('_', '-')}"
        help = self.help
        if "(default" not in help and "action" not in self.options:
            help += " (default: %(default)s)"
        group.add_argument(name, dest=self.argument, default=default, help=help, **self.options)


_DIRECTORY: Final = {"metavar": "DIR"}
_COUNT: Final = {"metavar": "N", "type": int}
_SHARE: Final = {"metavar": "FRACTION", "type": _fraction}

FLAGS: Final = (
    Flag(
        "raw_data_dir",
        "directory with photographs and annotations, or its URL, such as s3://bucket/raw",
        _DIRECTORY,
    ),
    Flag(
        "output_dir",
        "directory for the NPZ files, or its URL, such as s3://bucket/faces",
        _DIRECTORY,
    ),
    Flag(
        "sources",
        "annotation format to read, and its options: --source coco path=train.json, relative to "
        "the directory with photographs; docs/formats.md lists formats and options. May be "
        "repeated (default: every format that is found)",
        {"action": "append", "nargs": "+", "metavar": ("FORMAT", "KEY=VALUE")},
        "--source",
    ),
    Flag(
        "image_size",
        "size of stored images in pixels: 256, 192x256 (height x width), or TASK=SIZE for some "
        "tasks (default: "
        + ", ".join(f"{name} {task.default_image_size}" for name, task in TASKS.items())
        + ")",
        {"metavar": "SIZE", "nargs": "+"},
    ),
    Flag(
        "crop_margin",
        "margin that crops add on each side of the box, as a fraction of its width and height",
        {"metavar": "FRACTION", "type": float},
    ),
    Flag(
        "min_box_size",
        "drop boxes with a shorter side, in pixels of the photograph",
        {"metavar": "PIXELS", "type": float},
    ),
    Flag(
        "keep_flagged", "keep crowd, ignored, invalid and difficult boxes", {"action": "store_true"}
    ),
    Flag(
        "store",
        "how images are stored: as pixels; as JPEGs that reading decodes, a sixth of the bytes; or "
        "JPEG photographs as they are, for the detector, and all other images as JPEGs",
        {"choices": STORES},
    ),
    Flag("jpeg_quality", "quality, 1 to 100, of JPEGs that are made; not with --store raw", _COUNT),
    Flag(
        "jpeg_subsampling",
        "subsampling of colour in JPEGs that are made: 444 is none; not with --store raw",
        {"choices": SUBSAMPLINGS},
    ),
    Flag(
        "limit",
        "process only N photographs, for a first look: splits and tasks keep their shares, and the "
        "files are marked, so that they never pass for the whole data set (default: all)",
        _COUNT,
    ),
    Flag(
        "samples_per_shard",
        "photographs per shard: each split becomes a set of files such as "
        "train_detector-00003-of-00012.npz (default: one file)",
        _COUNT,
    ),
    Flag(
        "executor",
        "who makes shards: threads of this process, processes of this machine, or the workers of "
        "Dask or Ray, which are extras",
        {"choices": EXECUTORS},
    ),
    Flag(
        "executor_address",
        "of a running Dask scheduler or Ray cluster (default: workers are started here)",
        {"metavar": "ADDRESS"},
    ),
    Flag(
        "work_dir",
        "local directory for annotations of a raw directory at a URL, and unfinished files of an "
        "output directory at a URL (default: in the user's cache directory)",
        {"metavar": "DIR"},
    ),
    Flag(
        "group_by",
        "regular expression; photographs share a split if it finds the same text in their paths "
        "(default: every photograph is a group)",
        {"metavar": "REGEX"},
    ),
    Flag("seed", "key of the hash that divides photographs into splits", _COUNT),
    Flag(
        "batch_size",
        "photographs per batch; flushes count batches, and memory does not depend on their size",
        _COUNT,
    ),
    Flag(
        "num_workers",
        "decoding threads (default: one per CPU that this process may use)",
        _COUNT,
        "--workers",
    ),
    Flag(
        "flush_every",
        "batches between flushes; an interrupted run continues at its last flush",
        _COUNT,
    ),
    Flag(
        "on_error",
        "leave out bad inputs and list them, or stop at the first",
        {"choices": ["quarantine", "raise"]},
    ),
    Flag(
        "max_bad_fraction",
        "stop if more than this fraction, 0 to 1, of the photographs is rejected",
        _SHARE,
    ),
    Flag(
        "progress",
        "show no progress bar and log no progress",
        {"action": "store_false"},
        "--no-progress",
    ),
    Flag(
        "follow_links",
        "follow no links to folders, and no links out of the directory with photographs",
        {"action": "store_false"},
        "--no-links",
    ),
    Flag(
        "report",
        "write report.html into the output directory, a page that shows the files and what was "
        "left out; needs npz-vision-data[report]",
        {"action": "store_true"},
    ),
)
TRAIN_SPLIT: Final = Flag(
    "train_split",
    "fraction, 0 to 1, of the photographs without an official split that go to train",
    _SHARE,
)
