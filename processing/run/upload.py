"""RemoteOutput: the published files of an output directory at a URL.

A run works in a local directory, with its lock, journal and partial files. Finished files are
verified and put as wholes: nobody ever sees a part of one. A file that is there with equal content
is not put again, and a file of another program is never replaced or deleted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
from isal.isal_zlib import crc32

from processing.core.error_notes import with_filename
from processing.core.errors import NPZFormatError
from processing.core.urls import URL, Location
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.origin import has_own_header
from processing.npz.sets import Manifest
from processing.npz.verify import verify_columns
from processing.remote.files import (
    RemoteFile,
    Span,
    in_parallel,
    list_directory,
    read_file,
)
from processing.remote.stores import open_store
from processing.remote.work_dir import work_directory
from processing.run.file_record import RECORD_BEGINNING, TAIL_BYTES, FileRecord
from processing.run.obsolete import for_report, obsolete_files, obsolete_sets
from processing.run.output_directory import SHARDS_NAME, list_paths
from processing.run.ownership import has_line_of_list, refusal

_LOG = logging.getLogger(__name__)

_LOOKED_AT: Final = 64 << 10
"""Bytes at the beginning of a file that tell whose it is."""
_LONGEST_JSON: Final = 64 << 20
"""Bytes of the largest manifest that is read, of millions of shards."""
_CHUNK: Final = 8 << 20


def check_output(name: str, location: Location, executor: object) -> Location:
    """Checks that files can be written to a place, and returns it.

    Args:
        name: of the argument, for the error's message.
        location: a path or URL.
        executor: the name of an engine, or an executor.

    Raises:
        ValueError: nothing can be written there.
    """
    if isinstance(location, URL) and location.is_on_web_server:
        raise ValueError(
            f"{name}={location.text!r}: web servers are read only: give a local directory, or a "
            "bucket such as s3://BUCKET/DIRECTORY"
        )
    of_others = isinstance(executor, str) and executor != "threads"
    if isinstance(location, URL) and location.is_in_this_process and of_others:
        raise ValueError(
            f"{name}={location.text!r}: is in the memory of this process, and the processes of "
            f"executor={executor!r} cannot write there: give a local directory or a bucket"
        )
    return location


def local_directory(location: Location, work_dir: Path | None) -> Path:
    """Returns the directory in which a run works.

    Args:
        location: the output directory, or its URL.
        work_dir: as for `DataProcessor`.
    """
    return work_directory(work_dir, location) / "output" if isinstance(location, URL) else location


class RemoteOutput:
    """The files at a URL; safe from several threads.

    Args:
        url: of the output directory.

    Raises:
        ImportError: the client for this scheme is not installed.
        ValueError: no client knows the scheme.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self._store = open_store(url)

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each file in the directory, by name.

        Raises:
            OSError: the server does not answer, or refuses.
        """
        return {found.name: found.size for found in list_directory(self.url)}

    def record_names(self) -> set[str]:
        """Returns the names of all records of shards, relative to the directory."""
        directory = self.url / SHARDS_NAME
        return {f"{SHARDS_NAME}/{found.name}" for found in list_directory(directory)}

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None if there is none."""
        try:
            return RemoteFile(self.url / name).size
        except FileNotFoundError:
            return None

    def has(self, name: str, size: int, tail: int) -> bool:
        """Whether a file is as its record says.

        Args:
            name: of the file.
            size: its bytes.
            tail: see `FileRecord.tails`.
        """
        file = RemoteFile(self.url / name)
        try:
            if file.size != size:
                return False
            return crc32(file.read(Span(max(0, size - TAIL_BYTES), size))) == tail
        except FileNotFoundError:
            return False

    def read(self, name: str) -> bytes | None:
        """Returns the content of a small file; None if there is none."""
        try:
            return read_file(self.url / name)
        except FileNotFoundError:
            return None

    def read_record(self, name: str) -> FileRecord | None:
        """Returns the record of a shard's file; None if there is none, or it is damaged."""
        try:
            return msgspec.json.decode(self.read(name) or b"", type=FileRecord)
        except msgspec.DecodeError:
            return None

    def refuse_foreign(self, names: Iterable[str]) -> None:
        """Checks that files that a run may replace were written by this package.

        Args:
            names: relative to the directory; they need not exist.

        Raises:
            ForeignFileError: another program wrote one.
            OSError: the server does not answer, or refuses.
        """
        in_parallel(self._refuse_foreign, list(names))

    def _refuse_foreign(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            size, found = self._look(name)
            if size and not _is_ours(name, found):
                raise refusal(
                    self.url / name, f"a file of another program, which begins with {found[:8]!r}"
                )

    def _look(self, name: str) -> tuple[int, bytes]:
        """Returns the bytes of a file, and its beginning, or all of a description in JSON."""
        file = RemoteFile(self.url / name)
        most = _LONGEST_JSON if name.endswith(".json") else _LOOKED_AT
        return file.size, bytes(file.read(Span(0, min(file.size, most))))

    def is_ours(self, name: str) -> bool:
        """Whether this package wrote a file; False if there is none."""
        try:
            return _is_ours(name, self._look(name)[1])
        except FileNotFoundError:
            return False

    def put_files(self, npz: Path, before: Callable[[], object] | None = None) -> list[str]:
        """Puts a finished file and its lists, unless they are there.

        Lists go first, because a file must never be there without them.

        Args:
            npz: the file on this machine. It is compared with its checksums before it is put.
            before: called before the file at the URL changes.

        Returns:
            Names of the files that were put.

        Raises:
            ForeignFileError: a file of another program would be replaced.
            NPZFormatError: the file was damaged after it was written.
            OSError: the server does not answer, or refuses.
        """
        is_there = self._is_there(npz.name, npz)
        if not is_there:
            _verify(npz, self.url)
            if before is not None:
                before()
        put = [name for path in list_paths(npz) for name in self.put_or_remove(path)]
        if not is_there:
            put += self._put(npz.name, npz)
        return put

    def put_or_remove(self, path: Path) -> list[str]:
        """Puts a list, or deletes that at the URL if there is none on this machine."""
        if not path.exists():
            self.remove(path.name)
            return []
        return [] if self._is_there(path.name, path) else self._put(path.name, path)

    def put_content(self, name: str, content: bytes) -> list[str]:
        """Puts a small file, unless it is there; returns its name if it was put."""
        return [] if self.read(name) == content else self._put(name, content)

    def _put(self, name: str, content: Path | bytes) -> list[str]:
        self._refuse_foreign(name)
        url = self.url / name
        try:
            self._store.put(url.key, content)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{url}: cannot be put: does {url.root} exist?") from error
        if isinstance(content, Path) and self.size(name) != content.stat().st_size:
            raise OSError(
                f"{url}: {content.stat().st_size:,} bytes were put, found {self.size(name)}: does "
                "another program write there? Run again"
            )
        _LOG.debug("put %s", url)
        return [name]

    def _is_there(self, name: str, path: Path) -> bool:
        """Whether a file is at the URL, with equal content."""
        file, size = RemoteFile(self.url / name), path.stat().st_size
        try:
            if file.size != size:
                return False
            begin = max(0, size - TAIL_BYTES) if path.suffix == ".npz" else 0
            with with_filename(path), path.open("rb") as local:
                local.seek(begin)
                while chunk := local.read(_CHUNK):
                    if file.read(Span(begin, begin + len(chunk))) != chunk:
                        return False
                    begin += len(chunk)
        except FileNotFoundError:
            return False
        return True

    def download(self, name: str, path: Path) -> None:
        """Copies a list to this machine."""
        path.write_bytes(read_file(self.url / name))

    def remove(self, name: str) -> bool:
        """Deletes a file of ours; returns whether there was one."""
        if not self.is_ours(name):
            return False
        with contextlib.suppress(FileNotFoundError):  # another job deleted it
            self._store.delete((self.url / name).key)
        return True

    def remove_other(self, name: str, content: bytes) -> None:
        """Deletes a small file of ours unless it has this content: another job may just put it."""
        if self.read(name) not in (None, content):
            self.remove(name)

    def remove_obsolete(self, tasks: Iterable[str], planned: Iterable[str]) -> list[str]:
        """Deletes files that the data no longer has, as `ownership.remove_obsolete` does.

        Args:
            tasks: names of the tasks that were processed; files of other tasks stay.
            planned: names of the files that belong there, without endings.

        Returns:
            Names of the deleted files, all shards of a set as one.
        """
        tasks, planned = list(tasks), set(planned)
        names = self.sizes()
        # First: without its manifest, there is no set.
        manifests = [f"{name}.json" for name in obsolete_sets(tasks, planned)]
        in_parallel(self.remove, [name for name in manifests if name in names])
        candidates = obsolete_files(names, tasks, planned)
        are_ours = in_parallel(self.is_ours, candidates)
        found = [name for name, ours in zip(candidates, are_ours, strict=True) if ours]
        records = self.record_names()
        # Without their file, no run would find them.
        first = [path.name for name in found for path in list_paths(Path(name))]
        in_parallel(self.remove, [name for name in first if name in names])
        stale = obsolete_files((_npz_of(name) for name in records), tasks, planned)
        in_parallel(self.remove, [record_name(name) for name in stale])
        in_parallel(self.remove, found)
        return for_report(found)


def record_name(npz_name: str) -> str:
    """Returns the name of the record of a shard's file, relative to the output directory."""
    return f"{SHARDS_NAME}/{npz_name.removesuffix('.npz')}.json"


def _npz_of(record: str) -> str:
    return record.rpartition("/")[2].removesuffix(".json") + ".npz"


def _is_ours(name: str, content: bytes) -> bool:
    """Whether this package wrote a file.

    Args:
        name: relative to the output directory.
        content: its beginning; all of it if it is JSON.
    """
    if name.endswith(".npz"):
        return has_own_header(content, 0)
    if name.endswith(".jsonl"):
        return has_line_of_list(content)
    if name.startswith(f"{SHARDS_NAME}/"):
        return content.startswith(RECORD_BEGINNING)
    try:
        msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError:
        return False
    return True


def _verify(npz: Path, url: URL) -> None:
    """Compares every byte of a file with its checksums, before it is put.

    The file is still in the memory of the system, so that this takes little of the time of a run.
    """
    try:
        verify_columns(Contents.read(MappedNPZ(npz), will_gather=False))
    except NPZFormatError as error:
        error.add_note(
            f"the file was damaged on this machine, and is not put at {url}: delete it, and run "
            "again"
        )
        raise
