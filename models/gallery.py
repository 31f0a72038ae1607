"""Gallery: chooses the best, the worst and some random samples of a validation.

The choice is deterministic, and the same for any number of ranks. Images of other samples are not
kept. Imports nothing but the standard library.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

GROUPS: Final = ("best", "worst", "random")
GROUP_SIZE: Final = 4
"""Most samples of a group."""

_HELD: Final = len(GROUPS) * GROUP_SIZE
"""Samples held for each group: enough are left if the other groups show the first of them."""


class Candidate(NamedTuple):
    """A sample that may be shown.

    Args:
        quality: how good the prediction is; higher is better, and NaN is the worst.
        key: name of the sample, unique in the data set; orders samples of equal quality.
    """

    quality: float
    key: str

    @property
    def random(self) -> int:
        """A number that looks random and depends on the key only."""
        return zlib.crc32(self.key.encode("utf-8", "surrogatepass"))


Shortlist = dict[str, list[Candidate]]
"""The candidates of each group, the first to show first."""


class Gallery:
    """Collects samples one by one.

    Attributes:
        seen: number of samples that were offered.
        shortlist: the candidates of each group; small, and can be sent to other ranks.
        samples: for each candidate's key, the image and the record that were offered.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.shortlist: Shortlist = {group: [] for group in GROUPS}
        self.samples: dict[str, tuple[Any, Any]] = {}

    def add(self, candidate: Candidate, sample: Callable[[], tuple[Any, Any]]) -> None:
        """Offer a sample; `sample`, called if the candidate is held, returns (image, record)."""
        self.merge(1, {group: [candidate] for group in GROUPS})
        held = {one.key for candidates in self.shortlist.values() for one in candidates}
        if candidate.key in held:
            self.samples[candidate.key] = sample()
        for key in self.samples.keys() - held:
            del self.samples[key]

    def merge(self, seen: int, shortlist: Shortlist) -> None:
        """Add the candidates of a gallery that has seen other samples, without their images."""
        self.seen += seen
        for group, candidates in shortlist.items():
            both = [*self.shortlist[group], *candidates]
            self.shortlist[group] = heapq.nsmallest(_HELD, both, key=_ORDER[group])

    def groups(self) -> dict[str, list[str]]:
        """Return the keys to show in each group that has any.

        No sample is in two groups. The best sample comes first among the best, the worst first
        among the worst.
        """
        size = min(GROUP_SIZE, math.ceil(self.seen / len(GROUPS)))
        shown: set[str] = set()
        groups = {}
        for group in GROUPS:
            keys = [one.key for one in self.shortlist[group] if one.key not in shown][:size]
            shown.update(keys)
            if keys:
                groups[group] = keys
        return groups

    def chosen(self) -> dict[str, tuple[Any, Any]]:
        """Return the samples that `groups` names, as far as they were offered to this gallery."""
        keys: Iterable[str] = (key for keys in self.groups().values() for key in keys)
        return {key: self.samples[key] for key in keys if key in self.samples}


def _from_worst(candidate: Candidate) -> tuple[float, str]:
    quality = -math.inf if math.isnan(candidate.quality) else candidate.quality
    return quality, candidate.key


def _from_best(candidate: Candidate) -> tuple[float, str]:
    quality, key = _from_worst(candidate)
    return -quality, key


def _shuffled(candidate: Candidate) -> tuple[int, str]:
    return candidate.random, candidate.key


_ORDER: Final[dict[str, Callable[[Candidate], Any]]] = {
    "best": _from_best,
    "worst": _from_worst,
    "random": _shuffled,
}
