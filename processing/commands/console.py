"""Output and exit statuses of commands.

Standard streams may be closed, may lack characters of a file's name, and may lose their reader at
any time. None of this changes the exit status of finished work. Names in other people's files are
printed so that they cannot command the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from processing.core.errors import ProcessingError

EXIT_SUCCESS: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2  # of argparse
EXIT_REJECTIONS: Final = 3
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report a program stopped by Ctrl-C

EXIT_STATUSES: Final = (
    f"Exit status: {EXIT_SUCCESS} success, {EXIT_FAILURE} failure, {EXIT_USAGE} wrong usage, "
    f"{EXIT_REJECTIONS} finished with something for you to look at, such as rejected inputs, "
    f"{EXIT_INTERRUPTED} interrupted."
)

FAILURES: Final = (
    *(ProcessingError, OSError, ValueError, RuntimeError, MemoryError),
    ImportError,  # an extra is not installed
    SystemExit,  # it comes from a thread; its status must not become that of the command
)
"""Errors that a command prints in a few lines, without a traceback."""

_HELP_WIDTH: Final = 78  # characters, as argparse wraps on a terminal of 80

_STDERR: Final = 2  # the last of the three standard descriptors

_CONTROLS: Final = {
    code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"
}
"""Characters with which a name could command a terminal, and their escapes, which JSON allows."""


def describe(
    parser: argparse.ArgumentParser,
    description: str,
    examples: Sequence[str],
    exit_statuses: str = EXIT_STATUSES,
) -> None:
    """Gives the help of a command its text.

    Args:
        parser: of the command.
        description: a few sentences.
        examples: arguments to try, each without the name of the command.
        exit_statuses: a sentence about them.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps examples as they are
    parser.description = textwrap.fill(description, _HELP_WIDTH)
    lines = [f"  {parser.prog} {example}".rstrip() for example in examples]
    title = "example:" if len(lines) == 1 else "examples:"
    parser.epilog = "\n".join([title, *lines, "", textwrap.fill(exit_statuses, _HELP_WIDTH)])


def print_result(text: str) -> None:
    """Prints a result to standard output.

    Raises:
        SystemExit: it cannot be written, such as to a full disk; the status is `EXIT_FAILURE`.
    """
    problem = _print(text, sys.stdout)
    if problem is not None:
        print_error(f"the results cannot be printed: {problem}: print them to another place")
        raise SystemExit(EXIT_FAILURE)


def print_error(text: str) -> None:
    """Prints an error message to standard error; if that fails, there is nobody to tell."""
    _print(text, sys.stderr)


def log_to_stderr() -> None:
    """Prints the log of this process, each message as it is, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    escape_controls(handler)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def escape_controls(handler: logging.Handler) -> None:
    """Makes a handler of a log escape characters that command a terminal."""
    if not isinstance(handler.formatter, _Escaping):
        handler.setFormatter(_Escaping(handler.formatter or logging.Formatter()))


class _Escaping(logging.Formatter):
    """Formats messages as another formatter does, after escaping control characters."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        escaped = copy.copy(record)  # other handlers get the message as it is
        escaped.msg, escaped.args = record.getMessage().translate(_CONTROLS), None
        return self._formatter.format(escaped)  # which may add colours


def describe_error(place: object, error: Exception) -> str:
    """Returns an error with its notes in one line that names the file or URL."""
    line = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    if str(place) not in str(error):
        line = f"{place}: {line}"
    return line


def _print(text: str, stream: TextIO | None) -> OSError | None:
    """Prints a text; returns the error if the stream has a reader that does not get it."""
    if stream is None:  # Python found the stream closed
        return None
    if isinstance(stream, io.TextIOWrapper):
        # An ASCII terminal shows a name with escapes; an encoding error would hide it.
        stream.reconfigure(errors="backslashreplace")
    try:
        print(text.translate(_CONTROLS), file=stream, flush=True)
    except BrokenPipeError:  # `| head` stopped reading
        discard_output(stream)
    except OSError as error:  # such as a full disk behind a redirection
        discard_output(stream)
        return error
    return None


def discard_output(stream: TextIO) -> None:
    """Leads a stream that has lost its reader to the null device.

    At exit, Python would flush the stream and fail again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def standard_descriptors() -> Iterator[None]:
    """Opens the null device at descriptors 0 to 2 if a service manager has closed them.

    Otherwise the next opened file would get such a descriptor, and C libraries, which print
    warnings about images to descriptor 2, would write into a data file.
    """
    opened: list[int] = []
    try:
        # The system gives the lowest free descriptor.
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
            opened.append(descriptor)
        os.close(descriptor)
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
