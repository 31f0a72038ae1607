"""Reads Pascal VOC data sets; what other formats need as well does not belong here."""

from processing.sources.pascal_voc.reader import FORMAT

__all__ = ["FORMAT"]
