"""Sets: the samples of one split and task in several files, its shards, with a manifest.

    train_detector-00003-of-00012.npz     a shard, an ordinary file
    train_detector.json                   the manifest, written when all shards are there

The manifest tells how many rows each shard has, so that a set of thousands of shards is opened by
reading one file. Does not import torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

import msgspec

from processing.core.error_notes import with_filename
from processing.core.errors import IncompleteSetError, NPZFormatError
from processing.core.urls import URL, Location
from processing.remote.files import exists, list_files, read_file

AnyPlace = TypeVar("AnyPlace", Path, URL, Location)
"""A directory and what is in it are both paths, or both URLs."""

MANIFEST_VERSION: Final = 1
PATTERN_END: Final = "-*.npz"
"""End of the path that names a set: ``train_detector-*.npz``."""
_SHARD_FILE: Final = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})\.npz")
_NAMED: Final = 5
"""Shards that a message names."""


class Shard(NamedTuple):
    """One part of a set.

    Args:
        number: of the part; the first is 0.
        total: number of parts.
    """

    number: int
    total: int

    @property
    def ending(self) -> str:
        """How the names of its files end: ``-00003-of-00012``."""
        return f"-{self.number:05}-of-{self.total:05}"


class ShardFile(NamedTuple):
    """The name of a shard's file, in its parts.

    Args:
        name: of the set, ``train_detector``.
        shard: number of the part, and of all parts.
    """

    name: str
    shard: Shard

    @classmethod
    def parse(cls, file_name: str) -> Self | None:
        """Returns the parts of a file's name; None if it is no shard's."""
        found = _SHARD_FILE.fullmatch(file_name)
        return None if found is None else cls(found[1], Shard(int(found[2]), int(found[3])))


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a set.

    Args:
        version: of this description.
        task: ``detector``, ``landmarker`` or ``teacher``.
        split: ``train``, ``val`` or ``test``.
        shards: number of shards.
        fingerprint: hash of the fingerprints of all shards.
        rows: rows of each shard.
        sizes: bytes of each shard's file.
        checksums: `MappedNPZ.content_id` of each shard.
    """

    version: int = MANIFEST_VERSION
    task: str
    split: str
    shards: int
    fingerprint: str
    rows: list[int]
    sizes: list[int]
    checksums: list[int]

    def all_shards(self) -> list[Shard]:
        """Returns all shards of the set."""
        return [Shard(number, self.shards) for number in range(self.shards)]

    def encode(self) -> bytes:
        """Returns the content of the manifest's file: JSON with a key on each line."""
        fields = ",\n".join(
            f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(value).decode()}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"{{\n{fields}\n}}\n".encode()


def manifest_path(directory: AnyPlace, name: str) -> AnyPlace:
    """Returns where the manifest of a set is."""
    return directory / f"{name}.json"


def shard_path(directory: AnyPlace, name: str, shard: Shard) -> AnyPlace:
    """Returns where the file of a shard is."""
    return directory / f"{name}{shard.ending}.npz"


def is_at(place: Location) -> bool:
    """Whether there is something at a path or URL."""
    return exists(place) if isinstance(place, URL) else place.exists()


def read_manifest(path: Location) -> Manifest:
    """Reads a manifest.

    Raises:
        FileNotFoundError: there is none.
        NPZFormatError: the file is no manifest, or its parts contradict each other.
    """
    with with_filename(str(path)):
        content = read_file(path) if isinstance(path, URL) else path.read_bytes()
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise NPZFormatError(
            f"{path}: expected the manifest of a set, found other content: {error}; run the "
            "processor with --finalize again"
        ) from error
    if manifest.version != MANIFEST_VERSION:
        raise NPZFormatError(
            f"{path}: expected version {MANIFEST_VERSION}, found {manifest.version}: update this "
            "package, or process the data again"
        )
    lists = {"rows": manifest.rows, "sizes": manifest.sizes, "checksums": manifest.checksums}
    for name, values in lists.items():
        if len(values) != manifest.shards or min(values, default=0) < 0 or not values:
            raise NPZFormatError(
                f"{path}: {name}: expected {manifest.shards} numbers that are not negative, found "
                f"{len(values)}; run the processor with --finalize again"
            )
    return manifest


def is_set(path: Location) -> bool:
    """Whether a path names a set, ``NAME-*.npz``, and is not a file of that name."""
    return path.name.endswith(PATTERN_END) and (isinstance(path, URL) or not path.exists())


def set_location(path: AnyPlace) -> tuple[AnyPlace, str]:
    """Returns directory and name of the set that a path ``NAME-*.npz`` names."""
    return path.parent, path.name.removesuffix(PATTERN_END)


def sizes_of_shards(directory: Location, name: str) -> dict[Shard, int]:
    """Returns the bytes of all shards of a set that are there, also of other numbers of shards."""
    sizes = {}
    for file_name, size in _files_in(directory):
        found = ShardFile.parse(file_name)
        if found is not None and found.name == name:
            sizes[found.shard] = size
    return sizes


def _files_in(directory: Location) -> Iterator[tuple[str, int]]:
    """Yields the names and sizes of the files in a directory."""
    if isinstance(directory, URL):
        yield from ((file.name, file.size) for file in list_files(directory))
        return
    with with_filename(directory), os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name, entry.stat().st_size


def check_complete(directory: Location, name: str, manifest: Manifest) -> None:
    """Checks that all shards of a manifest are there, with the sizes that they had.

    Raises:
        IncompleteSetError: shards are missing, or were replaced by others.
    """
    found = sizes_of_shards(directory, name)
    shards = manifest.all_shards()
    missing = [shard for shard in shards if shard not in found]
    if missing:
        raise IncompleteSetError(
            f"{directory / name}: {len(missing)} of {manifest.shards} shards are missing: "
            f"{_listed(name, missing)}; copy them, or run the processor again"
        )
    other = [
        shard for shard, size in zip(shards, manifest.sizes, strict=True) if found[shard] != size
    ]
    if other:
        raise IncompleteSetError(
            f"{directory / name}: {len(other)} shards have other sizes than the manifest says, so "
            f"they are of other data or cut off: {_listed(name, other)}; copy them again, or run "
            "the processor with --finalize"
        )


def unfinished(directory: Location, name: str) -> IncompleteSetError | None:
    """Returns the error about a set without its manifest; None if there is no shard of it.

    Nothing is known about a directory of a web server, which lists no files.
    """
    if isinstance(directory, URL) and directory.is_on_web_server:
        return None
    found = sizes_of_shards(directory, name)
    if not found:
        return None
    numbers = sorted({shard.total for shard in found})
    if len(numbers) > 1:
        mixed = ", ".join(f"{sum(s.total == n for s in found)} of {n}" for n in numbers)
        return IncompleteSetError(
            f"{directory / name}: has no manifest, and its shards are of sets of different "
            f"lengths: {mixed}; run the processor again"
        )
    (total,) = numbers
    missing = [shard for i in range(total) if (shard := Shard(i, total)) not in found]
    if not missing:
        return IncompleteSetError(
            f"{directory / name}: all {total} shards are there, but not the manifest "
            f"{name}.json: run the processor with --finalize"
        )
    return IncompleteSetError(
        f"{directory / name}: has no manifest, and {len(missing)} of {total} shards are missing: "
        f"{_listed(name, missing)}; run the processor again"
    )


def _listed(name: str, shards: Sequence[Shard]) -> str:
    names = [f"{name}{shard.ending}.npz" for shard in shards[:_NAMED]]
    more = len(shards) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def dataset_path(directory: AnyPlace, name: str) -> AnyPlace:
    """Returns the path of a split and task in a directory: one file, or ``NAME-*.npz`` of a set.

    Args:
        directory: an output directory of the processor, or its URL.
        name: such as ``train_detector``.

    Raises:
        FileNotFoundError: there is neither.
        IncompleteSetError: there are shards, but no manifest.
        NPZFormatError: there is a file and a set.
    """
    file, manifest = directory / f"{name}.npz", manifest_path(directory, name)
    is_file, is_set_there = is_at(file), is_at(manifest)
    if is_file and is_set_there:
        raise NPZFormatError(
            f"{directory / name}: there is a file {file.name} and a set with the manifest "
            f"{manifest.name}: delete one of them"
        )
    if is_file:
        return file
    if not is_set_there:
        raise unfinished(directory, name) or FileNotFoundError(
            f"{file}: not there, and neither is a set {name}{PATTERN_END}"
        )
    return directory / f"{name}{PATTERN_END}"
