"""ProcessingReport: the result of a processing run, in numbers and as a table to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileReport:
    """One output file.

    Args:
        path: the NPZ file.
        rows: number of samples.
        images: source images of this split and task, including rejected ones.
        instances_read: boxes (landmarker: point sets) that the annotations hold for these images.
        instances_stored: boxes or point sets in the file.
        repairs: by reason, boxes clipped, boxes or point sets dropped, crops that show nothing.
        rejected: by reason, images left out.
        listed: entries of ``NAME.rejected.jsonl``: rejected images, and for the train file also
            annotations that could not be used.
        instances_rejected: boxes or point sets of rejected images.
    """

    path: Path
    rows: int
    images: int
    instances_read: int
    instances_stored: int
    repairs: Mapping[str, int]
    rejected: Mapping[str, int]
    listed: int
    instances_rejected: int = 0


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
        removed: deleted files, of splits that the data no longer has.
        skipped_tasks: tasks that `process_all` left out for lack of annotations, and why.
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

    @property
    def images_per_second(self) -> float:
        """Images decoded or copied per second of this run."""
        made = self.images_decoded + self.images_copied
        return made / self.seconds if self.seconds else 0.0

    @property
    def has_rejections(self) -> bool:
        """Whether an input was left out."""
        return bool(self.rejected_annotations) or any(file.rejected for file in self.files)

    def __str__(self) -> str:
        # Objects are boxes, or the landmarker's sets of points.
        lines = [f"{'file':<28}{'rows':>9}{'images':>9}{'objects':>9}{'stored':>9}"]
        for file in self.files:
            lines.append(
                f"{file.path.name:<28}{file.rows:>9}{file.images:>9}"
                f"{file.instances_read:>9}{file.instances_stored:>9}"
            )
            for title, counts in (("repairs", file.repairs), ("rejected images", file.rejected)):
                if counts:
                    lines.append(f"    {title}: {_listed(counts)}")
            if file.instances_rejected:
                lines.append(f"    objects in rejected images: {file.instances_rejected}")
            if file.listed:
                lines.append(f"    left out: see {file.path.with_suffix('.rejected.jsonl')}")
        if self.rejected_annotations:
            lines.append(f"rejected annotations: {_listed(self.rejected_annotations)}")
        if self.notes:
            lines.append(f"notes: {_listed(self.notes)} (docs/formats.md explains each)")
        lines += [f"removed: {name}, the data no longer has this split" for name in self.removed]
        lines += [f"{task}: skipped, {why}" for task, why in self.skipped_tasks.items()]
        lines.append(self._pace())
        return "\n".join(lines)

    def _pace(self) -> str:
        if self.up_to_date:
            return f"up to date: nothing to do ({self.seconds:.2f} s)"
        copied = f" and {self.images_copied} unchanged ones" if self.images_copied else ""
        resumed = f", {self.images_resumed} from an interrupted run" if self.images_resumed else ""
        return (
            f"{self.images_decoded} images{copied} in {self.seconds:.1f} s "
            f"({self.images_per_second:.0f} images/s){resumed}"
        )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
