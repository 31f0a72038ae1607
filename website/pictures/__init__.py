"""Draws the pictures of the documentation: ``python -m website.pictures``.

Each picture is an SVG that brings its own paper, so that it can be read on a light page and on a
dark one; its colours follow the scheme (`color-scheme`) of the page that shows it. What a picture
states (sizes, offsets, boxes, crops, output of commands) is taken from a real run on photographs
that the demo renders.
"""

from __future__ import annotations

from typing import Final

ELSEWHERE: Final = {
    "detector.jpg": "python -m website.gallery RUN_DIR detector.jpg",
    "landmarker.jpg": "python -m website.gallery RUN_DIR landmarker.jpg",
    "memory.svg": "python -m benchmarks.memory --write-docs",
    "teacher.jpg": "python -m website.gallery RUN_DIR teacher.jpg",
    **{
        f"report{part}-{theme}.png": "python docs/make_report_pictures.py"
        for part in ("", "-charts", "-phone", "-picture")
        for theme in ("light", "dark")
    },
}
"""Pictures in ``docs/images/`` that other commands make, with these commands."""
