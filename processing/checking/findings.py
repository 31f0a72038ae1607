"""Finding: one thing that a check noticed, and what the user can do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

Severity = Literal["error", "warning", "info"]
"""``error``: an input would be rejected or dropped, or nothing could be made. ``warning``: it would
be stored, or quietly left out, and looks wrong. ``info``: it is as it should be, or a rule of the
user; nothing to do."""

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check noticed.

    Args:
        kind: machine-readable, such as ``missing_image``; docs/looking.md lists all.
        severity: how bad it is.
        path: the photograph, annotation file or folder to look at, relative to the raw directory;
            ``""`` if the finding is about the whole data set.
        message: the values that were found, for people.
        remedy: what to do.
        file: the annotation file, if `path` is a photograph; ``""`` if there is none.
        place: line, object or list position in the annotation file; ``""`` if not known.
        others: further photographs, of which `path` is a copy.
        count: how many photographs or objects the finding is about.
    """

    kind: str
    severity: Severity
    path: str
    message: str
    remedy: str = ""
    file: str = ""
    place: str = ""
    others: tuple[str, ...] = ()
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        """Returns the finding as plain JSON values, with all keys."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "path": self.path,
            "file": self.file,
            "place": self.place,
            "message": self.message,
            "remedy": self.remedy,
            "others": list(self.others),
            "count": self.count,
        }


def count_severities(findings: Iterable[Finding]) -> dict[str, int]:
    """Counts the findings of each severity; those without any are 0."""
    counts = Counter(finding.severity for finding in findings)
    return {severity: counts[severity] for severity in SEVERITIES}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sorts findings: errors first, then by kind in the order of their discovery."""
    listed = list(findings)
    first: dict[str, int] = {}
    for position, finding in enumerate(listed):
        first.setdefault(finding.kind, position)
    return sorted(listed, key=lambda f: (SEVERITIES.index(f.severity), first[f.kind]))


def sample(values: Iterable[str], most: int = 5) -> str:
    """Returns the first few texts, and how many more there are."""
    texts = list(values)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
