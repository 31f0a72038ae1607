"""``npz-vision verify FILE…``: checks that NPZ files are as they were written.

Opens files without `LazyNPZDataset`, because torch takes longer to import than most files to
verify, and need not be installed where files are only kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    print_result,
)
from processing.commands.places import add_cache_dir, for_each_file, location
from processing.core.messages import counted
from processing.core.urls import Location

_SET: Final = "for all shards of a set, give its manifest, such as train_detector.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Compares every byte of NPZ files with their checksums, and the values with each other. "
        "Prints one line per file.",
        ["data/preprocessed"],
        f"Exit status: {EXIT_SUCCESS} all files are sound, {EXIT_FAILURE} a file is damaged or "
        f"cannot be read, {EXIT_USAGE} wrong usage, "
        f"{EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=location,
        help="NPZ files; NAME.json, the manifest of a set, for all its shards; or a directory, for "
        "all files and sets in it. Files at a URL are copied to a temporary file first",
    )
    add_cache_dir(parser)


def run(options: argparse.Namespace) -> int:
    """Verifies each file; prints a line about it to stdout if it is sound, otherwise to stderr.

    Returns:
        The exit status.
    """
    return for_each_file(options.files, options.cache_dir, _print_line)


def _print_line(path: Location, cache_dir: Path) -> None:
    print_result(_verify(path, cache_dir))


def _verify(file: Location, cache_dir: Path) -> str:
    """Verifies one file or set and returns the line about it."""
    # Imported here, as below: help needs none of it.
    from processing.core.channels import stored_channel_axis
    from processing.core.errors import NPZFormatError
    from processing.npz.contents import Contents
    from processing.npz.format import first_look
    from processing.npz.sets import is_set
    from processing.npz.verify import verify_columns

    if is_set(file):
        return _verify_set(file, cache_dir)
    try:
        contents = Contents.open(file, cache_dir=cache_dir)
    except (OSError, NPZFormatError) as error:
        if not file.name.endswith(".npz"):  # such as a directory
            error.add_note(_SET)
        raise
    verify_columns(contents)
    checked = "made by others: members have checksums, rows have none"
    if "image_crc32" in contents.npz:
        checked = "every row has its checksum"
    shape = contents.stored.shape
    part = first_look(contents.metadata)
    height, width = shape[1:] if stored_channel_axis(shape) == 0 else shape[:2]
    return (
        f"{file}: ok, {counted(len(contents), 'row')}, {contents.task} {height}x{width}, "
        f"{contents.npz.file_bytes:,} bytes; "
        f"{checked}{part and f'; {part}'}"
    )


def _verify_set(path: Location, cache_dir: Path) -> str:
    """Verifies all shards of a set ``NAME-*.npz``, and that they are those of its manifest."""
    from processing.npz.set_contents import SetContents
    from processing.npz.sets import manifest_path, set_location
    from processing.npz.verify import verify_columns

    contents = SetContents(path, cache_dir=cache_dir)
    for shard in contents.parts():
        verify_columns(shard)
    shards, rows = len(contents.offsets) - 1, len(contents)
    manifest = manifest_path(*set_location(path))
    return f"{manifest}: ok, {counted(rows, 'row')} in {counted(shards, 'shard')}, {contents.task}"
