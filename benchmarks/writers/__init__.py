"""The contenders of the processing benchmark: each turns photographs into a stored data set.

`writer` has their base class and the check of their output, `ours` this project and the limit,
`peers` everything else. All but ours make their samples with `letterboxed`, so that they differ
only in distributing the work and in writing. Each uses all cores as its documentation recommends.
"""

from benchmarks.writers.ours import (
    LIMIT,
    BareLoop,
    BareLoopAllTasks,
    Limit,
    Ours,
    OursAllTasks,
    OursDefaultSizes,
)
from benchmarks.writers.peers import Datasets, LitData, MosaicML, NaiveLoop
from benchmarks.writers.writer import SIDE, Writer, photographs_in

__all__ = [
    "LIMIT",
    "SIDE",
    "BareLoop",
    "BareLoopAllTasks",
    "Datasets",
    "Limit",
    "LitData",
    "MosaicML",
    "NaiveLoop",
    "Ours",
    "OursAllTasks",
    "OursDefaultSizes",
    "Writer",
    "photographs_in",
    "writers",
]


def writers() -> list[Writer]:
    """Return all contenders, the limit first."""
    return [
        Limit(),
        BareLoop(),
        Ours(),
        BareLoopAllTasks(),
        OursAllTasks(),
        OursDefaultSizes(),
        LitData(),
        MosaicML(),
        Datasets(share=0.1),
        NaiveLoop(share=0.1),
    ]
