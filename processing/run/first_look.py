"""A first look: a run of `limit` photographs, whose files say so.

The photographs are chosen by a rule of paths and annotations, before any image is read, so that the
same call makes the same files. Each split, and in it each combination of tasks, keeps its share,
and at least one photograph if there are enough. Within these, photographs with the smallest hash of
their path are taken: not the first ones, which may all be of one scene.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processing.core.annotations import AnnotationTable
from processing.core.arguments import check_integer
from processing.core.errors import ForeignFileError
from processing.core.urls import URL, Location
from processing.imaging.tasks import Task
from processing.npz.format import LIMIT_OPTION
from processing.run.journal import header_of
from processing.run.output_directory import JOURNAL_NAME, file_names, stored_metadata
from processing.run.ownership import is_ours
from processing.run.plan import PlannedFile, key_of_plan

_REMEDY: Final = "choose another output_dir for a first look"


def check_limit(limit: int | None, samples_per_shard: int | None, output: Location) -> int | None:
    """Checks the argument `limit`; returns it.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 1, or the files would be shards or at a URL.
    """
    if limit is None:
        return None
    if samples_per_shard is not None:
        raise ValueError("limit makes one small file of each split: leave out samples_per_shard")
    if isinstance(output, URL):
        # Not a TypeError: output_dir may be a URL, but not together with limit.
        raise ValueError(f"limit needs a local output_dir, got {output}")  # noqa: TRY004
    return check_integer("limit", limit, least=1)


def choose(
    table: AnnotationTable,
    splits: NDArray[np.int8],
    tasks: Sequence[Task],
    limit: int,
    seed: int,
) -> NDArray[np.bool_] | None:
    """Chooses the photographs of a first look.

    Args:
        table: the annotations.
        splits: int8 (N,), positions in `SPLITS`.
        tasks: a photograph that none of them uses does not count.
        limit: how many photographs to choose, at least 1.
        seed: key of the hash.

    Returns:
        bool (N,), the chosen photographs; None if there are no more than `limit`, so that a first
        look is a look at all.
    """
    used = np.stack([task.images(table) for task in tasks])
    wanted = np.flatnonzero(used.any(axis=0))
    if len(wanted) <= limit:
        return None
    bits = (1 << np.arange(len(tasks))) @ used[:, wanted]
    _, members, counts = np.unique(
        (splits[wanted].astype(np.int64) << len(tasks)) + bits,
        return_inverse=True,
        return_counts=True,
    )
    key = f"first look {seed}".encode()
    hashes = np.empty(len(wanted), np.uint64)
    for i, path in enumerate(table.image_paths[wanted].tolist()):
        digest = hashlib.blake2b(path.encode(), digest_size=8, key=key).digest()
        hashes[i] = int.from_bytes(digest, "big")
    chosen = np.zeros(len(table), dtype=bool)
    for kind, share in enumerate(_shares(counts, limit).tolist()):
        own = np.flatnonzero(members == kind)
        # The sort is stable, so that the position decides between equal hashes.
        chosen[wanted[own[np.argsort(hashes[own], kind="stable")[:share]]]] = True
    return chosen


def _shares(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Divides `limit` in proportion to `counts`, which sum up to more; no share is 0 if it fits."""
    shares, rest = np.divmod(counts * limit, counts.sum())
    by_rest = np.argsort(-rest, kind="stable")
    shares[by_rest[: limit - int(shares.sum())]] += 1
    for kind in np.argsort(-counts, kind="stable").tolist():
        if shares[kind] == 0 and shares.max() > 1:
            shares[np.argmax(shares)] -= 1
            shares[kind] = 1
    return shares


def mark(chosen: NDArray[np.bool_], table: AnnotationTable, tasks: Sequence[Task]) -> Any:
    """Returns the option that marks the files: how many photographs of how many there are."""
    used = np.logical_or.reduce([task.images(table) for task in tasks])
    return {"photographs": int(chosen.sum()), "of": int(used.sum())}


def refuse_whole_files(directory: Path, files: Sequence[PlannedFile]) -> None:
    """Checks that a first look replaces no file of a whole data set, and no work on one.

    Args:
        directory: the output directory.
        files: the plan of the first look.

    Raises:
        ForeignFileError: there is such a file, of any task, or the journal of another run.
    """
    for path in sorted(directory.glob("*.npz")):
        name = path.stem.partition("-")[0]
        if name in file_names(directory) and is_ours(path) and not _is_marked(path):
            raise ForeignFileError(
                f"{path}: holds a whole data set, which a run with limit must not replace: "
                f"{_REMEDY}, or delete the files there"
            )
    header = header_of(directory / JOURNAL_NAME)
    if header is not None and header.key != key_of_plan(files):
        raise ForeignFileError(
            f"{directory / JOURNAL_NAME}: is the unfinished work of another run, which a run with "
            f"limit would throw away: {_REMEDY}, or finish that run, or delete this file"
        )


def _is_marked(path: Path) -> bool:
    options = stored_metadata(path).get("options")
    return isinstance(options, Mapping) and LIMIT_OPTION in options
