"""Shards at a URL: found by their records, published when they are made, finalized without pixels.

    train_detector-00003-of-00012.npz                      the shard
    processing.shards/train_detector-00003-of-00012.json   its record, put last

A shard is there if its record and all files that the record lists are there. The work directory may
be lost at any time. It keeps no finished shard, so that a job may make more than its disk holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from processing.core.errors import InterferenceError
from processing.npz.sets import Manifest
from processing.remote.files import in_parallel
from processing.run.file_record import FileRecord, tail_crc32
from processing.run.output_directory import list_paths
from processing.run.shard_records import PlannedShard, read_records
from processing.run.shards import ShardPlan
from processing.run.upload import RemoteOutput, record_name


class RemoteShards:
    """The published shards at a URL, as they are when this object is made.

    Args:
        output: the URL.
        names: of the NPZ files of all shards.
    """

    def __init__(self, output: RemoteOutput, names: Iterable[str]) -> None:
        self.location = output.url
        self._output, self._names = output, list(names)
        self._sizes, self._listed = output.sizes(), output.record_names()

    def are_all_there(self, plan: ShardPlan, names: Sequence[str]) -> bool:
        """Whether a shard has all its files and records, whatever they hold.

        Args:
            plan: the shard.
            names: of its files, without the shard's number and the ending.
        """
        files = [f"{name}{plan.shard.ending}.npz" for name in names]
        return all(name in self._sizes and record_name(name) in self._listed for name in files)

    def recipes(self, shard: PlannedShard) -> list[str | None]:
        """Returns the recipe of each file; None if there is none."""
        return [None if record is None else record.recipe for record in self.records(shard)]

    def records(self, shard: PlannedShard) -> list[FileRecord | None]:
        """Returns the record of each file; None if it is not there."""
        return [self._records.get(shard.path(file).name) for file in shard.files]

    @functools.cached_property
    def _records(self) -> dict[str, FileRecord]:
        """All records of the set, by the name of the NPZ file: many small requests at a time."""
        listed = [name for name in self._names if record_name(name) in self._listed]
        found = in_parallel(self._output.read_record, [record_name(name) for name in listed])
        return {
            name: record
            for name, record in zip(listed, found, strict=True)
            if record is not None and record.sizes.items() <= self._sizes.items()
        }

    def write_manifest(self, name: str, manifest: Manifest) -> list[str]:
        """Puts the manifest of a set, unless it is there; returns its name if it was put."""
        return self._output.put_content(f"{name}.json", manifest.encode())


def names_of(shard: PlannedShard) -> list[str]:
    """Returns the names of all files of a shard at a URL: NPZ files, lists and records."""
    names = []
    for file in shard.files:
        path = shard.path(file)
        names += [record_name(path.name), path.name, *(each.name for each in list_paths(path))]
    return names


def up_to_date(
    output: RemoteOutput, shard: PlannedShard, content_crc32: Callable[[], NDArray[np.uint32]]
) -> list[FileRecord] | None:
    """Returns the records of a shard that is whole, and made of these images; else None.

    Args:
        output: the URL.
        shard: the shard.
        content_crc32: gives uint32 (N,), of each image of the shard; may have to read them.

    Raises:
        OSError: the server does not answer, or refuses.
    """
    names = [record_name(shard.path(file).name) for file in shard.files]
    records = [record for record in in_parallel(output.read_record, names) if record is not None]
    if [record.recipe for record in records] != [file.recipe for file in shard.files]:
        return None
    files = [
        (name, size, record.tails[name])
        for record in records
        for name, size in record.sizes.items()
    ]
    if not all(in_parallel(lambda file: output.has(*file), files)):
        return None
    checksums = content_crc32()
    expected = [file.fingerprint(checksums) for file in shard.files]
    return records if [record.fingerprint for record in records] == expected else None


def publish(output: RemoteOutput, shard: PlannedShard) -> tuple[list[FileRecord], list[str]]:
    """Puts the finished files of a shard, then their records.

    Returns:
        The records, and the names of the files that were put.

    Raises:
        ForeignFileError: a file of another program would be replaced.
        NPZFormatError: a file was damaged after it was written.
        OSError: the server does not answer, or refuses.
    """
    records: list[FileRecord] = []
    put: list[str] = []
    for file, record in zip(shard.files, read_records(shard), strict=True):
        path = shard.path(file)
        if record is None:
            raise InterferenceError(
                f"{path}: changed after it was written: does another process write there? Run again"
            )
        name, content = record_name(path.name), msgspec.json.encode(record)
        # Nobody must take the new file for the one that the old record describes.
        put += output.put_files(path, before=functools.partial(output.remove_other, name, content))
        put += output.put_content(name, content)
        records.append(record)
    return records, put


def update_lists(
    output: RemoteOutput, shard: PlannedShard, records: Sequence[FileRecord]
) -> tuple[list[FileRecord], list[str]]:
    """Brings the lists of a shard that is up to date to the present annotation files.

    Returns:
        The records, and the names of the files that were put.
    """
    for file, record in zip(shard.files, records, strict=True):
        for path in list_paths(shard.path(file)):
            path.unlink(missing_ok=True)
            if path.name in record.sizes:
                output.download(path.name, path)
    shard.published.update_lists(shard.files)
    now: list[FileRecord] = []
    put: list[str] = []
    for file, record in zip(shard.files, records, strict=True):
        lists = [path for path in list_paths(shard.path(file)) if path.exists()]
        sizes = record.sizes | {path.name: path.stat().st_size for path in lists}
        tails = record.tails | {path.name: tail_crc32(path) for path in lists}
        bad = list(shard.published.bad_images_of([file]).values())
        current = msgspec.structs.replace(record, sizes=sizes, tails=tails, bad_images=bad)
        now.append(current)
        for path in lists:
            put += output.put_or_remove(path)
        if current != record:
            name = record_name(shard.path(file).name)
            put += output.put_content(name, msgspec.json.encode(current))
    return now, put


def delete_local(shard: PlannedShard) -> None:
    """Deletes the files of a shard on this machine, which are at the URL now."""
    for file in shard.files:
        for path in (*list_paths(shard.path(file)), shard.path(file)):
            path.unlink(missing_ok=True)
