"""Which files the data no longer has: those of other splits, of other divisions into shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from processing.core.annotations import SPLITS
from processing.npz.sets import ShardFile


def obsolete_sets(tasks: Iterable[str], planned: Collection[str]) -> list[str]:
    """Returns the names of the sets that a run does not make.

    Args:
        tasks: names of the tasks that were processed; files of other tasks stay.
        planned: names of the files that belong there, without endings.
    """
    planned_sets = {found.name for name in planned if (found := ShardFile.parse(f"{name}.npz"))}
    return sorted(_names(tasks) - planned_sets)


def obsolete_files(
    names: Iterable[str], tasks: Iterable[str], planned: Collection[str]
) -> list[str]:
    """Returns the NPZ files that a run does not make: training on both would leak.

    Args:
        names: of all files of the output directory.
        tasks: as for `obsolete_sets`.
        planned: as for `obsolete_sets`.
    """
    ours, planned = _names(tasks), set(planned)
    npzs = [name for name in sorted(names) if name.endswith(".npz")]
    return [
        name for name in npzs if _set_of(name) in ours and name.removesuffix(".npz") not in planned
    ]


def _set_of(npz: str) -> str:
    shard = ShardFile.parse(npz)
    return npz.removesuffix(".npz") if shard is None else shard.name


def for_report(names: Iterable[str]) -> list[str]:
    """Returns the names of deleted files, all shards of a set as one."""
    shown: dict[str, None] = {}
    for name in names:
        shard = ShardFile.parse(name)
        text = name if shard is None else f"{shard.name}-*-of-{shard.shard.total:05}.npz"
        shown[text] = None
    return list(shown)


def _names(tasks: Iterable[str]) -> set[str]:
    return {f"{split}_{task}" for split in SPLITS for task in tasks}
