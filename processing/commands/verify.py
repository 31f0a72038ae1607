"""``python -m processing verify FILE…``: whether NPZ files are as they were written.

Exit status: 0 all are, 1 some are damaged or cannot be read, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from processing.commands.console import print_error, print_result
from processing.lazy_dataset import LazyNPZDataset

EXIT_SOUND, EXIT_DAMAGED = 0, 1


def add_verify_command(parser: argparse.ArgumentParser) -> None:
    """Gives a subcommand's parser its arguments, and what is to be run with them."""
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="NPZ files")
    cache_dir = "where compressed members are unpacked to, and stay; default: a temporary directory"
    parser.add_argument("--cache-dir", metavar="DIR", type=Path, help=cache_dir)
    parser.set_defaults(run=verify_command)


def verify_command(options: argparse.Namespace) -> int:
    """Verifies each file; says on stdout which are sound, on stderr what is wrong with the rest."""
    with tempfile.TemporaryDirectory() as temporary:  # verifying leaves nothing beside a file
        return _verify_files(options.files, options.cache_dir or Path(temporary))


def _verify_files(files: Sequence[Path], cache_dir: Path) -> int:
    status = EXIT_SOUND
    for file in files:
        try:
            with LazyNPZDataset(file, cache_dir=cache_dir) as dataset:
                dataset.verify()
                print_result(f"{file}: ok, {_summary(dataset)}")
        except Exception as error:  # whatever one file does, the others are looked at
            notes = "; ".join(getattr(error, "__notes__", ()))
            where = "" if str(file) in str(error) else f"{file}: "
            print_error(f"{where}{type(error).__name__}: {error}{'; ' if notes else ''}{notes}")
            status = EXIT_DAMAGED
    return status


def _summary(dataset: LazyNPZDataset) -> str:
    height, width = dataset.image_size
    checked = (
        "every row has its checksum"
        if "image_crc32" in dataset.columns.npz
        else "made by others: members have checksums, rows have none"
    )
    size = dataset.path.stat().st_size
    return f"{len(dataset):,} rows, {dataset.task} {height}x{width}, {size:,} bytes; {checked}"
