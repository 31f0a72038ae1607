"""Reads Pascal VOC data sets; helpers for other formats too belong in the folder above."""

from processing.sources.pascal_voc.reader import FORMAT

__all__ = ["FORMAT"]
