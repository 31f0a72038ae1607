"""Encoding: how the images of a file are stored. Imports no codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

STORES: Final = ("raw", "jpeg", "original")
SUBSAMPLINGS: Final = ("444", "422", "420")
MAX_JPEG_SIDE: Final = 65_500
"""Pixels of the longest side that libjpeg encodes and decodes."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the images of a file are stored.

    Args:
        store: ``raw`` stores pixels, ``jpeg`` each image as a JPEG. ``original`` stores a
            photograph that is a JPEG, and is shown as a whole, as its own file; all other images as
            with ``jpeg``.
        quality: of the JPEGs that are made, 1 to 100.
        subsampling: of their colour: ``444`` (none), ``422`` or ``420``.
    """

    store: str = STORES[0]
    quality: int = 95
    subsampling: str = SUBSAMPLINGS[0]

    @property
    def is_raw(self) -> bool:
        """Whether pixels are stored."""
        return self.store == "raw"

    @property
    def keeps_originals(self) -> bool:
        """Whether photographs are stored as their own files where that is possible."""
        return self.store == "original"

    @property
    def key(self) -> str:
        """Text that differs between encodings that store other bytes; empty for pixels."""
        return "" if self.is_raw else f"{self.store} {self.quality} {self.subsampling}"

    @property
    def metadata(self) -> dict[str, Any]:
        """The entry ``encoding`` of a file's metadata."""
        return {"codec": "jpeg", "quality": self.quality, "subsampling": self.subsampling}


RAW: Final = Encoding()
