"""A `ProcessingReport` as text for a terminal, and as HTML for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from processing.core import html
from processing.core.messages import counted
from processing.run.file_report import NOT_DROPPED, FileReport

if TYPE_CHECKING:
    from processing.run.processing_report import ProcessingReport, SplitReport

_MOST_SETS: Final = 6
_MOST_KINDS: Final = 10  # of notes, and of rejected annotations
_MOST_CATEGORIES: Final = 10
_LONGEST: Final = 400  # characters of one example

_ENCODED: Final = {
    "original": "photographs' own files",
    "jpeg": "stored images encoded as JPEG",
}


def report_text(report: ProcessingReport) -> str:
    """Returns a report as lines: its input, a table of the files, and what the run did."""
    lines = _about_input(report)
    # Objects are boxes, or the landmarker's sets of points.
    columns = f"{'rows':>9}{'images':>9}{'empty':>9}{'objects':>9}{'stored':>9}"
    lines.append(f"{'file':<28}{columns}")
    for file in report.files:
        counts = f"{file.rows:>9}{file.images:>9}{file.empty_images:>9}"
        objects = f"{file.instances_read:>9}{file.instances_stored:>9}"
        lines += [f"{file.path.name:<28}{counts}{objects}", *_details(file)]
    return "\n".join([*lines, *_about_run(report)])


def report_html(report: ProcessingReport) -> str:
    """Returns the same as HTML."""
    header = ("file", "rows", "images", "empty", "objects", "stored", "details")
    rows = [
        (
            *(file.path.name, file.rows, file.images, file.empty_images),
            *(file.instances_read, file.instances_stored),
            "\n".join(line.strip() for line in _details(file)),
        )
        for file in report.files
    ]
    return html.block(
        html.heading("Processing report"),
        html.lines("\n".join(_about_input(report))),
        html.table(header, rows),
        html.lines("\n".join(_about_run(report))),
    )


def split_text(splits: SplitReport) -> str:
    """Returns how images were divided, in one line."""
    parts = []
    if splits.official:
        parts.append(f"{counted(splits.official, 'image')} as the annotations say")
    if splits.divided:
        key = "path" if splits.group_by is None else f"group (group_by={splits.group_by!r})"
        parts.append(
            f"{counted(splits.divided, 'image')} by a hash of the {key}, "
            f"train_split={splits.train_split:g}"
        )
    return ", ".join(parts)


def _about_input(report: ProcessingReport) -> list[str]:
    """Returns the lines above the table of files."""
    lines = []
    for read in report.sets[:_MOST_SETS]:
        details = f"; {read.details}" if read.details else ""
        counts = f"{counted(read.images, 'image')}, {counted(read.instances, 'object')}"
        lines.append(f"read {read.path} ({read.format}): {counts}{details}")
    left = report.sets[_MOST_SETS:]
    if left:
        images, objects = sum(r.images for r in left), sum(r.instances for r in left)
        counts = f"{counted(images, 'image')}, {counted(objects, 'object')}"
        lines.append(f"read {len(left)} more annotation sets: {counts}")
    if report.splits is not None:
        lines.append(f"splits: {report.splits}")
    if report.first_look is not None:
        lines.append("first look: {photographs} of {of} photographs".format(**report.first_look))
    return lines


def _about_run(report: ProcessingReport) -> list[str]:
    """Returns the lines below the table of files."""
    lines = _about_categories(report)
    lines += _about_rejected_annotations(report)
    lines += _about_notes(report)
    lines += [f"{task}: skipped, {why}" for task, why in report.skipped_tasks.items()]
    if report.replaced_data:
        names = ", ".join(report.replaced_data)
        lines.append(f"replaced the files of another data set, with other images: {names}")
    lines += [f"removed: {name}, {_why_removed(report, name)}" for name in report.removed]
    if report.shards_made_again:
        names = ", ".join(report.shards_made_again)
        lines.append(f"lost by the engine and made again by this process: {names}")
    if report.shards_continued:
        names = ", ".join(report.shards_continued)
        lines.append(f"continued after an interruption, or the death of a worker: {names}")
    if report.uploaded:
        where = f" at {report.files[0].path.parent}" if report.files else ""
        lines.append(f"put{where}: {counted(len(report.uploaded), 'file')}")
    if report.missing_shards:
        lines.append(
            f"shards that are not there yet: {report.missing_shards}; the job that makes the "
            "last one writes the manifests"
        )
    return [*lines, _pace(report)]


def _why_removed(report: ProcessingReport, name: str) -> str:
    """Returns why a file was deleted. The report has all shards as one file, ``NAME-*``."""
    kind = name.removesuffix(".npz").partition("-")[0]
    for file in report.files:
        if file.path.name.removesuffix(".npz").partition("-")[0] == kind:
            return f"replaced by {file.path.name}"
    return "the data no longer has this split"


def _about_categories(report: ProcessingReport) -> list[str]:
    stored: dict[str, Counter[str]] = {}
    for file in report.files:
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


def _about_rejected_annotations(report: ProcessingReport) -> list[str]:
    train = next((f.path for f in report.files if f.path.stem.startswith("train_")), None)
    where = "" if train is None else f" (all in {train.with_suffix('.rejected.jsonl')})"
    counts = report.rejected_annotations
    return _with_examples(f"rejected annotations{where}", counts, report.rejection_examples)


def _about_notes(report: ProcessingReport) -> list[str]:
    where = "" if report.notes_path is None else f", all in {report.notes_path}"
    examples = {kind: note.message for kind, note in report.note_examples.items()}
    title = f"notes (docs/formats.md explains each{where})"
    return _with_examples(title, report.notes, examples)


def _pace(report: ProcessingReport) -> str:
    if report.up_to_date:
        return f"up to date: nothing to do ({report.seconds:.2f} s)"
    copied = f" and {report.images_copied} unchanged ones" if report.images_copied else ""
    resumed = f", {report.images_resumed} from an interrupted run" if report.images_resumed else ""
    return (
        f"{counted(report.images_decoded, 'image')}{copied} in {report.seconds:.1f} s "
        f"({report.images_per_second:.0f} images/s){resumed}"
    )


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


def _most_common(counts: Counter[str]) -> str:
    """The most frequent categories, then how many others there are."""
    shown = ", ".join(f"{name} {count}" for name, count in counts.most_common(_MOST_CATEGORIES))
    left = len(counts) - _MOST_CATEGORIES
    return f"{shown}, and {left} more" if left > 0 else shown


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
