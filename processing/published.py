"""What lies in an output directory: metadata, rejection lists, obsolete files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from isal.isal_zlib import crc32

from processing.core.annotations import SPLITS
from processing.core.error_notes import naming
from processing.core.errors import NPZFormatError, Rejection
from processing.core.files import remove_durably, write_durably
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.output_directory import FILE_NAMES, npz_path, rejections_path


def stored_metadata(npz: Path) -> dict[str, Any]:
    """The metadata of a file of ours; empty where there is none, or it is damaged."""
    try:
        return msgspec.json.decode(str(MappedNPZ(npz)["metadata"]), type=dict[str, Any])
    except (FileNotFoundError, NPZFormatError, KeyError, msgspec.DecodeError):
        return {}


def sound_metadata(npz: Path) -> dict[str, Any]:
    """The metadata of a file of ours; empty where there is none, or no dataset can be opened."""
    try:
        return dict(Contents.read(MappedNPZ(npz), will_gather=False).metadata)
    except (FileNotFoundError, NPZFormatError):
        return {}


def write_rejections(npz: Path, rejections: Sequence[Rejection]) -> None:
    """Lists what was left out, one JSON object a line; no list where that is nothing."""
    if rejections:
        lines = [msgspec.json.encode(rejection) + b"\n" for rejection in rejections]
        write_durably(rejections_path(npz), b"".join(lines))
    else:
        remove_durably(rejections_path(npz))


def read_rejections(npz: Path) -> list[Rejection]:
    """What is listed; nothing where there is no list, or it is damaged."""
    try:
        with naming(rejections_path(npz)):
            lines = rejections_path(npz).read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Rejection) for line in lines]
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def rejections_crc32(rejections: Iterable[Rejection]) -> int:
    """What tells lists of rejections apart."""
    return crc32(msgspec.json.encode([rejection.verdict for rejection in rejections]))


def remove_orphaned_lists(directory: Path) -> None:
    """Removes the lists of files that are not there: a killed run had written them."""
    for npz in (npz_path(directory, name) for name in FILE_NAMES):
        if not npz.exists() and rejections_path(npz).exists():
            remove_durably(rejections_path(npz))


def remove_obsolete(directory: Path, tasks: Iterable[str], planned: Iterable[str]) -> list[str]:
    """Removes files of splits that the data has no longer, whose images are elsewhere now.

    Args:
        directory: the output directory.
        tasks: names of the tasks that were made; files of others stay.
        planned: names of the files that belong there.

    Returns:
        Names of the files removed. Only files of ours are, never one without our metadata.
    """
    ours = {f"{split}_{task}" for split in SPLITS for task in tasks}
    removed = []
    for name in sorted(ours - set(planned)):
        npz = npz_path(directory, name)
        if "recipe" in stored_metadata(npz):
            remove_durably(rejections_path(npz))  # first: nobody would look for it without the file
            npz.unlink()
            removed.append(npz.name)
    return removed
