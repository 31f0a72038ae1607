"""CSV tables of boxes and landmarks: names of columns, headers, rows, and the reader."""

from processing.sources.csv_manifest.reader import FORMAT

__all__ = ["FORMAT"]
