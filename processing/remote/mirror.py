"""Mirror: the names of all files below a URL, and up-to-date local copies of some of them.

Annotations are read from local files. Photographs are not copied: see `photographs`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Final

import msgspec
from filelock import FileLock, Timeout

from processing.core.errors import SourceError, SourceNotFoundError
from processing.core.files import make_directory, sync_file, write_durably
from processing.core.urls import URL
from processing.remote.files import in_parallel, list_files, read_parts
from processing.remote.stores import Listed

_LOG = logging.getLogger(__name__)
_BETWEEN_NOTES: Final = 1000
"""Files after which the copies are noted: a run that is killed need not copy them again."""
_ODD: Final = re.compile(r"(^|/)\.{0,2}(/|$)|[\0\\:]")
"""In names that may be no path below a directory. All others are, and there may be millions."""


def check_can_list(name: str, url: URL) -> None:
    """Refuses the URL of a web server, which cannot list a directory.

    Args:
        name: of the argument, for the message.
        url: of the directory.

    Raises:
        ValueError: it is of a web server.
    """
    if url.is_on_web_server:
        raise ValueError(
            f"{name}={url.text!r}: web servers do not list their files: download the directory "
            "(such as by wget --recursive --no-parent), or give its URL in a bucket, such as "
            "s3://bucket/raw"
        )


class Mirror:
    """The files below a URL, as they were listed when this object was made.

    Args:
        url: of a directory.
        directory: local, for the copies and notes on them; created if absent. Several processes may
            use it.

    Attributes:
        url: of the directory.
        root: the local directory that holds the copies, under the names of the files.

    Raises:
        SourceNotFoundError: there is no file below the URL.
        SourceError: a name is no path below the URL.
        OSError: the server does not answer, or refuses.
    """

    def __init__(self, url: URL, directory: Path) -> None:
        self.url, self.root = url, directory / "copies"
        self._directory = directory
        self._notes = directory / "copies.json"
        self._partial = directory / "partial"
        self._files = _listing(url)
        self._up_to_date: set[str] = set()

    @property
    def place(self) -> str:
        """The URL, for messages."""
        return str(self.url)

    @property
    def names(self) -> Collection[str]:
        """All files, relative to the URL."""
        return self._files.keys()

    def size(self, name: str) -> int:
        """Returns the bytes of a file; KeyError if there is none."""
        return self._files[name].size

    def find(self, name: str) -> Listed | None:
        """Returns what the list says of a file; None if there is none."""
        return self._files.get(name)

    def copy(self, names: Sequence[str]) -> None:
        """Copies files to `root`, unless their copies are up to date; removes copies of no file.

        Args:
            names: of files.

        Raises:
            SourceError: the local disk cannot hold two of the names.
            OSError: a file cannot be read, or not be written here.
        """
        wanted = [name for name in names if name not in self._up_to_date]
        if not wanted:
            return
        make_directory(self._directory)
        with self._locked():
            versions = self._noted()
            self._remove_obsolete(versions)
            stale = [name for name in wanted if not self._is_copied(name, versions)]
            for first in range(0, len(stale), _BETWEEN_NOTES):
                self._copy(stale[first : first + _BETWEEN_NOTES], versions)
        self._up_to_date.update(wanted)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self._directory / "copies.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _LOG.info("%s: waiting for another process that copies annotations", self.url)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _noted(self) -> dict[str, str]:
        """Returns the version of each copy; empty if the notes are lost or damaged."""
        try:
            versions = msgspec.json.decode(self._notes.read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        # The notes decide which files are removed, so they must not lead out of the directory.
        return {} if any(map(_problem_of, versions)) else versions

    def _is_copied(self, name: str, versions: dict[str, str]) -> bool:
        file = self._files[name]
        if versions.get(name) != file.version:
            return False
        try:
            return (self.root / name).stat().st_size == file.size
        except OSError:
            return False

    def _remove_obsolete(self, versions: dict[str, str]) -> None:
        """Removes partial copies of killed processes, and copies of files that are gone."""
        if self._partial.is_dir():
            for path in self._partial.iterdir():
                path.unlink()
        obsolete = [name for name in versions if name not in self._files]
        for name in obsolete:
            path = self.root / name
            path.unlink(missing_ok=True)
            del versions[name]
            # A file may be called like a folder that was there before.
            with contextlib.suppress(OSError):  # the first folder that holds something else
                for _ in name.split("/")[:-1]:
                    path = path.parent
                    path.rmdir()
        if obsolete:
            self._note(versions)

    def _copy(self, names: Sequence[str], versions: dict[str, str]) -> None:
        """Copies some files and notes their versions."""
        self._partial.mkdir(exist_ok=True)
        # Renamed only after all are here: threads may still write when one of them has failed.
        for name, partial in zip(names, in_parallel(self._download, names), strict=True):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
            versions[name] = self._files[name].version
        self._check_collisions(versions)
        self._note(versions)

    def _download(self, name: str) -> Path:
        descriptor, partial = tempfile.mkstemp(dir=self._partial)
        with os.fdopen(descriptor, "wb") as file:
            for part in read_parts(self.url / name, self._files[name].size):
                file.write(part)
            sync_file(file)
        return Path(partial)

    def _note(self, versions: dict[str, str]) -> None:
        write_durably(self._notes, msgspec.json.encode(versions))

    def _check_collisions(self, names: Iterable[str]) -> None:
        """Refuses names that are one file on this disk, as a and A are on some."""
        alike: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            alike[unicodedata.normalize("NFC", name).casefold()].append(name)
        for first, *others in alike.values():
            for other in others:
                if (self.root / first).samefile(self.root / other):
                    raise SourceError(
                        f"{self.url}: {first!a} and {other!a} are one file on the disk of "
                        f"{self.root}: rename one, or choose a work_dir on a disk that tells "
                        "small from capital letters"
                    )


def _listing(url: URL) -> dict[str, Listed]:
    """Lists a URL, without the empty files that stand for folders in a bucket."""
    files: dict[str, Listed] = {}
    with contextlib.suppress(FileNotFoundError):  # no such bucket
        for file in list_files(url):
            if file.name or file.size:
                files[file.name] = file
    for name in _folders(files) & files.keys():
        if files[name].size:
            raise SourceError(
                f"{url}: {name!a} is both a file and a folder, which no local directory can hold: "
                "rename the file"
            )
        del files[name]
    for name in filter(_ODD.search, files):
        if problem := _problem_of(name):
            raise SourceError(
                f"{url}: a file is called {name!a}, which {problem}: rename or delete it"
            )
    if not files:
        raise SourceNotFoundError(
            f"raw directory {url}: there is no file below it; raw_data_dir must name the place of "
            "the images and their annotations"
        )
    return files


def _folders(names: Iterable[str]) -> set[str]:
    """Returns the folders of all files, and the folders above them."""
    folders: set[str] = set()
    new = {name.rpartition("/")[0] for name in names}
    while new:
        folders |= new
        new = {name.rpartition("/")[0] for name in new} - folders
    return folders


def _problem_of(name: str) -> str:
    """Explains why a name is no path below a directory; ``""`` if it is one."""
    parts = name.split("/")
    if "\0" in name:
        return "holds a NUL"
    if ".." in parts:
        return "would lead out of its folder"
    if PurePath(name).parts != tuple(parts):
        return "is no relative path without empty parts"
    return ""
