"""Checks of a place where a program is going to write, before it works for hours.

Messages have one form: the argument, its value, the finding, and what to do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LOOKED_AT: Final = 4_096  # bytes of a file that tell who wrote it


def refuse_unwritable(name: str, path: Path, *, is_directory: bool) -> None:
    """Checks that this user can write a file or directory; missing folders can be made.

    Args:
        name: of the argument, for the message.
        path: the file, which is replaced, or the directory, which gets files.
        is_directory: whether the path is that of a directory.

    Raises:
        FileExistsError: a file has the name of the directory.
        NotADirectoryError: a file has the name of a folder above.
        PermissionError: this user may not write there.
    """
    folder = path.absolute() if is_directory else path.absolute().parent
    # A link that leads nowhere is in the way, too.
    while not folder.exists() and not folder.is_symlink() and folder != folder.parent:
        folder = folder.parent
    begin = f"{name} {path}: cannot be written: "
    if not folder.is_dir():
        kind = FileExistsError if folder == path.absolute() else NotADirectoryError
        raise kind(f"{begin}{folder} is not a folder: choose another place, or move that away")
    effective = os.access in os.supports_effective_ids
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(
            f"{begin}this user may not write to the folder {folder}, or its file system is "
            "read-only: choose another place, or allow it (chmod, or mount it without `ro`)"
        )


def refuse_replacing(name: str, path: Path, mark: bytes, *, force: bool) -> None:
    """Checks that a file may be replaced: one that this package wrote, or any if it is forced.

    Args:
        name: of the argument, for the message.
        path: the file that will be written.
        mark: bytes near the beginning of each such file of this package, and of no other.
        force: whether files of other programs may be replaced, too.

    Raises:
        IsADirectoryError: it is a directory.
        FileExistsError: it is something else that must not be replaced.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{name} {path}: is a directory; expected the name of a file")
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        raise FileExistsError(
            f"{name} {path}: is a device, a pipe, or a link that leads nowhere; choose another name"
        )
    if force:
        return
    with path.open("rb") as file:
        is_ours = mark in file.read(_LOOKED_AT)
    if not is_ours:
        raise FileExistsError(
            f"{name} {path}: is there already, and was not written by this command: choose another "
            "name, or give --force to replace it"
        )
