"""Reads COCO data sets; what other formats need as well does not belong here."""

from processing.sources.coco.reader import FORMAT

__all__ = ["FORMAT"]
