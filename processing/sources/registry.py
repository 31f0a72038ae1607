"""Formats that other packages add, by entry points of the group ``npz_vision_data.sources``.

The name of an entry point is the name of its format, and it leads to a `SourceFormat`. Names are
listed without importing anything; a package is imported when the raw directory is read.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from processing.core.errors import SourceError
from processing.sources.source_format import SourceFormat

GROUP: Final = "npz_vision_data.sources"
"""The group of entry points."""


def with_plug_ins(formats: Sequence[SourceFormat]) -> tuple[SourceFormat, ...]:
    """Returns formats, and all plug-ins sorted by name.

    Args:
        formats: the formats of this package.

    Raises:
        SourceError: a plug-in cannot be imported, is no `SourceFormat`, or has a name that is
            taken.
    """
    return (*formats, *map(_load, _plug_ins(formats).values()))


def formats_for(
    entries: Sequence[str | Mapping[str, Any] | SourceFormat], formats: Sequence[SourceFormat]
) -> tuple[SourceFormat, ...]:
    """Returns the formats that entries of `sources` can name.

    A broken plug-in must not stop a run that names formats of this package only, so plug-ins are
    imported only for a name that is not among them.

    Args:
        entries: see `processing.sources.read_sources`.
        formats: the formats of this package.

    Raises:
        SourceError: as for `with_plug_ins`.
    """
    own = {source.name for source in formats}
    for entry in entries:
        name = entry.get("format") if isinstance(entry, Mapping) else entry
        if isinstance(name, str) and name not in own:
            return with_plug_ins(formats)
    return tuple(formats)


def _plug_ins(formats: Sequence[SourceFormat]) -> dict[str, EntryPoint]:
    """Returns the entry points by name, sorted."""
    owners = {source.name: "npz-vision-data" for source in formats}
    found = {}
    for point in _entry_points(tuple((entry, _changed(entry)) for entry in sys.path)):
        owner = _distribution(point)
        if point.name in owners:
            raise SourceError(
                f"the source format {point.name!r} is registered by {owners[point.name]} and by "
                f"{owner}: uninstall one of them, or rename its entry point"
            )
        owners[point.name] = owner
        found[point.name] = point
    return found


@functools.lru_cache(maxsize=1)
def _entry_points(_: tuple[tuple[str, int | None], ...]) -> tuple[EntryPoint, ...]:
    """Returns the entry points of the group, sorted.

    The answer is kept, because Python opens a file of each installed package to find them: with 200
    packages that is a quarter of the time of a run that finds all up to date.

    Args:
        _: the entries of `sys.path`, each with the time at which a package was last added to it or
            removed. Other values mean that the packages are looked at again.
    """
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)))


def _changed(entry: str) -> int | None:
    """Returns when a directory changed, in nanoseconds; None if there is none."""
    try:
        return Path(entry).stat().st_mtime_ns
    except (OSError, ValueError):  # an entry may be anything
        return None


def _load(point: EntryPoint) -> SourceFormat:
    where = f"the source format {point.name!r} of {_distribution(point)} ({point.value})"
    try:
        loaded = point.load()
    # A plug-in is the code of other people, so its import may raise anything.
    except Exception as error:
        raise SourceError(
            f"{where} cannot be imported: {type(error).__name__}: {error}; mend or uninstall it"
        ) from error
    if not isinstance(loaded, SourceFormat):
        raise SourceError(
            f"{where} is a {type(loaded).__name__}, expected a processing.sources.SourceFormat"
        )
    if loaded.name != point.name:
        raise SourceError(f"{where} calls itself {loaded.name!r}; expected one name")
    return loaded


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
