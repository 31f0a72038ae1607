"""ProcessingReport: the result of a processing run, in numbers and as a table to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from processing.core import html
from processing.core.annotation_sets import SetReport
from processing.core.annotations import UNASSIGNED
from processing.core.errors import Note, Rejection
from processing.core.urls import Location
from processing.run.file_report import NOT_DROPPED, FileReport

_MOST_SETS: Final = 6
_MOST_KINDS: Final = 10  # of notes, and of rejected annotations
_MOST_CATEGORIES: Final = 10
_LONGEST: Final = 400  # characters of one example

_ENCODED: Final = {
    "original": "photographs' own files",
    "jpeg": "stored images encoded as JPEG",
}


@dataclass(frozen=True, slots=True)
class SplitReport:
    """How the images of the annotations were divided.

    Args:
        official: images whose split the annotations name.
        divided: images divided by a hash.
        train_split: share of those that go to train.
        group_by: regular expression that names the groups that stay together; None if each image is
            one.
    """

    official: int
    divided: int
    train_split: float
    group_by: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.official:
            parts.append(f"{_images(self.official)} as the annotations say")
        if self.divided:
            key = "path" if self.group_by is None else f"group (group_by={self.group_by!r})"
            parts.append(
                f"{_images(self.divided)} by a hash of the {key}, train_split={self.train_split:g}"
            )
        return ", ".join(parts)

    @classmethod
    def of(cls, official: NDArray[np.int8], train_split: float, group_by: str | None) -> Self:
        """Counts the images with an official split, as in `AnnotationTable.splits`, and others."""
        divided = int(np.count_nonzero(official == UNASSIGNED))
        return cls(len(official) - divided, divided, train_split, group_by)


@dataclass(frozen=True, slots=True)
class RunCounts:
    """What one run did, or several together.

    Args:
        images_decoded: images that were read and decoded.
        images_copied: images whose rows were copied from earlier files.
        images_resumed: images that an interrupted run had finished.
        up_to_date: whether no file had to be written.
    """

    images_decoded: int = 0
    images_copied: int = 0
    images_resumed: int = 0
    up_to_date: bool = False

    @classmethod
    def sum(cls, counts: Iterable[Self]) -> Self:
        """Returns the sums of several runs, which are up to date if all are."""
        each = list(counts)
        return cls(
            sum(one.images_decoded for one in each),
            sum(one.images_copied for one in each),
            sum(one.images_resumed for one in each),
            all(one.up_to_date for one in each),
        )


@dataclass(frozen=True, slots=True)
class ProcessingReport:
    """One run of a `DataProcessor`.

    Args:
        files: one entry per output file, in the order train, val, test for each task.
        up_to_date: True if no file had to be written.
        images_decoded: images that were read and decoded in this run.
        images_copied: images whose rows were copied from earlier files, because neither the image
            nor the rectangles shown of it changed.
        images_resumed: images that an interrupted run had finished.
        seconds: wall time.
        rejected_annotations: by reason, annotations that could not be used.
        notes: by name, how many harmless irregularities of the annotations were resolved.
        removed: deleted files: of splits that the data no longer has, or of another division into
            shards.
        replaced_data: files that replaced those of a data set with other images.
        skipped_tasks: tasks that `process_all` left out for lack of annotations, and why.
        sets: what was read, before images were merged.
        splits: how images were divided; None if there was nothing to divide.
        note_examples: by kind, the first note.
        notes_path: the list of all notes.
        rejection_examples: by reason, the message about the first annotation that could not be
            used; the lists of the train files have all of them.
        missing_shards: shards that are not there yet, so that there is no manifest.
        shards_made_again: names of shards that an engine lost, and that this process made.
        shards_continued: names of shards that an interrupted run, or a worker that died, had begun.
        uploaded: names of the files that were put at the URL of the output directory.
        first_look: with `limit`, how many ``photographs`` of how many (``of``) were processed; None
            without it, or if these are all.
    """

    files: tuple[FileReport, ...]
    up_to_date: bool
    images_decoded: int
    images_copied: int
    images_resumed: int
    seconds: float
    rejected_annotations: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    skipped_tasks: Mapping[str, str] = field(default_factory=dict)
    sets: tuple[SetReport, ...] = ()
    splits: SplitReport | None = None
    replaced_data: tuple[str, ...] = ()
    note_examples: Mapping[str, Note] = field(default_factory=dict)
    notes_path: Location | None = None
    rejection_examples: Mapping[str, str] = field(default_factory=dict)
    missing_shards: int = 0
    shards_made_again: tuple[str, ...] = ()
    shards_continued: tuple[str, ...] = ()
    uploaded: tuple[str, ...] = ()
    first_look: Mapping[str, int] | None = None

    @property
    def images_per_second(self) -> float:
        """Images decoded or copied per second of this run."""
        made = self.images_decoded + self.images_copied
        return made / self.seconds if self.seconds else 0.0

    @property
    def has_rejections(self) -> bool:
        """Whether an input was left out because something is wrong with it."""
        return bool(self.rejected_annotations) or any(file.rejected for file in self.files)

    def __str__(self) -> str:
        lines = self._about_input()
        # Objects are boxes, or the landmarker's sets of points.
        columns = f"{'rows':>9}{'images':>9}{'empty':>9}{'objects':>9}{'stored':>9}"
        lines.append(f"{'file':<28}{columns}")
        for file in self.files:
            counts = f"{file.rows:>9}{file.images:>9}{file.empty_images:>9}"
            objects = f"{file.instances_read:>9}{file.instances_stored:>9}"
            lines += [f"{file.path.name:<28}{counts}{objects}", *_details(file)]
        return "\n".join([*lines, *self._about_run()])

    def _repr_html_(self) -> str:
        """Returns the same as `str` for a notebook, with the files in a table."""
        header = ("file", "rows", "images", "empty", "objects", "stored", "details")
        rows = [
            (
                *(file.path.name, file.rows, file.images, file.empty_images),
                *(file.instances_read, file.instances_stored),
                "\n".join(line.strip() for line in _details(file)),
            )
            for file in self.files
        ]
        return html.block(
            html.heading("Processing report"),
            html.lines("\n".join(self._about_input())),
            html.table(header, rows),
            html.lines("\n".join(self._about_run())),
        )

    def _about_run(self) -> list[str]:
        """Returns the lines below the table of files."""
        lines = self._about_categories()
        lines += self._about_rejected_annotations()
        lines += self._about_notes()
        lines += [f"{task}: skipped, {why}" for task, why in self.skipped_tasks.items()]
        if self.replaced_data:
            names = ", ".join(self.replaced_data)
            lines.append(f"replaced the files of another data set, with other images: {names}")
        lines += [f"removed: {name}, {self._why_removed(name)}" for name in self.removed]
        if self.shards_made_again:
            names = ", ".join(self.shards_made_again)
            lines.append(f"lost by the engine and made again by this process: {names}")
        if self.shards_continued:
            names = ", ".join(self.shards_continued)
            lines.append(f"continued after an interruption, or the death of a worker: {names}")
        if self.uploaded:
            where = f" at {self.files[0].path.parent}" if self.files else ""
            lines.append(f"put{where}: {len(self.uploaded)} files")
        if self.missing_shards:
            lines.append(
                f"shards that are not there yet: {self.missing_shards}; the job that makes the "
                "last one writes the manifests"
            )
        return [*lines, self._pace()]

    def _why_removed(self, name: str) -> str:
        """Returns why a file was deleted. The report has all shards as one file, ``NAME-*``."""
        kind = name.removesuffix(".npz").partition("-")[0]
        for file in self.files:
            if file.path.name.removesuffix(".npz").partition("-")[0] == kind:
                return f"replaced by {file.path.name}"
        return "the data no longer has this split"

    def _about_input(self) -> list[str]:
        lines = []
        for read in self.sets[:_MOST_SETS]:
            details = f"; {read.details}" if read.details else ""
            counts = f"{_images(read.images)}, {read.instances} objects"
            lines.append(f"read {read.path} ({read.format}): {counts}{details}")
        left = self.sets[_MOST_SETS:]
        if left:
            images, instances = sum(r.images for r in left), sum(r.instances for r in left)
            lines.append(
                f"read {len(left)} more annotation sets: {_images(images)}, {instances} objects"
            )
        if self.splits is not None:
            lines.append(f"splits: {self.splits}")
        if self.first_look is not None:
            lines.append("first look: {photographs} of {of} photographs".format(**self.first_look))
        return lines

    def _about_categories(self) -> list[str]:
        stored: dict[str, Counter[str]] = {}
        for file in self.files:
            stored.setdefault(file.task, Counter()).update(file.categories)
        # Detector and teacher usually store the same boxes.
        tasks_by_counts: dict[str, list[str]] = {}
        for task, counts in stored.items():
            if counts:
                tasks_by_counts.setdefault(_most_common(counts), []).append(task)
        return [
            f"objects by category ({', '.join(tasks)}): {counts}"
            for counts, tasks in tasks_by_counts.items()
        ]

    def _about_rejected_annotations(self) -> list[str]:
        train = next((f.path for f in self.files if f.path.stem.startswith("train_")), None)
        where = "" if train is None else f" (all in {train.with_suffix('.rejected.jsonl')})"
        counts = self.rejected_annotations
        return _with_examples(f"rejected annotations{where}", counts, self.rejection_examples)

    def _about_notes(self) -> list[str]:
        where = "" if self.notes_path is None else f", all in {self.notes_path}"
        examples = {kind: note.message for kind, note in self.note_examples.items()}
        title = f"notes (docs/formats.md explains each{where})"
        return _with_examples(title, self.notes, examples)

    def _pace(self) -> str:
        if self.up_to_date:
            return f"up to date: nothing to do ({self.seconds:.2f} s)"
        copied = f" and {self.images_copied} unchanged ones" if self.images_copied else ""
        resumed = f", {self.images_resumed} from an interrupted run" if self.images_resumed else ""
        return (
            f"{_images(self.images_decoded)}{copied} in {self.seconds:.1f} s "
            f"({self.images_per_second:.0f} images/s){resumed}"
        )


def first_of_each_kind(notes: Iterable[Note]) -> dict[str, Note]:
    """The first note of each kind."""
    first: dict[str, Note] = {}
    for note in notes:
        first.setdefault(note.kind, note)
    return first


def first_of_each_reason(rejections: Iterable[Rejection]) -> dict[str, str]:
    """The message of the first rejection for each reason."""
    first: dict[str, str] = {}
    for rejection in rejections:
        first.setdefault(rejection.reason, rejection.message)
    return first


def _with_examples(title: str, counts: Mapping[str, int], examples: Mapping[str, str]) -> list[str]:
    """A title, and a line for each kind; no line without any."""
    kinds = list(counts)
    lines = [f"{title}:"] if kinds else []
    lines += [
        f"    {kind} {counts[kind]}: {_shortened(examples.get(kind, ''))}"
        for kind in kinds[:_MOST_KINDS]
    ]
    left = {kind: counts[kind] for kind in kinds[_MOST_KINDS:]}
    return [*lines, f"    and {_listed(left)}"] if left else lines


def _details(file: FileReport) -> list[str]:
    """Returns the lines below the numbers of a file."""
    lines: list[str] = []
    if file.encoded:
        texts = [
            f"{file.encoded[name]} {text}"
            for name, text in _ENCODED.items()
            if name in file.encoded
        ]
        lines += _joined(f"rows: {', '.join(texts)}")
    repairs = {name: n for name, n in file.repairs.items() if name in NOT_DROPPED}
    is_listed = file.dropped or "unlabelled_points" in repairs
    lines += _joined(
        f"dropped: {_listed(file.dropped)}" if file.dropped else "",
        f"repairs: {_listed(repairs)}" if repairs else "",
        f"see {file.path.stem}.dropped.jsonl" if is_listed else "",
    )
    by_rules, lost = file.left_out_by_rules, file.instances_rejected
    lines += _joined(
        f"rejected images: {_listed(file.rejected)}" if file.rejected else "",
        f"images left out by keep_flagged or min_box_size: {by_rules}" if by_rules else "",
        f"objects in rejected images: {lost}" if lost else "",
        "no row is left" if file.images and not file.rows else "",
    )
    if file.listed:
        lines.append(f"    left out: see {file.path.with_suffix('.rejected.jsonl')}")
    return lines


def _joined(*parts: str) -> list[str]:
    """One indented line of all parts that are not empty; no line without any."""
    text = "; ".join(filter(None, parts))
    return [f"    {text}"] if text else []


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"


def _most_common(counts: Counter[str]) -> str:
    """The most frequent categories, then how many others there are."""
    shown = ", ".join(f"{name} {count}" for name, count in counts.most_common(_MOST_CATEGORIES))
    left = len(counts) - _MOST_CATEGORIES
    return f"{shown}, and {left} more" if left > 0 else shown


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
