"""Turns annotated photographs into memory-mapped NPZ files, and reads them as lazy datasets.

Public names are imported on first use: reading a file loads no decoder, and processing loads no
torch. Inner modules may move between releases; the names listed here stay.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from processing.core.errors import (
        AnnotationError,
        ChecksumError,
        DatasetClosedError,
        Dropped,
        ForeignFileError,
        ImageError,
        IncompleteSetError,
        InterferenceError,
        Note,
        NPZFormatError,
        ProcessingError,
        Rejection,
        SourceError,
        SourceNotFoundError,
        TooManyRejectedError,
        UnsafePickleError,
    )
    from processing.data_processor import DataProcessor
    from processing.datasets.batch import Batch, TensorList
    from processing.datasets.collate import Sample
    from processing.datasets.loader import BatchLoader
    from processing.exporting.export import export
    from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset, open_dataset
    from processing.run.processing_report import ProcessingReport

__all__ = [
    "AnnotationError",
    "Batch",
    "BatchLoader",
    "ChecksumError",
    "CombinedLazyDataset",
    "DataProcessor",
    "DatasetClosedError",
    "Dropped",
    "ForeignFileError",
    "ImageError",
    "IncompleteSetError",
    "InterferenceError",
    "LazyNPZDataset",
    "NPZFormatError",
    "Note",
    "ProcessingError",
    "ProcessingReport",
    "Rejection",
    "Sample",
    "SourceError",
    "SourceNotFoundError",
    "TensorList",
    "TooManyRejectedError",
    "UnsafePickleError",
    "export",
    "open_dataset",
]

# Every public name that is not listed here is defined in `processing.core.errors`.
_MODULES = {
    "Batch": "processing.datasets.batch",
    "BatchLoader": "processing.datasets.loader",
    "CombinedLazyDataset": "processing.lazy_dataset",
    "DataProcessor": "processing.data_processor",
    "LazyNPZDataset": "processing.lazy_dataset",
    "ProcessingReport": "processing.run.processing_report",
    "Sample": "processing.datasets.collate",
    "TensorList": "processing.datasets.batch",
    "export": "processing.exporting.export",
    "open_dataset": "processing.lazy_dataset",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES.get(name, "processing.core.errors"))
    value = getattr(module, name)
    # Python calls this function for missing names only, so the next look-up will not come here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
