"""MappedNPZ: maps an NPZ file, so that each member is a read-only view and nothing is read early.

`np.load` ignores `mmap_mode` for NPZ files and reads a whole member at each access. So the ZIP
structures are followed here: directory, local header, NPY header, data. Opening reads the directory
and the local headers only; its time does not depend on the size of the data. Members that cannot be
viewed in place are unpacked once (`unpacked.py`) or decoded (`pickled.py`). Safe from several
threads and across fork, because there is no shared file offset.
"""

from __future__ import annotations

import mmap
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal
from zlib import crc32 as small_crc32

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.core.error_notes import with_filename
from processing.core.errors import ChecksumError, NPZFormatError, damaged, wrong_checksum
from processing.core.urls import Location
from processing.npz.npy_header import read_npy_header
from processing.npz.pickled import load_object_array
from processing.npz.unpacked import (
    check_objects,
    is_known_sound,
    note_sound,
    unpack_member,
    verify_packed,
)
from processing.npz.zip_directory import Located, read_directory, verify_layout

CHECK_BYTES: Final = 1 << 24
"""Bytes that a check reads before it looks at the file's size again and releases the pages."""


@dataclass(frozen=True, slots=True)
class _NpyFile:
    """One ``.npy`` file, in the archive or unpacked: the bytes ``map[start:start + length]``."""

    map: mmap.mmap
    start: int
    length: int

    def bytes(self) -> memoryview:
        return memoryview(self.map)[self.start : self.start + self.length]


class MappedNPZ(Mapping[str, NDArray[Any]]):
    """An NPZ file as a mapping from member names to read-only arrays.

    Stored members are views of the file. Deflated members are unpacked to a file at their first
    access and mapped from there. Object arrays are decoded at their first access, by an unpickler
    that runs no code. Views stay valid after the `MappedNPZ` is deleted.

    Args:
        path: the NPZ file.
        cache_dir: directory for unpacked members; the NPZ file's own if None.

    Raises:
        FileNotFoundError: there is no such file.
        NPZFormatError: the file is no ZIP file, or is damaged, cut short or encrypted.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, images=np.zeros((5, 2, 2, 3), np.uint8))
        >>> MappedNPZ(path)["images"].shape
        (5, 2, 2, 3)
    """

    def __init__(
        self, path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None
    ) -> None:
        place = Path(path).absolute()
        self._begin(place, cache_dir, *_open(place))

    def _begin(
        self,
        place: Location,
        cache_dir: str | PathLike[str] | None,
        mapped: mmap.mmap,
        located: list[Located],
    ) -> None:
        """Sets all attributes, for a map and the members in it."""
        self.path = place
        self.cache_dir = None if cache_dir is None else Path(cache_dir).absolute()
        self._map, self._located = mapped, located
        self._members: dict[str, Located] = {}
        for info, start in self._located:
            if info.filename.endswith(".npy"):
                self._members[info.filename.removesuffix(".npy")] = info, start
        self._maps: dict[Location, mmap.mmap] = {self.path: self._map}
        self._files: dict[str, _NpyFile] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Returns the array of one member: a read-only view, or a copy of an object array.

        Raises:
            KeyError: there is no such member.
            NPZFormatError: the member is damaged, or its header promises another size than it has.
            UnsafePickleError: an object array holds more than arrays, lists, numbers and text.
        """
        # No lock: two threads that meet here compute equal views, and either may be kept.
        self.check_size()
        if name not in self._arrays:
            self._arrays[name] = self._array(name)
        return self._arrays[name]

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file."""
        return len(self._map)

    @property
    def content_id(self) -> int:
        """A 32-bit hash of the names, sizes and checksums of all members."""
        members = [(i.filename, i.CRC, i.file_size) for i, _ in self._members.values()]
        return small_crc32(repr(members).encode())

    def member_bytes(self, name: str) -> memoryview:
        """Returns the ``.npy`` file of one member, header included, as a read-only view."""
        return self._file(name).bytes()

    def entry(self, name: str) -> zipfile.ZipInfo:
        """Returns a member's entry in the ZIP directory: size and CRC-32 of `member_bytes`."""
        return self._members[name][0]

    def location(self, name: str) -> tuple[Location, int]:
        """Returns the mapped file of a member, and the byte of it where the array begins."""
        npy = self._file(name)
        path = next(path for path, mapped in self._maps.items() if mapped is npy.map)
        return path, npy.start + npy.length - self[name].nbytes

    def file_of(self, name: str) -> tuple[Path, int]:
        """Returns the same as `location` for a member of a local file."""
        path, start = self.location(name)
        assert isinstance(path, Path)
        return path, start

    def is_in_place(self, name: str) -> bool:
        """Whether a member lies in the NPZ file itself, and was not unpacked to another one."""
        return self._file(name).map is self._map

    def whole(self) -> MappedNPZ:
        """Returns this file with all its bytes; a file at a URL has only some of them."""
        return self

    def verify(self, name: str) -> None:
        """Compares the bytes of one member with the ZIP directory's CRC-32.

        For a deflated member, compares the compressed data and the unpacked file, if it is mapped.

        Raises:
            ChecksumError: they differ.
            NPZFormatError: the compressed data is damaged.
        """
        info, start = self._members[name]
        expected = info.CRC
        if info.compress_type != zipfile.ZIP_STORED:
            verify_packed(self._local_path, info, start)
            if name not in self._files:
                return
        npy, found = self._file(name), 0
        for start in range(0, npy.length, CHECK_BYTES):
            self.check_size()
            found = crc32(npy.bytes()[start : start + CHECK_BYTES], found)
            self.release_pages(npy.map)
        if found != expected and npy.map is self._map:
            raise wrong_checksum(f"{self.path}: member {name!r}", found, expected)
        if found != expected:
            path, _ = self.location(name)
            raise ChecksumError(
                f"{path}: unpacked from member {name!r} of {self.path}: CRC-32 is {found:08x}, "
                f"not {expected:08x}: it was damaged after it was unpacked; delete it"
            )

    def verify_layout(self) -> None:
        """Compares the bytes outside the members' data with those that `NPZWriter` writes.

        Does nothing for files of other writers.

        Raises:
            NPZFormatError: a byte differs.
        """
        verify_layout(self.path, self._map, self._located)

    def release_pages(self, mapped: mmap.mmap | None = None) -> None:
        """Removes the pages of a large map from this process's memory; the page cache keeps them.

        Args:
            mapped: the map; that of the NPZ file if None.
        """
        if mapped is None:
            mapped = self._map
        if len(mapped) > CHECK_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def check_size(self) -> None:
        """Checks that no mapped file has shrunk.

        Reading a page beyond the end of the file would kill the process (SIGBUS). A file that
        shrinks between this check and the access still does.

        Raises:
            NPZFormatError: a file is shorter than when it was opened.
        """
        for path, mapped in list(self._maps.items()):  # another thread may add a map
            if mapped.size() < len(mapped):
                raise NPZFormatError(
                    f"{path}: had {len(mapped):,} bytes when it was opened, now has "
                    f"{mapped.size():,}: it was cut while in use; replace files by renaming, and "
                    "open it again"
                )

    @property
    def is_whole(self) -> bool:
        """Whether no mapped file has shrunk; see `check_size`."""
        return all(mapped.size() >= len(mapped) for mapped in list(self._maps.values()))

    def _file(self, name: str) -> _NpyFile:
        self.check_size()
        if name not in self._files:
            info, start = self._members[name]
            if info.file_size == 0:
                found = "its npy header cannot be read (the member is empty)"
                raise damaged(f"{self.path}: member {name!r}", found)
            if info.compress_type == zipfile.ZIP_STORED:
                self._files[name] = _NpyFile(self._map, start, info.file_size)
            else:
                unpacked, mapped = self._unpacked(info, start)
                mapped = self._maps.setdefault(unpacked, mapped)
                self._files[name] = _NpyFile(mapped, 0, info.file_size)
        return self._files[name]

    def _unpacked(self, info: zipfile.ZipInfo, start: int) -> tuple[Path, mmap.mmap]:
        """Returns the unpacked file of a member and its map; replaces a damaged one once."""
        unpacked = unpack_member(self._local_path, info, start, self.cache_dir)
        mapped = _map_file(unpacked)
        # Whatever its size: its name tells which member it is, but not that nobody changed it.
        if not is_known_sound(unpacked) and self._crc32_of(mapped) != info.CRC:
            mapped.close()
            unpacked.unlink(missing_ok=True)
            unpacked = unpack_member(self._local_path, info, start, self.cache_dir)
            mapped = _map_file(unpacked)
        note_sound(unpacked)
        return unpacked, mapped

    @property
    def _local_path(self) -> Path:
        """The path of a file with compressed members; a remote file has none."""
        assert isinstance(self.path, Path)
        return self.path

    def _crc32_of(self, mapped: mmap.mmap) -> int:
        """CRC-32 of a whole mapped file, in bounded memory."""
        found = 0
        with memoryview(mapped) as content:
            for start in range(0, len(mapped), CHECK_BYTES):
                found = crc32(content[start : start + CHECK_BYTES], found)
                self.release_pages(mapped)
        return found

    def _array(self, name: str) -> NDArray[Any]:
        npy = self._file(name)
        where = f"{self.path}: member {name!r}"
        shape, fortran_order, dtype, header_size = read_npy_header(npy.bytes(), where)
        if dtype == np.object_:
            check_objects(self.entry(name), shape, where)
            return load_object_array(npy.bytes()[header_size:], shape, where)
        if dtype.hasobject:
            raise NPZFormatError(f"{where}: dtype {dtype} has object fields, which are not read")
        expected = prod(shape) * dtype.itemsize
        if header_size + expected != npy.length:
            raise NPZFormatError(
                f"{where}: its header promises {dtype} {shape}, {expected:,} bytes, but "
                f"{npy.length - header_size:,} follow it: the header is damaged"
            )
        order: Literal["F", "C"] = "F" if fortran_order else "C"
        start = npy.start + header_size
        try:
            return np.ndarray(shape, dtype, buffer=npy.map, offset=start, order=order)
        # Too many dimensions for this numpy, or too long.
        except (ValueError, OverflowError) as error:
            raise NPZFormatError(f"{where}: no array has the shape {shape} ({error})") from error


def _map_file(path: Path) -> mmap.mmap:
    with with_filename(path), path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open(path: Path) -> tuple[mmap.mmap, list[Located]]:
    """Returns the map of the whole file, and its members with the place of their data."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; `npz-vision process` makes them")
    if path.is_dir():
        raise NPZFormatError(
            f"{path}: not a file but a directory; open_dataset({str(path)!r}, 'train_detector') "
            "opens a data set in it by name"
        )
    if not path.is_file():
        raise NPZFormatError(f"{path}: not a file; an NPZ file is expected")
    with with_filename(path), path.open("rb") as file:
        # One open file for map and directory: another may take its name at any moment.
        if os.fstat(file.fileno()).st_size == 0:
            raise NPZFormatError(f"{path}: the file is empty; an NPZ file is expected")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped, read_directory(path, file.fileno(), mapped)
