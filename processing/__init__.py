"""Annotated photographs into memory-mapped NPZ files, and lazy datasets over them.

Names are imported on first use, so that reading a file loads no decoder and processing loads no
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor
    from processing.datasets.loader import BatchLoader
    from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset, open_dataset
    from processing.run.processing_report import ProcessingReport

__all__ = [
    "BatchLoader",
    "CombinedLazyDataset",
    "DataProcessor",
    "LazyNPZDataset",
    "ProcessingReport",
    "open_dataset",
]

_HOMES = {
    "BatchLoader": "processing.datasets.loader",
    "CombinedLazyDataset": "processing.lazy_dataset",
    "DataProcessor": "processing.data_processor",
    "LazyNPZDataset": "processing.lazy_dataset",
    "ProcessingReport": "processing.run.processing_report",
    "open_dataset": "processing.lazy_dataset",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
