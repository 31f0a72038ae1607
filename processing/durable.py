"""Making files and names durable: a file is there whole under its final name, or not at all.

The order is the one that survives a power cut on POSIX file systems: data, fsync, rename, fsync of
the directory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from processing.error_notes import naming
from processing.named_file import NamedFile


def make_directory(directory: Path) -> None:
    """Makes a directory and its missing parents, if it is absent, and makes their names durable."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` durable; Windows, which cannot open one, does so itself."""
    if os.name == "nt":
        return
    with naming(directory):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` atomically, through a sibling named ``NAME.partial``."""
    partial = _partial(path)
    with contextlib.closing(NamedFile(partial, "wb")) as file:
        file.write(content)
        file.sync()
    partial.replace(path)
    sync_directory(path.parent)


def remove_durably(path: Path) -> None:
    """Removes `path`, if it is there, and what a killed `write_durably` left beside it."""
    path.unlink(missing_ok=True)
    _partial(path).unlink(missing_ok=True)
    sync_directory(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
