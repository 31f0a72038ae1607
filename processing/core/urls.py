"""URL: the place of a file or directory on another machine. Imports the standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class URL:
    """A URL such as ``s3://bucket/data/train_detector.npz``.

    It has the few members of `pathlib.Path` that name a place. It is no `os.PathLike`: functions
    that read local files refuse it.

    Args:
        text: the URL, with a scheme in small letters, and without a slash at its end.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> URL:
        return URL(f"{self.text}/{name}")

    @property
    def scheme(self) -> str:
        """``s3``."""
        return self.text.partition("://")[0]

    @property
    def is_on_web_server(self) -> bool:
        """Whether a web server has it, instead of a bucket: it is read only, and lists no files."""
        return self.scheme in ("http", "https")

    @property
    def is_in_this_process(self) -> bool:
        """Whether it is in the memory of this process: no other reads it, and it ends with it."""
        return self.scheme == "memory"

    @property
    def root(self) -> str:
        """Scheme and bucket or host: ``s3://bucket``."""
        scheme, _, rest = self.text.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}"

    @property
    def key(self) -> str:
        """Everything behind `root`, without the slash between them."""
        return self.text[len(self.root) + 1 :]

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """`name` without its ending."""
        return PurePosixPath(self.name).stem

    def with_suffix(self, suffix: str) -> URL:
        """Returns the URL with another ending, as `pathlib.Path.with_suffix` does."""
        return self.parent / PurePosixPath(self.name).with_suffix(suffix).name

    @property
    def parent(self) -> URL:
        """The URL without its last part."""
        return URL(self.text.rpartition("/")[0])


Location: TypeAlias = Path | URL
"""A local path or a URL."""


def is_url(text: object) -> bool:
    """Whether a text begins as a URL does: letters and ``://``."""
    return isinstance(text, URL) or (isinstance(text, str) and bool(_URL.fullmatch(text)))
