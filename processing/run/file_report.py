"""FileReport: the counts of one file, or of all shards of a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Self

from processing.core.errors import REBUILD, NPZFormatError
from processing.core.urls import Location

NOT_DROPPED: Final = frozenset({"clipped", "unlabelled_points"})
"""Repairs that leave a box or a set of points in the file."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """One output file. ``instances_read`` is the sum of the stored, dropped and rejected ones.

    Args:
        path: path or URL of the NPZ file.
        rows: number of samples.
        images: source images of this split and task, including rejected ones.
        instances_read: boxes (landmarker: point sets) that the annotations hold for these images.
        instances_stored: boxes or point sets in the file.
        repairs: by reason, boxes clipped, single points that became "not labelled", and boxes or
            point sets dropped from stored images; ``NAME.dropped.jsonl`` lists all but the clipped.
        rejected: by reason, images left out because something is wrong.
        listed: entries of ``NAME.rejected.jsonl``: images left out, and for the train file also
            annotations that could not be used.
        instances_rejected: boxes or point sets of images left out.
        empty_images: stored images without objects.
        categories: by category, boxes or point sets in the file.
        left_out_by_rules: images left out only because `keep_flagged` or `min_box_size` leaves
            none of their objects.
        encoded: rows by what they hold: ``original``, a photograph's own file, or ``jpeg``, a JPEG
            of the stored image. Empty if images are stored as pixels.
    """

    path: Location
    rows: int
    images: int
    instances_read: int
    instances_stored: int
    repairs: Mapping[str, int]
    rejected: Mapping[str, int]
    listed: int
    instances_rejected: int = 0
    empty_images: int = 0
    categories: Mapping[str, int] = field(default_factory=dict)
    left_out_by_rules: int = 0
    encoded: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Location, counts: Mapping[str, Any]) -> Self:
        """Returns the counts in the metadata of a file.

        Args:
            path: of the file.
            counts: by field, an integer or a mapping.

        Raises:
            NPZFormatError: a count is missing, unknown, or of another kind.
        """
        _, *known = fields(cls)  # all but the path
        kinds = {one.name: int if one.type == "int" else dict for one in known}
        needed = {one.name for one in known if one.default is one.default_factory is MISSING}
        wrong = {name for name, value in counts.items() if type(value) is not kinds.get(name)}
        wrong |= needed - counts.keys()
        if wrong:
            raise NPZFormatError(
                f"{path}: member 'metadata': counts: {', '.join(sorted(wrong))}: missing, unknown, "
                f"or of another kind; {REBUILD}"
            )
        return cls(path=path, **counts)

    @classmethod
    def sum(cls, path: Location, reports: Sequence[Self]) -> Self:
        """Returns the sums of several files of one split and task, under the path of their set."""
        totals: dict[str, Any] = {}
        for field_ in fields(cls):
            values = [getattr(report, field_.name) for report in reports]
            if field_.name != "path":
                is_count = isinstance(values[0], int)
                totals[field_.name] = sum(values) if is_count else _summed(values)
        return cls(path=path, **totals)

    @property
    def dropped(self) -> dict[str, int]:
        """By reason, boxes or point sets dropped from stored images."""
        return {name: n for name, n in self.repairs.items() if name not in NOT_DROPPED}

    @property
    def set_name(self) -> str:
        """The file's name without ending, and without the number of a shard."""
        return self.path.stem.partition("-")[0]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.set_name.partition("_")[2]


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
