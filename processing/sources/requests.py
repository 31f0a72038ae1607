"""Request: one entry of the setting `sources`, checked, and the reading that it asks for."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat


@dataclass(frozen=True)
class Request:
    """A format to read, and where.

    Args:
        source: the format.
        path: read only this file, or the files below this folder; ``"."`` for everything.
        options: keywords for the format's `read`.
    """

    source: SourceFormat
    path: str
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any], formats: Sequence[SourceFormat]) -> Request:
        """Checks one entry of `sources`.

        Args:
            entry: the name of a format, or a mapping as `read_sources` documents it.
            formats: the formats to choose from.

        Raises:
            TypeError: `entry` is neither text nor a mapping.
            SourceError: it names no format, or has an unknown key or value.
        """
        if not isinstance(entry, str | Mapping):
            raise TypeError(f"sources must be names of formats, or mappings, got {entry!r}")
        options = {"format": entry} if isinstance(entry, str) else dict(entry)
        name, path = options.pop("format", None), options.pop("path", "")
        by_name = {source.name: source for source in formats}
        if name not in by_name:
            raise SourceError(f"source format {name!r}: expected one of {', '.join(by_name)}")
        source = by_name[name]
        unknown = sorted(map(str, set(options) - set(source.options)))
        if unknown:
            allowed = ", ".join(("format", "path", *source.options))
            raise SourceError(
                f"source {name}: unknown key {unknown[0]!r}, expected one of {allowed}"
            )
        base = options.get("coordinate_base", 1)
        if base not in (0, 1):
            raise SourceError(f"source {name}: coordinate_base is {base!r}, expected 0 or 1")
        # normpath turns "" into "." and "x/" into "x", so that `read` has fewer cases.
        return cls(source, posixpath.normpath(str(path).replace("\\", "/")), options)

    def read(self, raw: RawDirectory) -> Reading:
        """Reads the requested files.

        Raises:
            SourceNotFoundError: there are none.
        """
        paths = [
            path
            for path in self.source.find(raw)
            if self.path in (".", path) or path.startswith(f"{self.path}/")
        ]
        if not paths:
            raise SourceNotFoundError(
                f"{raw.root / self.path}: nothing found of the format {self.source.name}; "
                f"looked for {self.source.pattern_description}{raw.describe_skipped()}"
            )
        return self.source.read(raw, paths, **self.options)
