"""Making files durable: a file is published whole under its final name, or not at all.

The order is the one that survives a power cut on POSIX file systems: data, fsync, rename, fsync of
the directory.
"""

from __future__ import annotations

import os
from pathlib import Path


def publish(partial: Path, final: Path) -> None:
    """Renames a finished and fsynced sibling over `final` and makes the rename durable."""
    partial.replace(final)
    sync_directory(final.parent)


def sync_directory(directory: Path) -> None:
    """Makes the names in `directory` durable; Windows, which cannot open one, does so itself."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` atomically, through a sibling named ``NAME.partial``."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(partial, path)
