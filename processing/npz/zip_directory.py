"""The ZIP directory of an NPZ file: read, and held against what the file says elsewhere.

A ZIP file says nearly everything twice, in its directory and in a header before each member. What
differs between the two is damage; a reader that believes one of them finds other bytes than were
written, or fewer members. So opening compares all of both, which costs microseconds a member.
"""

from __future__ import annotations

import errno
import io
import mmap
import struct
import zipfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from processing.core.error_notes import with_filename
from processing.core.errors import NPZFormatError
from processing.npz.format import REBUILD, Member, end_of_archive

_LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")  # APPNOTE.TXT 4.3.7, without name and extra field
_EXTRA: Final = struct.Struct("<2H")  # 4.5.1: id and size of one extra field
_ZIP64_ID: Final = 0x0001
_IN_ZIP64: Final = 0xFFFFFFFF
_ENCRYPTED: Final = 0x1
_SIZES_FOLLOW: Final = 0x8  # written to a stream: sizes and checksum are in the directory only
_UTF8_NAME: Final = 0x800
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22  # 4.3.16, without a comment of up to 65,535 bytes
_LARGEST_DIRECTORY: Final = 4 << 20  # 40,000 members; more is no data set but an attack on memory
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the two that numpy writes


class _DirectoryFile(io.FileIO):
    """A file that refuses reads of more than a directory can be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(
                f"its directory would have {size:,} bytes, at most {_LARGEST_DIRECTORY:,} are read"
            )
        return super().read(-1 if size is None else size)


def read_directory(path: Path, file: int, mapped: mmap.mmap) -> list[zipfile.ZipInfo]:
    """All members, as the directory lists them.

    Args:
        path: for messages.
        file: descriptor of the file; stays open.
        mapped: all of the file.

    Raises:
        NPZFormatError: no ZIP file, or not all of one, or it has a member twice.
    """
    try:
        with zipfile.ZipFile(_DirectoryFile(file, closefd=False)) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile lets several kinds through on damaged directories
        _raise_if_not_of_the_content(path, error)
        begins = "begins like one: was it cut short, or the copy interrupted?"
        other = f"begins with {mapped[:4]!r}"
        raise NPZFormatError(
            f"{path}: not a complete NPZ (ZIP) file of {len(mapped):,} bytes; it "
            f"{begins if mapped[:4] == b'PK' + bytes([3, 4]) else other} ({error})"
        ) from error
    # zipfile does not count; a length that is wrong in an entry makes it skip the entries behind.
    end = mapped.rfind(_END, max(0, len(mapped) - _END_BYTES - 0xFFFF))
    expected = int.from_bytes(mapped[end + 10 : end + 12], "little")
    if expected not in (len(infos), 0xFFFF):
        raise NPZFormatError(
            f"{path}: its directory lists {len(infos)} members, {expected} were written: "
            f"the file is damaged; {REBUILD}"
        )
    twice = [name for name, count in Counter(i.filename for i in infos).items() if count > 1]
    if twice:
        raise NPZFormatError(f"{path}: holds member {twice[0]!r} more than once: rebuild it")
    return infos


def _raise_if_not_of_the_content(path: Path, error: Exception) -> None:
    """Raises the failure of disk or memory that zipfile met, or took for damage."""
    for met in (error, error.__context__):
        if isinstance(met, MemoryError) or (
            isinstance(met, OSError) and met.errno not in (None, errno.EINVAL)
        ):  # EINVAL: it went to a position before the file's beginning
            with with_filename(path):
                raise met


def locate_members(path: Path, mapped: mmap.mmap, infos: Sequence[zipfile.ZipInfo]) -> list[int]:
    """Where the data of each member begins, after checking it.

    Raises:
        NPZFormatError: a member's local header does not say what the directory says, its data
            leaves the file or overlaps another's, or it is encrypted or of an unknown method.
    """
    starts = [_data_start(path, mapped, info) for info in infos]
    spans = sorted(
        (info.header_offset, start + info.compress_size, info.filename)
        for info, start in zip(infos, starts, strict=True)
    )
    for (_, end, name), (offset, _, other) in pairwise(spans):
        if end > offset:
            raise NPZFormatError(
                f"{path}: member {name!r} ends at {end:,}, but member {other!r} begins at "
                f"{offset:,}: the file is damaged; {REBUILD}"
            )
    return starts


def _data_start(path: Path, mapped: mmap.mmap, info: zipfile.ZipInfo) -> int:
    """Where the data of a member begins: after its local header, of unknown length."""
    where = f"{path}: member {info.filename!r}"
    offset = info.header_offset
    if not 0 <= offset <= len(mapped) - _LOCAL_HEADER.size:
        raise NPZFormatError(
            f"{where}: its header at {offset:,} lies outside the file's {len(mapped):,} bytes: "
            f"the file is damaged; {REBUILD}"
        )
    magic, _, flags, method, _, _, crc, packed, size, name_size, extra_size = (
        _LOCAL_HEADER.unpack_from(mapped, offset)
    )
    name_end = offset + _LOCAL_HEADER.size + name_size
    name = mapped[name_end - name_size : name_end]
    encoding = "utf-8" if info.flag_bits & _UTF8_NAME else "cp437"
    if magic != b"PK\x03\x04" or name != info.orig_filename.encode(encoding, "replace"):
        raise NPZFormatError(
            f"{where}: at {offset:,} there is no header of a member of that name: "
            f"the file is damaged; {REBUILD}"
        )
    if (flags | info.flag_bits) & _ENCRYPTED:
        raise NPZFormatError(f"{where}: encrypted members are not read; rebuild it unencrypted")
    if info.compress_type not in _METHODS:
        raise NPZFormatError(
            f"{where}: of ZIP method {info.compress_type}; only stored and deflated members are "
            "read: write it with numpy.savez"
        )
    start: int = name_end + extra_size
    local = (flags, method, crc, *_local_sizes(mapped[name_end:start], packed, size))
    listed = (info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size)
    compared = 2 if flags & info.flag_bits & _SIZES_FOLLOW else len(listed)
    if local[:compared] != listed[:compared]:
        raise NPZFormatError(
            f"{where}: flags, method, CRC-32, stored size and size are {local} in its header at "
            f"{offset:,}, {listed} in the ZIP directory: the file is damaged; {REBUILD}"
        )
    _check_extent(where, info, start, len(mapped))
    return start


def _local_sizes(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """Stored and full size of a local header, from its ZIP64 field where they are there."""
    position = 0
    while _IN_ZIP64 in (packed, size) and position + _EXTRA.size <= len(extra):
        field, length = _EXTRA.unpack_from(extra, position)
        position += _EXTRA.size
        if field == _ZIP64_ID and length >= 16:
            # 4.5.3: in a local header both are there, the full size first.
            full, stored = struct.unpack_from("<2Q", extra.ljust(position + 16), position)
            return (
                stored if packed == _IN_ZIP64 else packed,
                full if size == _IN_ZIP64 else size,
            )
        position += length
    return packed, size


def _check_extent(where: str, info: zipfile.ZipInfo, start: int, file_bytes: int) -> None:
    missing = start + info.compress_size - file_bytes
    stored = info.compress_type == zipfile.ZIP_STORED
    if missing > 0 or (stored and info.compress_size != info.file_size):
        raise NPZFormatError(
            f"{where}: expected {info.file_size:,} bytes from offset {start:,}, the file ends "
            f"{max(missing, 0):,} bytes short (stored size {info.compress_size:,}): "
            "was the copy interrupted?"
        )


def verify_layout(
    path: Path, mapped: mmap.mmap, infos: Sequence[zipfile.ZipInfo], starts: Sequence[int]
) -> None:
    """Compares every byte outside the members' data with what our writer would write there.

    Does nothing with a file of another writer: there, some of these bytes carry nothing, and their
    values are not known.

    Raises:
        NPZFormatError: a file of ours has other bytes.
    """
    before = min((info.header_offset for info in infos), default=0)  # ours begin at byte 0
    if not any(
        _equals(mapped, info.header_offset, _member(mapped, info, offset, start))
        for info, start in zip(infos, starts, strict=True)
        for offset in {info.header_offset, info.header_offset - before}
    ):
        return
    members, end = [], 0
    for info, start in zip(infos, starts, strict=True):
        member = _member(mapped, info, end, start)
        header = member.local_header()
        _compare(path, f"the header of member {info.filename!r}", mapped, end, header)
        members.append(member)
        end += len(header) + info.file_size
    tail = end_of_archive(members, end)
    _compare(path, "the ZIP directory", mapped, end, tail)
    if mapped.size() != end + len(tail):
        raise NPZFormatError(
            f"{path}: has {mapped.size():,} bytes, {end + len(tail):,} were written: something was "
            f"appended; {REBUILD}"
        )


def _member(mapped: mmap.mmap, info: zipfile.ZipInfo, offset: int, start: int) -> Member:
    """The member as our writer makes it, if it lies at `offset`."""
    npy_header_bytes = 10 + int.from_bytes(mapped[start + 8 : start + 10], "little")
    member = Member.aligned(info.filename, offset, npy_header_bytes)
    member.size, member.crc32 = info.file_size, info.CRC
    return member


def _equals(mapped: mmap.mmap, offset: int, member: Member) -> bool:
    return mapped[offset : offset + member.header_bytes] == member.local_header()


def _compare(path: Path, what: str, mapped: mmap.mmap, offset: int, expected: bytes) -> None:
    found = mapped[offset : offset + len(expected)]
    if found != expected:
        same = next((i for i, b in enumerate(found) if b != expected[i]), len(found))
        raise NPZFormatError(
            f"{path}: {what}, byte {offset + same:,}: found {found[same : same + 8].hex(' ')!r}, "
            f"{expected[same : same + 8].hex(' ')!r} was written: the file was changed after it "
            f"was written; {REBUILD}"
        )
