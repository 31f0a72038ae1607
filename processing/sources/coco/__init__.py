"""Reads COCO data sets; helpers for other formats too belong in the folder above."""

from processing.sources.coco.reader import FORMAT

__all__ = ["FORMAT"]
