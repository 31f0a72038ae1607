"""Makes a report and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from processing.core.files import make_directory, write_durably
from processing.core.urls import Location


def check_installed() -> None:
    """Checks that the extra is installed, before a run works for hours.

    Raises:
        ImportError: it is not; the message has the command that installs it.
    """
    try:
        import jinja2  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ImportError(
            "a report needs the package jinja2, which is not installed: "
            'pip install "npz-vision-data[report]"'
        ) from error


def make_report(places: Sequence[Location], raw: Location | None = None) -> str:
    """Returns a page about stored files, as HTML without anything outside of it.

    The same files give the same page, wherever they are.

    Args:
        places: directories of NPZ files, files, or sets (``NAME-*.npz`` or its manifest).
        raw: the raw directory, for pictures of photographs that were left out; None: unknown.

    Raises:
        ImportError: the extra is not installed.
        FileNotFoundError: there is no NPZ file.
        OSError: a file or list cannot be read.
    """
    check_installed()
    from processing.report.page import render
    from processing.report.sheets import make_sheets
    from processing.report.survey import survey

    known = survey(places, raw)
    return render(known, make_sheets(known))


def write_report(output: Path, places: Sequence[Location], raw: Location | None = None) -> None:
    """Writes the page about stored files; see `make_report`.

    Args:
        output: where it goes; replaced when it is complete.
        places: as for `make_report`.
        raw: as for `make_report`.
    """
    page = make_report(places, raw)
    make_directory(output.parent)
    write_durably(output, page.encode())
