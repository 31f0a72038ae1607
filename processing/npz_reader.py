"""Maps an NPZ file: each member a read-only view, nothing read before it is looked at.

`np.load` ignores `mmap_mode` for NPZ files and reads a whole member at each access, so the ZIP
directory is followed by hand: central directory, local header, npy header, bytes. Opening costs the
directory and is O(1) in the size of the data. Members that cannot be viewed in place are unpacked
once (`npz_unpack`) or decoded (`npz_pickle`). Safe from several threads and across fork: there is
no shared file offset.
"""

from __future__ import annotations

import errno
import io
import mmap
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path
from typing import IO, Any, Final, Literal
from zlib import crc32 as small_crc32

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from processing.error_notes import naming
from processing.errors import ChecksumError, NPZFormatError
from processing.npz_pickle import load_object_array
from processing.npz_unpack import unpack_member

_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7, without name and extra field
_ENCRYPTED: Final = 0x1
_UTF8_NAME: Final = 0x800
_NPY_PREFIX: Final = 1 << 14  # numpy refuses headers above 10,000 characters
_CRC_CHUNK: Final = 1 << 26  # bytes between two chances to interrupt a check

_HEADER_READERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True)
class _NpyFile:
    """The bytes of one ``.npy`` file, in the archive or unpacked: ``map[start:start + length]``."""

    map: mmap.mmap
    start: int
    length: int

    def bytes(self) -> memoryview:
        return memoryview(self.map)[self.start : self.start + self.length]


class MappedNPZ(Mapping[str, NDArray[Any]]):
    """An NPZ file as a mapping from member names to read-only arrays.

    Stored members are views of the file; deflated ones are unpacked at their first access and
    mapped from there; object arrays are decoded at their first access, by an unpickler that runs no
    code. Views stay valid when the mapping is
    gone.

    Args:
        path: the NPZ file.
        cache_dir: where deflated members are unpacked to; beside the NPZ file if None.

    Raises:
        FileNotFoundError: there is no such file.
        NPZFormatError: not a ZIP file, or one that is damaged, cut short or encrypted.

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
        self.path = Path(path).absolute()
        self.cache_dir = None if cache_dir is None else Path(cache_dir).absolute()
        self._map, self._members = _open(self.path)
        self._maps = {self.path: self._map}
        self._files: dict[str, _NpyFile] = {}
        self._arrays: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array of one member, as a read-only view wherever the file allows it.

        Raises:
            KeyError: no such member.
            NPZFormatError: the member is damaged, or its header promises another size than it has.
            UnsafePickleError: an object array that holds more than arrays, lists, numbers and text.
        """
        # Two threads that meet here compute equal views; either may be kept.
        if name not in self._arrays:
            self._arrays[name] = self._array(name)
        return self._arrays[name]

    @property
    def content_id(self) -> int:
        """A number that differs (32 bits) between files with other members, sizes or checksums."""
        members = [(i.filename, i.CRC, i.file_size) for i in self._members.values()]
        return small_crc32(repr(members).encode())

    def member_bytes(self, name: str) -> memoryview:
        """The raw ``.npy`` file of one member, header included, as a read-only view."""
        return self._file(name).bytes()

    def member_crc32(self, name: str) -> int:
        """The CRC-32 of `member_bytes` as the ZIP directory states it."""
        return self._members[name].CRC

    def location(self, name: str) -> tuple[Path, int]:
        """The file that a member's array is a view of, and the byte where the array begins."""
        npy = self._file(name)
        path = next(path for path, mapped in self._maps.items() if mapped is npy.map)
        return path, npy.start + npy.length - self[name].nbytes

    def verify(self, name: str) -> None:
        """Compares the bytes of one member with the ZIP directory's CRC-32.

        Raises:
            ChecksumError: they differ.
        """
        view, found = self.member_bytes(name), 0
        for start in range(0, len(view), _CRC_CHUNK):
            self.check_size()
            found = crc32(view[start : start + _CRC_CHUNK], found)
        if found != self.member_crc32(name):
            raise ChecksumError(
                f"{self.path}: member {name!r}: CRC-32 is {found:08x}, the ZIP directory says "
                f"{self.member_crc32(name):08x}: the file was damaged after it was written; "
                "restore or rebuild it"
            )

    def check_size(self) -> None:
        """Makes sure that no mapped file has shrunk.

        Touching a page that is gone would kill the process. This cannot help against a file that
        shrinks between this check and the access.

        Raises:
            NPZFormatError: a file is shorter than it was when it was opened.
        """
        for path, mapped in list(self._maps.items()):
            if mapped.size() < len(mapped):
                raise NPZFormatError(
                    f"{path}: had {len(mapped):,} bytes when it was opened, now has "
                    f"{mapped.size():,}: it was cut while in use; replace files by renaming, and "
                    "open it again"
                )

    def _file(self, name: str) -> _NpyFile:
        self.check_size()
        if name not in self._files:
            info = self._members[name]
            if info.compress_type == zipfile.ZIP_STORED:
                start = _stored_start(self.path, self._map, info)
                self._files[name] = _NpyFile(self._map, start, info.file_size)
            else:
                unpacked = unpack_member(self.path, info, self.cache_dir)
                mapped = self._maps.setdefault(unpacked, _map_file(unpacked))
                self._files[name] = _NpyFile(mapped, 0, info.file_size)
        return self._files[name]

    def _array(self, name: str) -> NDArray[Any]:
        npy = self._file(name)
        where = f"{self.path}: member {name!r}"
        shape, fortran_order, dtype, header_size = _read_npy_header(npy, where)
        if dtype == np.object_:
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
        return np.ndarray(shape, dtype, buffer=npy.map, offset=npy.start + header_size, order=order)


def _map_file(path: Path) -> mmap.mmap:
    with naming(path), path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _open(path: Path) -> tuple[mmap.mmap, dict[str, zipfile.ZipInfo]]:
    """The map of the whole file, and its ``.npy`` members by name."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file; `python -m processing.data_processor` makes them"
        )
    if not path.is_file():
        raise NPZFormatError(f"{path}: not a file; an NPZ file is expected")
    if path.stat().st_size == 0:
        raise NPZFormatError(f"{path}: the file is empty; an NPZ file is expected")
    with path.open("rb") as file:  # opened once: a file published meanwhile is another one
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        infos = _npy_members(path, file, mapped)
    twice = [name for name, count in Counter(i.filename for i in infos).items() if count > 1]
    if twice:
        raise NPZFormatError(f"{path}: holds member {twice[0]!r} more than once: rebuild it")
    return mapped, {info.filename.removesuffix(".npy"): info for info in infos}


def _npy_members(path: Path, file: IO[bytes], mapped: mmap.mmap) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            return [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except Exception as error:  # zipfile lets several kinds through on damaged directories
        _raise_if_not_of_the_content(path, error)
        begins = "begins like one: was it cut short, or the copy interrupted?"
        other = f"begins with {mapped[:4]!r}"
        raise NPZFormatError(
            f"{path}: not a complete NPZ (ZIP) file of {len(mapped):,} bytes; it "
            f"{begins if mapped[:4] == b'PK' + bytes([3, 4]) else other} ({error})"
        ) from error


def _raise_if_not_of_the_content(path: Path, error: Exception) -> None:
    """Raises the failure of disk or memory that zipfile met, or took for damage."""
    for met in (error, error.__context__):
        if isinstance(met, MemoryError) or (
            isinstance(met, OSError) and met.errno not in (None, errno.EINVAL)
        ):  # EINVAL: it went to a position before the file's beginning
            with naming(path):
                raise met


def _stored_start(path: Path, mapped: mmap.mmap, info: zipfile.ZipInfo) -> int:
    """Where the data of a stored member begins: after its local header, of unknown length."""
    where = f"{path}: member {info.filename!r}"
    offset = info.header_offset
    if not 0 <= offset <= len(mapped) - _LOCAL_HEADER.size:
        raise NPZFormatError(f"{where}: its header at {offset:,} lies outside the file")
    magic, _, flags, method, *_, name_size, extra_size = _LOCAL_HEADER.unpack_from(mapped, offset)
    name_start = offset + _LOCAL_HEADER.size
    name = mapped[name_start : name_start + name_size]
    encoding = "utf-8" if flags & _UTF8_NAME else "cp437"
    if (
        magic != b"PK\x03\x04"
        or method != info.compress_type
        or name != info.orig_filename.encode(encoding, "replace")
    ):
        raise NPZFormatError(
            f"{where}: at {offset:,} there is no header of a stored member of that name: "
            "the file is damaged"
        )
    if (flags | info.flag_bits) & _ENCRYPTED:
        raise NPZFormatError(f"{where}: encrypted members are not read")
    start: int = name_start + name_size + extra_size
    missing = start + info.file_size - len(mapped)
    if missing > 0 or info.compress_size != info.file_size:
        raise NPZFormatError(
            f"{where}: expected {info.file_size:,} bytes from offset {start:,}, the file ends "
            f"{max(missing, 0):,} bytes short (stored size {info.compress_size:,}): "
            "was the copy interrupted?"
        )
    return start


def _read_npy_header(npy: _NpyFile, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype, and the header's length in bytes."""
    stream = io.BytesIO(npy.bytes()[:_NPY_PREFIX])
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"npy format version {version}")  # noqa: TRY301 - same report as numpy's own
        shape, fortran_order, dtype = _HEADER_READERS[version](stream)
        if any(extent < 0 for extent in shape):
            raise ValueError(f"negative shape {shape}")  # noqa: TRY301 - as above
    except Exception as error:  # numpy's parser lets several kinds through on damaged headers
        raise NPZFormatError(f"{where}: its npy header cannot be read ({error})") from error
    return shape, fortran_order, dtype, stream.tell()
