"""Makes a report and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from processing.core.errors import ForeignFileError
from processing.core.files import make_directory, write_durably
from processing.core.urls import URL, Location

REPORT_NAME: Final = "report.html"
"""The page that a run writes into its output directory."""

MARK: Final = b'<meta name="generator" content="npz-vision-data">'
"""In each page, near its beginning: another run may replace such a file."""
_LOOKED_AT: Final = 4_096  # bytes of a page


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


def check_report(output_dir: Location) -> None:
    """Checks that a run can write its page.

    Raises:
        ImportError: the extra is not installed.
        ValueError: the output directory is at a URL.
    """
    if isinstance(output_dir, URL):
        raise ValueError(  # noqa: TRY004 - a location of the right type, at the wrong place
            f"report needs a local output_dir, got {output_dir}: run `npz-vision report "
            f"{output_dir}` when the files are there"
        )
    check_installed()


def refuse_foreign_report(path: Path) -> None:
    """Checks that a run may replace the page in its output directory.

    Raises:
        ForeignFileError: something is there that is no page of ours.
    """
    if not path.exists():
        return
    begin = path.read_bytes()[:_LOOKED_AT] if path.is_file() else b""
    if MARK not in begin:
        raise ForeignFileError(
            f"{path}: expected a report of ours, found a file of another program: a run with "
            "report would replace it; move it away, or run without report"
        )


def make_report(
    places: Sequence[Location], raw: Location | None = None, cache_dir: Path | None = None
) -> str:
    """Returns a page about stored files, as HTML without anything outside of it.

    The same files give the same page, wherever they are.

    Args:
        places: directories of NPZ files, files, or sets (``NAME-*.npz`` or its manifest).
        raw: the raw directory, for pictures of photographs that were left out; None: unknown.
        cache_dir: for unpacked copies of compressed members; None: next to the file.

    Raises:
        ImportError: the extra is not installed.
        FileNotFoundError: there is no NPZ file.
        NPZFormatError: there are only damaged ones.
        OSError: a file or list cannot be read.
    """
    check_installed()
    from processing.report.page import render
    from processing.report.sheets import make_sheets
    from processing.report.survey import survey

    known = survey(places, raw, cache_dir)
    return render(known, make_sheets(known))


def write_report(
    output: Path,
    places: Sequence[Location],
    raw: Location | None = None,
    cache_dir: Path | None = None,
) -> None:
    """Writes the page about stored files; see `make_report`.

    Args:
        output: where it goes; replaced when it is complete.
        places: as for `make_report`.
        raw: as for `make_report`.
        cache_dir: as for `make_report`.
    """
    page = make_report(places, raw, cache_dir)
    make_directory(output.parent)
    write_durably(output, page.encode())
