"""What was left out: the lists next to the files, counted by reason, with examples.

A list may have a line for each of a million objects, so that lines are counted one by one, and only
examples are kept. An input that is in the lists of several tasks counts once; each output directory
is a data set of its own.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from processing.core.errors import Note, Rejection
from processing.core.urls import URL, Location
from processing.imaging.losses import UNLABELLED_POINTS
from processing.imaging.repairs import USER_RULES
from processing.remote.files import read_file
from processing.report.files import Found
from processing.report.hashes import different
from processing.run.output_directory import NOTES_NAME, dropped_path, rejections_path

EXAMPLES: Final = 8
"""Lines kept of each reason."""


class DroppedLine(msgspec.Struct, frozen=True):
    """A line of ``NAME.dropped.jsonl``; a number that is not finite is null there."""

    image: str
    file: str
    place: str
    reason: str
    category: str
    values: list[float | None]


class Example(NamedTuple):
    """A line of a list.

    Args:
        directory: the output directory that has the list.
        split: of the file that the list belongs to.
        line: a `Rejection` or `DroppedLine`.
    """

    directory: Location
    split: str
    line: Any


@dataclass(slots=True)
class Reason:
    """One reason, and what was left out because of it.

    Args:
        name: such as ``too_small``.
        by_rules: nothing is wrong; the user's own rules left it out.
        examples: the first `EXAMPLES`.
        per_split: how often, by split.
    """

    name: str
    by_rules: bool
    examples: list[Example] = field(default_factory=list)
    per_split: Counter[str] = field(default_factory=Counter)
    _seen: dict[str, array[int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How often, in all splits."""
        return self.per_split.total()

    def add(self, example: Example, identity: str) -> None:
        """Notes one line; `finish` removes those that other tasks have noted too."""
        split, identity = example.split, f"{example.directory}\n{identity}"
        digest = blake2b(identity.encode(errors="surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        if split not in self._seen:
            self._seen[split] = array("Q")
        # Another task may have listed it too. Only the first lines are compared.
        if len(self.examples) < EXAMPLES and number not in self._seen[split]:
            self.examples.append(example)
        self._seen[split].append(number)

    def finish(self) -> None:
        """Counts each line once."""
        for split, digests in self._seen.items():
            self.per_split[split] = len(different(np.frombuffer(digests, np.uint64)))
        self._seen.clear()


@dataclass(slots=True)
class LeftOut:
    """All that was left out of some files.

    Args:
        rejected: photographs and annotations that could not be used, the most frequent first.
        dropped: objects and points that a stored image lost.
        notes: (kind, count, an example) of what the run settled or noticed.
        unreadable: (name, message) of lists that are damaged.
    """

    rejected: list[Reason]
    dropped: list[Reason]
    notes: list[tuple[str, int, str]]
    unreadable: list[tuple[str, str]]


def read_lists(found: Found) -> LeftOut:
    """Reads the lists next to all files. A damaged line is listed, and the lines before it count.

    Raises:
        OSError: a list cannot be read.
    """
    rejected: dict[tuple[str, bool], Reason] = {}
    dropped: dict[tuple[str, bool], Reason] = {}
    unreadable: list[tuple[str, str]] = []
    for file in found.files:
        for npz in file.npz:
            path = _next_to(npz, rejections_path)
            for line in _lines(path, Rejection, unreadable):
                reason = _reason(rejected, line.reason, line.by_rules)
                # The message has the place: an annotation file is rejected once for each line.
                example = Example(file.directory, file.split, line)
                reason.add(example, f"{line.path}\n{line.message}")
            path = _next_to(npz, dropped_path)
            for dropped_line in _lines(path, DroppedLine, unreadable):
                name = dropped_line.reason
                reason = _reason(dropped, name, name in USER_RULES)
                example = Example(file.directory, file.split, dropped_line)
                reason.add(example, _identity(dropped_line))
    notes = _read_notes(found.directories, unreadable)
    return LeftOut(_sorted(rejected), _sorted(dropped), notes, unreadable)


def _identity(line: DroppedLine) -> str:
    """Returns what the lines about one object, or about one point, have in common in all tasks."""
    identity = f"{line.image}\n{line.file}\n{line.place}"
    # A set of points has one place; the lines of two of its points differ in their values.
    is_known = line.place and line.reason != UNLABELLED_POINTS
    return identity if is_known else f"{identity}\n{line.values}"


def _next_to(npz: Location, list_of: Callable[[Path], Path]) -> Location:
    """Returns the path or URL of a list of a file."""
    return npz.parent / list_of(Path(npz.name)).name


def _reason(reasons: dict[tuple[str, bool], Reason], name: str, by_rules: bool) -> Reason:
    if (name, by_rules) not in reasons:
        reasons[name, by_rules] = Reason(name, by_rules)
    return reasons[name, by_rules]


def _sorted(reasons: dict[tuple[str, bool], Reason]) -> list[Reason]:
    for reason in reasons.values():
        reason.finish()
    return sorted(
        reasons.values(), key=lambda reason: (reason.by_rules, -reason.count, reason.name)
    )


def _read_notes(
    directories: Sequence[Location], unreadable: list[tuple[str, str]]
) -> list[tuple[str, int, str]]:
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for directory in directories:
        for note in _lines(directory / NOTES_NAME, Note, unreadable):
            counts[note.kind] += note.count
            first.setdefault(note.kind, note.message)
    return [(kind, count, first[kind]) for kind, count in counts.most_common()]


def _lines(path: Location, kind: Any, unreadable: list[tuple[str, str]]) -> Iterator[Any]:
    """Yields the lines of a list; none if there is no list."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with contextlib.suppress(FileNotFoundError):
            for line in _raw_lines(path):
                yield decoder.decode(line)
    except msgspec.DecodeError as error:
        unreadable.append((path.name, f"a line is damaged: {error}; process the data again"))


def _raw_lines(path: Location) -> Iterator[bytes]:
    if isinstance(path, URL):
        yield from read_file(path).splitlines()
        return
    with path.open("rb") as file:
        yield from file
