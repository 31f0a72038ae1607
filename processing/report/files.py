"""The files that a report is about: those of directories, single files, and sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from processing.core.annotations import SPLITS
from processing.core.errors import IncompleteSetError, NPZFormatError
from processing.core.urls import URL, Location
from processing.imaging.tasks import TASKS
from processing.npz.contents import Contents
from processing.npz.set_contents import SetContents
from processing.npz.sets import (
    PATTERN_END,
    ShardFile,
    dataset_path,
    is_set,
    manifest_path,
    read_manifest,
    set_location,
    shard_path,
    unfinished,
)
from processing.report.text import without_path

_MANIFEST: Final = ".json"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file or set.

    Args:
        name: of the file; of a set ``train_detector-*.npz``.
        split: its split; the name of the file, if another program wrote it.
        contents: its rows.
        npz: the file, or the shards of a set: the lists lie next to these.
    """

    name: str
    split: str
    contents: Contents | SetContents
    npz: Sequence[Location]

    @property
    def task(self) -> str:
        """``detector``, ``landmarker`` or ``teacher``."""
        return self.contents.task

    @property
    def directory(self) -> Location:
        """The output directory."""
        return self.contents.path.parent

    def category(self, label: int) -> str:
        """Returns the name of a category; its number if it has no name."""
        names = self.contents.category_names
        return names[label] if label < len(names) else str(label)

    @property
    def key(self) -> tuple[int, str, int, str]:
        """Sorts files by split, then by task, in the order in which people name them."""
        split = SPLITS.index(self.split) if self.split in SPLITS else len(SPLITS)
        return split, self.split, list(TASKS).index(self.task), self.name


class Place(NamedTuple):
    """A row of one of some files."""

    file: int
    row: int


@dataclass(slots=True)
class Found:
    """All files of a report.

    Args:
        files: in the order of their splits.
        unreadable: (name, message) of files that cannot be opened.
        directories: that hold them.
    """

    files: list[DataFile] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    directories: list[Location] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """All splits, each once, in the order of the files."""
        return list(dict.fromkeys(file.split for file in self.files))

    @property
    def tasks(self) -> list[str]:
        """All tasks, each once, in the usual order."""
        there = {file.task for file in self.files}
        return [task for task in TASKS if task in there]


def find_files(places: Sequence[Location], cache_dir: Path | None = None) -> Found:
    """Opens all files and sets at some places. A file that cannot be opened is listed.

    Args:
        places: directories of NPZ files, files, or sets (``NAME-*.npz`` or the manifest).
        cache_dir: for unpacked copies of compressed members; None: next to the file.

    Raises:
        FileNotFoundError: there is nothing at a place, or no place has a file.
    """
    found = Found()
    paths: dict[Location, None] = {}  # in order, each once
    for place in places:
        directory = place if _is_directory(place) else place.parent
        if directory not in found.directories:
            found.directories.append(directory)
        paths.update(dict.fromkeys(_paths_at(place)))
    for path in paths:
        try:
            found.files.append(_open(path, cache_dir))
        except (OSError, NPZFormatError) as error:
            found.unreadable.append((path.name, without_path(str(error), path)))
    if not paths:
        names = ", ".join(map(str, places))
        raise FileNotFoundError(
            f"{names}: no NPZ file there; expected the output directory of the processor, such as "
            "data/preprocessed, a file, or a set"
        )
    found.files.sort(key=lambda file: file.key)
    _tell_apart(found.files)
    return found


def _tell_apart(files: list[DataFile]) -> None:
    """Names the directories of files that have one name, as far as they differ."""
    parts = [str(file.contents.path).split("/") for file in files]
    for length in range(2, max(map(len, parts), default=0)):
        counts = Counter(file.name for file in files)
        for i, file in enumerate(files):
            if counts[file.name] > 1:
                files[i] = replace(file, name="/".join(parts[i][-length:]))


def _is_directory(place: Location) -> bool:
    if isinstance(place, URL):
        return not place.name.endswith((".npz", _MANIFEST))
    return place.is_dir()


def _paths_at(place: Location) -> Iterable[Location]:
    """Returns the files and sets at a place.

    Raises:
        FileNotFoundError: there is nothing.
    """
    if not _is_directory(place):
        if place.name.endswith(_MANIFEST):
            return [place.parent / (place.name.removesuffix(_MANIFEST) + PATTERN_END)]
        if isinstance(place, Path) and not is_set(place) and not place.exists():
            raise FileNotFoundError(
                f"{place}: not there; expected a directory of NPZ files, a file, or a set"
            )
        return [place]
    if isinstance(place, URL):  # a web server lists no files
        return _known_names(place)
    return _in_directory(place)


def _known_names(directory: Location) -> Iterator[Location]:
    for split in SPLITS:
        for task in TASKS:
            try:
                yield dataset_path(directory, f"{split}_{task}")
            except FileNotFoundError:
                continue


def _in_directory(directory: Path) -> Iterator[Location]:
    """Yields all NPZ files of a directory, all shards of a set as one."""
    sets = set()
    for path in sorted(directory.glob("*.npz")):
        shard = ShardFile.parse(path.name)
        if shard is None:
            yield path
        elif shard.name not in sets:
            sets.add(shard.name)
            yield directory / (shard.name + PATTERN_END)
    for path in sorted(directory.glob(f"*{_MANIFEST}")):
        try:
            read_manifest(path)
        except (NPZFormatError, OSError):
            continue  # some other JSON file
        if path.stem not in sets:  # a set of which all shards are missing
            yield directory / (path.stem + PATTERN_END)


def _open(path: Location, cache_dir: Path | None) -> DataFile:
    """Opens a file or set.

    Raises:
        OSError, NPZFormatError: it cannot be opened.
    """
    contents: Contents | SetContents
    if not is_set(path):
        contents = Contents.open(path, cache_dir=cache_dir)
        return DataFile(path.name, _split_of(path.stem, contents), contents, [path])
    directory, name = set_location(path)
    if not isinstance(directory, URL) and not manifest_path(directory, name).exists():
        raise unfinished(directory, name) or IncompleteSetError(f"{path}: has no manifest")
    contents = SetContents(path, cache_dir=cache_dir)
    manifest = read_manifest(manifest_path(directory, name))
    shards = [shard_path(directory, name, shard) for shard in manifest.all_shards()]
    return DataFile(path.name, _split_of(name, contents), contents, shards)


def _split_of(name: str, contents: Contents | SetContents) -> str:
    split = contents.metadata.get("split", name.partition("_")[0])
    return split if isinstance(split, str) and split in SPLITS else name


def sample(rows: int, count: int) -> list[int]:
    """Returns some rows by chance, in ascending order; the same ones in each call."""
    if rows <= count:
        return list(range(rows))
    chosen = np.random.default_rng(0).choice(rows, count, replace=False)
    return sorted(chosen.tolist())
