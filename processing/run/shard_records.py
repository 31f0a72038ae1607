"""The plan and the published files of one shard, as finalizing the set sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from processing.core.annotations import AnnotationTable
from processing.core.errors import Rejection
from processing.core.files import write_durably
from processing.npz.mapped import MappedNPZ
from processing.npz.sets import Manifest, manifest_path
from processing.run.file_record import CRC32_TYPE, FileRecord, tail_crc32
from processing.run.file_report import FileReport
from processing.run.input_cache import InputCache
from processing.run.output_directory import (
    list_paths,
    npz_path,
    shard_directory,
    sound_metadata,
    stored_metadata,
)
from processing.run.plan import PlannedFile
from processing.run.processing_report import RunCounts
from processing.run.published import PublishedFiles
from processing.run.shards import ShardPlan


class PlannedShard(NamedTuple):
    """One shard, with the plan of its files.

    Args:
        plan: its split, number and images.
        directory: of the run that makes it.
        table: the annotations of its images.
        files: one for each task.
        rejections: annotations that were left out, if this shard lists them.
    """

    plan: ShardPlan
    directory: Path
    table: AnnotationTable
    files: list[PlannedFile]
    rejections: tuple[Rejection, ...]

    @property
    def published(self) -> PublishedFiles:
        """Its files on this machine."""
        return PublishedFiles(self.directory, self.table, self.rejections)

    def path(self, file: PlannedFile) -> Path:
        """Returns where one of its files is published on this machine."""
        return npz_path(self.directory, file.name)


class ShardResult(NamedTuple):
    """The result of making one shard.

    Args:
        files: the report of each of its files.
        counts: what its run did.
        put: names of the files that were put at a URL.
        continued: name of the shard, if an earlier run had begun it and was interrupted.
    """

    files: tuple[FileReport, ...]
    counts: RunCounts
    put: tuple[str, ...] = ()
    continued: str | None = None


def read_records(shard: PlannedShard) -> list[FileRecord | None]:
    """Reads the files of a shard on this machine.

    Returns:
        A record for each planned file; None for a file that is absent, cannot be opened, or is of
        other annotations or options.
    """
    cache = InputCache(shard.directory)
    return [_read_record(shard, file, cache) for file in shard.files]


def _read_record(shard: PlannedShard, file: PlannedFile, cache: InputCache) -> FileRecord | None:
    path = shard.path(file)
    metadata = sound_metadata(path)
    if metadata.get("recipe") != file.recipe:
        return None
    bad = list(shard.published.bad_images_of([file]).values())
    images = shard.table.image_paths[file.images].tolist()
    checksums = cache.known_crc32(images)
    undecoded = {rejection.path for rejection in bad if rejection.stage in ("read", "decode")}
    if undecoded:
        checksums[[image in undecoded for image in images]] = 0
    files = [each for each in (path, *list_paths(path)) if each.exists()]
    return FileRecord(
        recipe=file.recipe,
        fingerprint=metadata["fingerprint"],
        counts=metadata["counts"],
        content_id=MappedNPZ(path).content_id,
        sizes={each.name: each.stat().st_size for each in files},
        tails={each.name: tail_crc32(each) for each in files},
        bad_images=bad,
        crc32=checksums.astype(CRC32_TYPE).tobytes(),
    )


class LocalShards:
    """The published shards in an output directory.

    Args:
        directory: the output directory.
    """

    def __init__(self, directory: Path) -> None:
        self.location = directory

    def are_all_there(self, plan: ShardPlan, names: Sequence[str]) -> bool:
        """Whether a shard has all its files, whatever they hold.

        Args:
            plan: the shard.
            names: of its files, without the shard's number and the ending.
        """
        directory = shard_directory(self.location, plan.split, plan.shard)
        return all(npz_path(directory, name).exists() for name in names)

    def recipes(self, shard: PlannedShard) -> list[str | None]:
        """Returns the recipe of each file; None if there is none. Cheaper than `records`."""
        return [stored_metadata(shard.path(file)).get("recipe") for file in shard.files]

    def records(self, shard: PlannedShard) -> list[FileRecord | None]:
        """Returns the record of each file; None if it is not as planned."""
        return read_records(shard)

    def write_manifest(self, name: str, manifest: Manifest) -> list[str]:
        """Writes the manifest of a set, unless it is there; returns its name if it was written."""
        path, content = manifest_path(self.location, name), manifest.encode()
        if path.exists() and path.read_bytes() == content:
            return []
        write_durably(path, content)
        return [path.name]
