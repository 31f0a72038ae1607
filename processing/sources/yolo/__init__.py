"""Reads YOLO data sets; what other formats need as well does not belong here."""

from processing.sources.yolo.reader import FORMAT

__all__ = ["FORMAT"]
