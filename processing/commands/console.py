"""What a command prints, on streams that may be closed, narrow, or read by nobody any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Final, TextIO

_LAST_STANDARD: Final = 2


def print_result(text: str) -> None:
    """Prints the result of a command."""
    _print(text, sys.stdout)


def print_error(text: str) -> None:
    """Prints what went wrong."""
    _print(text, sys.stderr)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # closed; what was done, and the exit status, are the same
        return
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # rather than not name a file at all
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # As `| head` does. At its exit Python would try, and fail, once more.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def standard_descriptors() -> Iterator[None]:
    """Keeps the descriptors 0 to 2, which services may close, from becoming files of ours.

    C libraries print what they have to say of an image to them, whatever they are.
    """
    opened: list[int] = []
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
            opened.append(descriptor)
        os.close(descriptor)
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
