"""Finds the photographs that ``source`` names: a file, a folder, a pattern, or several of these."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from processing.sources.paths import is_image_name
from training.exit_status import SettingsError


class Photographs(NamedTuple):
    """The photographs to predict on.

    Args:
        root: the folder that all lie in; names are relative to it.
        files: paths, sorted, each once.
        ignored: number of files in folders and patterns that have no name of an image.
    """

    root: Path
    files: list[Path]
    ignored: int

    def name(self, file: Path) -> str:
        """Return a file's path relative to `root`, ``/`` separated."""
        return file.relative_to(self.root).as_posix()


def find_photographs(source: str | Sequence[str] | None) -> Photographs:
    """Find the photographs.

    Args:
        source: a file, a folder with all its subfolders, a pattern such as ``photos/*.jpg``, or
            several of these.

    Raises:
        SettingsError: `source` is empty, or names no photograph.
    """
    places = [source] if isinstance(source, str) else list(source or ())
    if not all(places) or not places:
        raise SettingsError(
            "source is required: a photograph, a folder of photographs, or a pattern such as "
            "source='photos/*.jpg'"
        )
    roots: list[Path] = []
    found: set[Path] = set()
    ignored = 0
    for place in places:
        root, files = _files(str(place))
        images = [file for file in files if is_image_name(file.name)]
        if files == [_absolute(place)]:
            images = files  # a file that is named is taken for an image, whatever its name
        if not images:
            raise SettingsError(
                f"source={place}: there is no photograph; {len(files)} other files were found"
            )
        roots.append(root)
        found.update(images)
        ignored += len(files) - len(images)
    return Photographs(Path(os.path.commonpath(roots)), sorted(found), ignored)


def _files(place: str) -> tuple[Path, list[Path]]:
    """Return the folder that a place's files are named from, and the files, as absolute paths.

    Raises:
        SettingsError: there is no such file or folder.
    """
    path = _absolute(place)
    if path.is_dir():
        return path, list(_below(path))
    if path.exists():
        return path.parent, [path]
    if not glob.has_magic(place):
        raise SettingsError(f"source={place}: there is no such file or folder")
    root = path
    while glob.has_magic(str(root)):
        root = root.parent
    # Not `Path.glob`: it would take a pattern such as `[0]` in the folder's own name literally.
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    return root, [match for match in matches if match.is_file()]


def _absolute(place: str) -> Path:
    # Not `resolve`: a link to a photograph keeps its own name.
    return Path(os.path.abspath(Path(place).expanduser()))  # noqa: PTH100 - see above


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders; hidden ones are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield Path(parent, name)
