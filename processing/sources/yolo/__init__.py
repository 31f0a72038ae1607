"""Reads YOLO data sets; helpers for other formats too belong in the folder above."""

from processing.sources.yolo.reader import FORMAT

__all__ = ["FORMAT"]
