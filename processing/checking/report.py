"""CheckReport: the result of a check, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from processing.checking.findings import Finding, count_severities
from processing.core.annotation_sets import SetReport
from processing.core.messages import counted
from processing.run.file_report import FileReport
from processing.run.processing_report import SplitReport

JSON_VERSION: Final = 1
"""Incremented when a key changes its meaning or goes. New keys do not change it."""

_EXAMPLES: Final = 3
_MOST_SETS: Final = 6
_MOST_CATEGORIES: Final = 12
_LONGEST: Final = 500  # characters of one example
_MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What processing would make of a raw directory, and what looks wrong in it.

    Args:
        place: the raw directory.
        photographs: image files in it.
        bytes: of these files.
        findings: errors first, then warnings, then information.
        images: photographs that the annotations list.
        objects: boxes and sets of points that can be used.
        sets: the annotation sets.
        splits: how photographs are divided; None if the annotations cannot be used.
        categories: annotated objects by category, unused ones too.
        files: one report per output file, with the counts that processing would report.
        file_bytes: estimated bytes by name of the output file.
        skipped_tasks: tasks without annotations, and why.
        seconds: estimated time of processing, with `threads` threads.
        threads: decoding threads.
    """

    place: str
    photographs: int
    bytes: int
    findings: tuple[Finding, ...] = ()
    images: int = 0
    objects: int = 0
    sets: tuple[SetReport, ...] = ()
    splits: SplitReport | None = None
    categories: Mapping[str, int] = field(default_factory=dict)
    files: tuple[FileReport, ...] = ()
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    skipped_tasks: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    threads: int = 0

    @property
    def needs_a_look(self) -> bool:
        """Whether there is a finding that is an error or a warning."""
        return any(finding.severity != "info" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity: ``error``, ``warning``, ``info``."""
        return count_severities(self.findings)

    def __str__(self) -> str:
        return self.text()

    def text(self, examples: int = _EXAMPLES) -> str:
        """Returns the report for people.

        Args:
            examples: how many findings of each kind are shown.
        """
        lines = [*self._about_input(), *self._about_files()]
        counts = self.counts
        parts = [counted(counts[one], one) for one in ("error", "warning")]
        summary = f"findings: {' and '.join(parts)}"
        if counts["info"]:
            summary += f"; {counts['info']} for information"
        if not self.needs_a_look:
            summary += "; nothing to look at"
        return "\n".join([*lines, summary, *self._about_findings(examples)])

    def _about_input(self) -> Iterator[str]:
        size = f"{self.bytes / _MEGABYTE:,.1f} MB"
        photographs = counted(self.photographs, "photograph")
        yield f"checked {self.place}: {photographs}, {size}; nothing was written"
        for one in self.sets[:_MOST_SETS]:
            details = f"; {one.details}" if one.details else ""
            counts = f"{counted(one.images, 'image')}, {one.instances} objects"
            yield f"read {one.path} ({one.format}): {counts}{_shortened(details)}"
        left = self.sets[_MOST_SETS:]
        if left:
            yield f"read {len(left)} more annotation sets, {sum(s.images for s in left)} images"
        if self.splits is not None:
            yield f"splits: {self.splits}"
        used = Counter({name: count for name, count in self.categories.items() if count})
        if used:
            shown = [f"{name} {count}" for name, count in used.most_common(_MOST_CATEGORIES)]
            more = len(used) - len(shown)
            yield f"categories: {', '.join(shown)}{f', and {more} more' if more else ''}"

    def _about_files(self) -> Iterator[str]:
        if self.files:
            columns = "".join(f"{name:>9}" for name in ("rows", "images", "empty", "objects"))
            yield f"{'processing would write':<28}{columns}{'stored':>9}{'MB':>11}"
        for file in self.files:
            size = self.file_bytes[file.path.stem] / _MEGABYTE
            yield (
                f"{file.path.name:<28}{file.rows:>9}{file.images:>9}{file.empty_images:>9}"
                f"{file.instances_read:>9}{file.instances_stored:>9}{size:>11,.2f}"
            )
        yield from (f"{task}: skipped, {why}" for task, why in self.skipped_tasks.items())
        if self.files:
            total = sum(self.file_bytes.values()) / _MEGABYTE
            threads = counted(self.threads, "thread")
            yield f"estimated: {total:,.1f} MB, {_duration(self.seconds)} with {threads}"

    def _about_findings(self, examples: int) -> Iterator[str]:
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        for (severity, kind), group in groups.items():
            yield f"{severity} {kind} ({len(group)})"
            for finding in group[:examples]:
                yield f"    {_shortened(_line(finding))}"
            if len(group) > examples:
                yield f"    and {len(group) - examples} more"
            remedies = dict.fromkeys(one.remedy for one in group[:examples] if one.remedy)
            yield from (f"    what to do: {remedy}" for remedy in remedies)

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain JSON values; docs/looking.md describes the keys."""
        return {
            "version": JSON_VERSION,
            "raw_data_dir": self.place,
            "photographs": self.photographs,
            "bytes": self.bytes,
            "images": self.images,
            "objects": self.objects,
            "sets": [
                {
                    "path": one.path,
                    "format": one.format,
                    "images": one.images,
                    "objects": one.instances,
                    "details": one.details,
                }
                for one in self.sets
            ],
            "splits": self._split_counts(),
            "categories": dict(self.categories),
            "files": [self._file_json(file) for file in self.files],
            "skipped_tasks": dict(self.skipped_tasks),
            "estimated_bytes": sum(self.file_bytes.values()),
            "estimated_seconds": round(self.seconds, 3),
            "threads": self.threads,
            "counts": self.counts,
            "findings": [finding.as_json() for finding in self.findings],
        }

    def to_json(self) -> str:
        """Returns the report as JSON text."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False)

    def _split_counts(self) -> dict[str, int]:
        """Photographs of each split; the largest number of any task, since a task may use fewer."""
        counts: dict[str, int] = {}
        for file in self.files:
            split = file.set_name.partition("_")[0]
            counts[split] = max(counts.get(split, 0), file.images)
        return counts

    def _file_json(self, file: FileReport) -> dict[str, Any]:
        return {
            "name": file.path.name,
            "rows": file.rows,
            "images": file.images,
            "objects": file.instances_read,
            "stored": file.instances_stored,
            "empty_images": file.empty_images,
            "dropped": dict(file.dropped),
            "rejected": dict(file.rejected),
            "left_out_by_rules": file.left_out_by_rules,
            "categories": dict(file.categories),
            "estimated_bytes": self.file_bytes[file.path.stem],
        }


def _line(finding: Finding) -> str:
    """One finding in one line, with its place and the copies that it is about."""
    where = finding.path
    if finding.file and finding.file != finding.path:
        where += f" ({', '.join(filter(None, [finding.file, finding.place]))})"
    elif finding.place:
        where += f" ({finding.place})"
    line = f"{where}: {finding.message}" if where else finding.message
    if finding.others:
        shown = ", ".join(finding.others[:_EXAMPLES])
        left = len(finding.others) - _EXAMPLES
        line += f": {shown}" + (f" and {left} more" if left > 0 else "")
    return line


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _duration(seconds: float) -> str:
    """A rough duration; more digits would pretend to know."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
