"""Work directories: the local directories of a processing run, one for each URL."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from processing.core.arguments import check_path
from processing.core.urls import URL, Location

_APPLICATION: Final = "npz-vision-data"
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")


def check_work_dir(
    work_dir: str | os.PathLike[str] | None, places: Sequence[Location]
) -> Path | None:
    """Checks the argument `work_dir`; returns it as a path.

    Args:
        work_dir: the argument; None if the user named none.
        places: the raw directory and the output directory.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty, or neither place is a URL, so that nothing would be put there.
    """
    if work_dir is None:
        return None
    path = check_path("work_dir", work_dir)
    if not any(isinstance(place, URL) for place in places):
        raise ValueError(
            f"work_dir={work_dir}: nothing would be put there, because raw_data_dir and "
            "output_dir are no URLs; leave it out"
        )
    return path


def work_directory(work_dir: Path | None, url: URL) -> Path:
    """Returns the directory of a URL; it need not exist.

    Args:
        work_dir: the directory named by the user. None: the user's cache directory, by the XDG
            Base Directory Specification.
        url: of a directory. Two URLs never share a directory.
    """
    if work_dir is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        work_dir = Path(cache) / _APPLICATION
    readable = _ODD.sub("-", url.text)[-40:]
    return work_dir / f"{readable}-{sha256(url.text.encode()).hexdigest()[:16]}"
