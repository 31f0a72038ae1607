"""Formats that other packages add, by entry points of the group ``npz_vision_data.sources``.

The name of an entry point is the name of its format, and it leads to a `SourceFormat`. Names are
listed without importing anything; a package is imported when the raw directory is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
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
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        owner = _distribution(point)
        if point.name in owners:
            raise SourceError(
                f"the source format {point.name!r} is registered by {owners[point.name]} and by "
                f"{owner}: uninstall one of them, or rename its entry point"
            )
        owners[point.name] = owner
        found[point.name] = point
    return found


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
