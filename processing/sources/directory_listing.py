"""Lists a raw directory: every file and folder below it, and the links that are not followed.

Of a raw directory at a URL, somebody else has the list: `RemoteFiles`.

Opens no file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from processing.core.errors import AnnotationError, SourceError, SourceNotFoundError

_MAX_LINKED_FOLDERS: Final = 10_000
"""Links that lead to folders with links to folders can multiply without end."""


class RemoteFiles(Protocol):
    """The files below a URL."""

    @property
    def place(self) -> str:
        """The URL."""

    @property
    def names(self) -> Collection[str]:
        """All files, relative to the URL."""

    def size(self, name: str) -> int:
        """Returns the bytes of a file."""

    def copy(self, names: Sequence[str]) -> None:
        """Copies files to the local directory, unless their copies are up to date."""


def is_hidden(path: str) -> bool:
    """Whether a file or one of its folders has a hidden name."""
    return path.startswith(".") or "/." in path


def folders_of(paths: Iterable[str]) -> list[str]:
    """Lists all folders that hold one of some files, at any depth."""
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(folders)


def list_directory(
    root: Path, *, follow_links: bool
) -> tuple[list[str], list[str], list[str], list[tuple[str, str]]]:
    """Lists a directory and all folders below it.

    Returns:
        All files, also links and special files; the files that are links or special files; all
        folders; and the linked folders that were not entered, with the reason.

    Raises:
        SourceNotFoundError: `root` is not a directory.
        SourceError: a folder cannot be listed, or too many folders are linked.
    """
    if not root.is_dir():
        problem = "is not a directory" if root.exists() else "does not exist"
        raise SourceNotFoundError(
            f"raw directory {root.absolute()} {problem}; "
            "raw_data_dir must name the folder that holds the images and their annotations"
        )
    files: list[str] = []
    irregular: list[str] = []
    folders: list[str] = []
    skipped: list[tuple[str, str]] = []
    entered_links = 0
    # Each folder with the real paths of the folders where links were taken on the way to it.
    pending: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while pending:
        prefix, trail = pending.pop()
        for entry in _entries(root, prefix):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and not _is_junction(entry):
                folders.append(path)
                pending.append((f"{path}/", trail))
            # entry.is_dir() would raise for a link that leads to itself.
            elif _is_link(entry) and os.path.isdir(entry):  # noqa: PTH112 - see above
                trail_here = (*trail, os.path.realpath(root / prefix))
                problem = _not_to_enter(root / path, trail_here, follow_links=follow_links)
                if problem:
                    skipped.append((path, problem))
                    continue
                entered_links += 1
                if entered_links > _MAX_LINKED_FOLDERS:
                    raise SourceError(
                        f"{root / path}: more than {_MAX_LINKED_FOLDERS:,} linked folders; are "
                        "there links to folders that hold links to folders?"
                    )
                folders.append(path)
                pending.append((f"{path}/", trail_here))
            else:
                files.append(path)
                if not entry.is_file(follow_symlinks=False):
                    irregular.append(path)
    return files, irregular, folders, skipped


def _is_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() or _is_junction(entry)


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link of Windows to a folder, which Python also calls a folder."""
    is_junction = getattr(entry, "is_junction", None)  # Python 3.11 cannot tell
    return is_junction is not None and bool(is_junction())


def _entries(root: Path, prefix: str) -> list[os.DirEntry[str]]:
    """Lists one folder, without hidden names."""
    try:
        with os.scandir(root / prefix) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        message = f"folder {error.filename} cannot be listed: {error.strerror}"
        raise SourceError(message) from error


def _not_to_enter(link: Path, trail: tuple[str, ...], *, follow_links: bool) -> str:
    """Explains why a linked folder is not entered; ``""`` if it may be.

    Args:
        link: the link.
        trail: real paths of the folders that this link and those on the way to it lie in.
        follow_links: whether links may be followed at all.
    """
    real = os.path.realpath(link)
    if not follow_links:
        return f"a link to the folder {real}, not entered because follow_links is False"
    # Entering a folder that the link lies in would never end.
    if any(f"{folder}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}") for folder in trail):
        return f"a link to {real}, a folder above it; not entered, since that would never end"
    return ""


def refusals_of(
    root: Path, irregular: Iterable[str], *, follow_links: bool
) -> dict[str, AnnotationError]:
    """Finds the links and special files that must not be opened, and why.

    Args:
        root: the raw directory.
        irregular: links and special files that are not images. A decoder opens images later, and
            has its own checks.
        follow_links: whether links may lead out of the raw directory.
    """
    refused = {}
    for path in irregular:
        error = _refusal(root, path, follow_links=follow_links)
        if error is not None:
            refused[path] = error
    return refused


def _refusal(root: Path, path: str, *, follow_links: bool) -> AnnotationError | None:
    """Explains why a link or special file must not be opened; None for a harmless link."""
    real, inside = os.path.realpath(root / path), os.path.realpath(root)
    if not follow_links and not real.startswith(f"{inside}{os.sep}"):
        return AnnotationError(
            f"a link that leads out of the raw directory, to {real}, and follow_links is False: "
            "copy the file here, or allow links",
            reason="outside_raw_dir",
        )
    if os.path.isfile(real):  # noqa: PTH113 - a path of os.path.realpath
        return None
    is_link = os.path.islink(root / path)  # noqa: PTH114 - as above
    found = "a link to nothing" if is_link else "no regular file"
    return AnnotationError(f"{found}: expected a file", reason="not_a_file")
