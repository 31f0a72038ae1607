"""Finds annotation sets, and parts of them, whose boxes are wrong for one reason, and names it.

Each other reading of the boxes is compared with the one that was used, by `Trial`. Only a reading
that is clearly better is reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processing.checking.findings import Finding, Severity, sample
from processing.checking.parts import Part, parts_of
from processing.checking.placed import PlacedAnnotations
from processing.checking.reading_trial import Compared, Evidence, Trial
from processing.checking.readings import (
    OTHER_SIZE,
    Boxes,
    Reading,
    other_readings,
    shifted_readings,
)
from processing.checking.small_pictures import Integrals, SmallPictures
from processing.core.messages import counted

_FEWEST_BOXES: Final = 12


class _Found(NamedTuple):
    """The best reading of some boxes."""

    part: Part
    compared: Compared
    evidence: Evidence


def check_readings(
    placed: PlacedAnnotations, small: SmallPictures, explained: NDArray[np.bool_]
) -> Iterator[Finding]:
    """Finds annotation sets, and parts of them, that have to be read in another way.

    Args:
        placed: the annotations.
        small: small pictures of some photographs.
        explained: bool (I,), filled in here: the boxes of these sets, whose faults have one cause.
    """
    boxes, usable = placed.outlined()
    integrals: Integrals | None = None
    for set_id in range(len(placed.table.annotation_sets)):
        chosen = np.flatnonzero(usable & (placed.table.instance_set_ids == set_id))
        if len(chosen) < _FEWEST_BOXES:
            continue
        integrals = integrals or small.integrals()
        own = boxes[chosen].astype(np.float64)
        trial = Trial(placed, small, integrals, own, chosen)
        found = _best(placed, trial, own, chosen)
        if found is None:
            yield from _unrelated(placed, trial, chosen)
            continue
        finding = _describe(placed, trial, own, chosen, found)
        # A set of other sizes may also be a few boxes in another order: then each is named, too.
        is_certain = found.evidence.gain > 0 or finding.kind != "looks_resized"
        is_certain |= found.compared.reading.ends_with_copies
        if finding.severity != "info" and is_certain:
            images = trial.owners[found.part.members]
            explained[chosen[np.isin(trial.owners, images)]] = True
        yield finding


def _best(
    placed: PlacedAnnotations, trial: Trial, boxes: Boxes, chosen: NDArray[np.int64]
) -> _Found | None:
    """Returns the reading that explains a set, or else the one that explains a part best."""
    parts = [_whole(chosen), *parts_of(placed, trial.owners)]
    readings = itertools.chain(
        other_readings(placed, boxes, chosen), shifted_readings(placed, boxes, chosen)
    )
    return _best_of(placed.table.image_paths, trial, parts, readings)


def _best_of(
    paths: NDArray[Any], trial: Trial, parts: Sequence[Part], readings: Iterable[Reading]
) -> _Found | None:
    """Returns the best reading of the whole set, the first of `parts`, or else of another part."""
    best: dict[bool, _Found] = {}
    for reading in readings:
        compared = trial.compare(reading)
        mixed = [Part(_some_of(paths, trial, one), one) for one in trial.mixed(compared)]
        for part in (*parts, *mixed):
            is_whole = part is parts[0]
            evidence = trial.evidence(compared, part.members)
            # A few boxes beyond their photographs fit some reading in some part, by chance.
            proven = evidence.is_found if is_whole else evidence.gain > 0
            proven &= is_whole or reading.kind != OTHER_SIZE
            known = best.get(is_whole)
            if proven and (known is None or evidence.rank > known.evidence.rank):
                best[is_whole] = _Found(part, compared, evidence)
    whole, of_part = best.get(True), best.get(False)
    if whole is None or (of_part and whole.compared.reading.kind == OTHER_SIZE):
        return of_part
    return whole


def _some_of(paths: NDArray[Any], trial: Trial, members: NDArray[np.bool_]) -> str:
    images = np.unique(trial.owners[members])
    return f"{counted(len(images), 'photograph')}: {sample(paths[images].tolist(), 3)}"


def _whole(chosen: NDArray[np.int64]) -> Part:
    return Part("", np.ones(len(chosen), dtype=bool))


def _describe(
    placed: PlacedAnnotations,
    trial: Trial,
    boxes: Boxes,
    chosen: NDArray[np.int64],
    found: _Found,
) -> Finding:
    part, (reading, *_), evidence = found
    count = int(part.members.sum())
    beyond = int(trial.beyond[part.members].sum())
    reasons = []
    if evidence.fits:
        left = evidence.left or "none"
        reasons.append(f"{beyond:,} of them reach beyond their photographs; {left} would")
    if evidence.gain:
        reasons.append("they would lie on objects more clearly than now")
    extents = placed.sizes[trial.owners][:, ::-1]
    outside = ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= extents))[part.members]
    severity: Severity = "error" if outside.any() else "warning"
    if reading.kind == OTHER_SIZE:  # some people draw around faces, others around heads
        severity = "info"
    message = f"{_named(part)} look like {reading.text}: {'; '.join(reasons)}"
    path = _path(placed, chosen)
    return Finding(reading.kind, severity, path, message, reading.remedy, count=count)


def _unrelated(
    placed: PlacedAnnotations, trial: Trial, chosen: NDArray[np.int64]
) -> Iterator[Finding]:
    """Finds boxes that fit other photographs as well as their own."""
    for part in (_whole(chosen), *parts_of(placed, trial.owners)):
        if trial.are_unrelated(part.members):
            count = int(part.members.sum())
            message = (
                f"{_named(part)} fit other photographs as well as their own: no clear difference "
                "inside and around them"
            )
            remedy = "look at a few: do the annotations belong to these photographs?"
            path = _path(placed, chosen)
            yield Finding("unrelated_boxes", "warning", path, message, remedy, count=count)
            return


def _named(part: Part) -> str:
    boxes = counted(int(part.members.sum()), "box", "boxes")
    return f"{boxes} of {part.text}" if part.text else f"all {boxes}"


def _path(placed: PlacedAnnotations, chosen: NDArray[np.int64]) -> str:
    table = placed.table
    return table.annotation_sets[int(table.instance_set_ids[chosen[0]])].path
