"""Texts that fit into a page: short, and the same wherever the files are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from processing.core.urls import Location

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


def without_path(message: str, path: Location) -> str:
    """Returns a message for a place that names the file already."""
    return without_directory(message, path).removeprefix(f"{path.name}: ")


def without_directory(message: str, path: Location) -> str:
    """Returns a message without the directory of a file, on which no page depends."""
    directory = path.parent.absolute() if isinstance(path, Path) else path.parent
    for parent in (str(directory), str(path.parent)):
        if len(parent) > 1:  # a point or a slash may be anywhere
            message = message.replace(f"{parent}/", "").replace(parent, "")
    return message
