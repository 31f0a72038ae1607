"""Work directories: the local directories of a processing run, one for each URL."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Final

from processing.core.urls import URL

_APPLICATION: Final = "npz-vision-data"
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")


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
