"""Texts that are short enough for a page."""

from __future__ import annotations

from typing import Final

LONGEST_PATH: Final = 300  # characters
LONGEST_NAME: Final = 80
LONGEST_MESSAGE: Final = 400


def shorten(text: str, longest: int) -> str:
    """Returns a text that lacks its middle if it is too long, without lone surrogates."""
    text = text.encode(errors="replace").decode()
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
