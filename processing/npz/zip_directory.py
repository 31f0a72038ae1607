"""Reads the ZIP directory of an NPZ file and compares it with the header of each member.

A ZIP file states the name, size and checksum of each member twice: in its directory and in the
local header before the member. A difference means damage. A reader that trusts one of the two would
return wrong bytes or miss a member, so opening compares them all: microseconds per member.
"""

from __future__ import annotations

import errno
import io
import mmap
import struct
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from processing.core.error_notes import with_filename
from processing.core.errors import REBUILD, NPZFormatError, damaged
from processing.core.urls import Location
from processing.npz.format import (
    END,
    END_SIGNATURE,
    EXTRA_HEADER,
    IN_ZIP64,
    LOCAL_HEADER,
    LOCAL_SIGNATURE,
    ZIP64_ID,
    Member,
    end_of_archive,
)

# Flags of a member that other writers may set: APPNOTE 4.4.4, bits 0, 3 and 11.
_ENCRYPTED: Final = 0x1
_SIZES_FOLLOW: Final = 0x8  # written to a stream: only the directory has sizes and checksum
_UTF8_NAME: Final = 0x800
_MAX_COMMENT: Final = 0xFFFF  # bytes that may follow the end record
MAX_DIRECTORY: Final = 4 << 20  # bytes, 40,000 members; a larger one is an attack on memory
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the two that numpy writes

Located: TypeAlias = tuple[zipfile.ZipInfo, int]
"""A member's entry in the directory, and the byte of the file where its data begins."""


class _DirectoryFile(io.FileIO):
    """A file that refuses reads larger than any directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(
                f"its directory would have {size:,} bytes, at most {MAX_DIRECTORY:,} are read"
            )
        return super().read(-1 if size is None else size)


def read_directory(path: Location, file: int, mapped: mmap.mmap) -> list[Located]:
    """Reads the directory, and checks it against the local header of each member.

    Args:
        path: for messages.
        file: descriptor of the file; stays open.
        mapped: map of the whole file.

    Raises:
        NPZFormatError: as `read_entries` and `locate`.
    """
    return locate(path, mapped, read_entries(path, file, mapped))


def read_entries(path: Location, file: int, mapped: mmap.mmap) -> list[zipfile.ZipInfo]:
    """Reads the directory at the end of a file; no other part of the file is looked at.

    Args:
        path: for messages.
        file: descriptor of the file; stays open.
        mapped: map of the whole file.

    Raises:
        NPZFormatError: the file is no ZIP file, is incomplete, or has two members of one name.
    """
    try:
        with zipfile.ZipFile(_DirectoryFile(file, closefd=False)) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile raises many types for damaged directories
        _raise_system_error(path, error)
        found = f"begins with {mapped[:4]!r}"
        if mapped[:4] == LOCAL_SIGNATURE:
            found = "begins like one: was it cut short, or the copy interrupted?"
        raise NPZFormatError(
            f"{path}: not a complete NPZ (ZIP) file of {len(mapped):,} bytes; it {found} ({error})"
        ) from error
    _check_count(path, mapped, len(infos))
    names = set()
    for info in infos:
        if info.filename in names:
            raise NPZFormatError(
                f"{path}: holds member {info.filename!r} more than once: rebuild it"
            )
        names.add(info.filename)
    return infos


def locate(path: Location, mapped: mmap.mmap, infos: Sequence[zipfile.ZipInfo]) -> list[Located]:
    """Finds where the data of members begins, and compares local headers with the directory.

    Args:
        path: for messages.
        mapped: map of the whole file.
        infos: the directory.

    Raises:
        NPZFormatError: a local header differs from the directory; data reaches beyond the file or
            overlaps another member; or a member is encrypted or of an unknown ZIP method.
    """
    members = [(info, _data_start(path, mapped, info)) for info in infos]
    _check_overlaps(path, members)
    return members


def _raise_system_error(path: Location, error: Exception) -> None:
    """Raises a failure of disk or memory again, which zipfile may report as a damaged file."""
    for met in (error, error.__context__):
        # EINVAL is damage: a wrong offset made zipfile seek before the start of the file.
        if isinstance(met, MemoryError) or (
            isinstance(met, OSError) and met.errno not in (None, errno.EINVAL)
        ):
            with with_filename(str(path)):
                raise met


def _check_count(path: Location, mapped: mmap.mmap, listed: int) -> None:
    """Compares the number of directory entries with the end record.

    zipfile does not: a wrong length in one entry makes it skip the entries after it.
    """
    last = len(mapped) - END.size  # where the record begins if no comment follows it
    end = mapped.rfind(END_SIGNATURE, max(0, last - _MAX_COMMENT), last + len(END_SIGNATURE))
    _, _, _, _, expected, _, _, _ = END.unpack_from(mapped, end)
    if expected not in (listed, 0xFFFF):  # 0xFFFF: more members than the field can hold
        raise damaged(f"{path}", f"its directory lists {listed} members, {expected} were written")


def _check_overlaps(path: Location, members: Sequence[Located]) -> None:
    in_file_order = sorted(members, key=lambda member: member[0].header_offset)
    for (info, start), (following, _) in pairwise(in_file_order):
        end = start + info.compress_size
        if end > following.header_offset:
            found = f"but member {following.filename!r} begins at {following.header_offset:,}"
            raise damaged(f"{path}", f"member {info.filename!r} ends at {end:,}, {found}")


def _data_start(path: Location, mapped: mmap.mmap, info: zipfile.ZipInfo) -> int:
    """Checks a member's local header and returns where its data begins."""
    where = f"{path}: member {info.filename!r}"
    offset = info.header_offset
    if not 0 <= offset <= len(mapped) - LOCAL_HEADER.size:
        found = f"its header at {offset:,} lies outside the file's {len(mapped):,} bytes"
        raise damaged(where, found)
    signature, _, flags, method, _, _, crc, packed, size, name_size, extra_size = (
        LOCAL_HEADER.unpack_from(mapped, offset)
    )
    name_end = offset + LOCAL_HEADER.size + name_size
    name = mapped[name_end - name_size : name_end]
    encoding = "utf-8" if info.flag_bits & _UTF8_NAME else "cp437"
    if signature != LOCAL_SIGNATURE or name != info.orig_filename.encode(encoding, "replace"):
        raise damaged(where, f"at {offset:,} there is no header of a member of that name")
    if (flags | info.flag_bits) & _ENCRYPTED:
        raise NPZFormatError(f"{where}: encrypted members are not read; rebuild it unencrypted")
    if info.compress_type not in _METHODS:
        raise NPZFormatError(
            f"{where}: of ZIP method {info.compress_type}; only stored and deflated members are "
            "read: write it with numpy.savez"
        )
    # The length of the extra fields may differ from the directory's: ours have the padding here.
    start: int = name_end + extra_size
    local = (flags, method, crc, *_local_sizes(mapped[name_end:start], packed, size))
    listed = (info.flag_bits, info.compress_type, info.CRC, info.compress_size, info.file_size)
    compared = len(listed)
    if flags & info.flag_bits & _SIZES_FOLLOW:
        compared = 2  # the local header has neither checksum nor sizes
    if local[:compared] != listed[:compared]:
        found = f"{local} in its header at {offset:,}, {listed} in the ZIP directory"
        raise damaged(where, f"flags, method, CRC-32, stored size and size are {found}")
    _check_extent(where, info, start, len(mapped))
    return start


def _local_sizes(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """Returns the stored and the full size of a local header, from its ZIP64 field if needed.

    Args:
        extra: the extra fields.
        packed: the 32-bit field of the stored size.
        size: the 32-bit field of the full size.
    """
    position = 0
    while IN_ZIP64 in (packed, size) and position + EXTRA_HEADER.size <= len(extra):
        field, length = EXTRA_HEADER.unpack_from(extra, position)
        position += EXTRA_HEADER.size
        if field == ZIP64_ID and length >= 16:
            # 4.5.3: a local header has both, the full size first. The field may be cut short.
            full64, packed64 = struct.unpack_from("<2Q", extra.ljust(position + 16), position)
            if packed == IN_ZIP64:
                packed = packed64
            if size == IN_ZIP64:
                size = full64
            break
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


def verify_layout(path: Location, mapped: mmap.mmap, located: Sequence[Located]) -> None:
    """Compares every byte outside the members' data with the bytes that `NPZWriter` writes there.

    Skips files of other writers: some of their bytes have no meaning and no expected value.

    Args:
        path: for messages.
        mapped: map of the whole file.
        located: the members, from `read_directory`.

    Raises:
        NPZFormatError: the file is of `NPZWriter` and a byte differs.
    """
    if not _is_ours(mapped, located):
        return
    members: list[Member] = []
    end = 0  # where the next local header belongs: our files have no gaps
    for info, start in located:
        member = _member(mapped, info, end, start)
        header = member.local_header()
        _compare(path, f"the header of member {info.filename!r}", mapped, end, header)
        members.append(member)
        end += len(header) + info.file_size
    tail = end_of_archive(members, end)
    _compare(path, "the ZIP directory", mapped, end, tail)
    if mapped.size() != end + len(tail):
        found = f"has {mapped.size():,} bytes, {end + len(tail):,} were written"
        raise damaged(f"{path}", f"{found}: something was appended")


def _is_ours(mapped: mmap.mmap, located: Sequence[Located]) -> bool:
    """Whether any local header is as `NPZWriter` writes it; damage may have changed the others."""
    # Our files begin with a header at byte 0. Bytes before it were prepended later, and the padding
    # of the members is still that of their old positions.
    prepended = min((info.header_offset for info, _ in located), default=0)
    for info, start in located:
        found = info.header_offset
        for written in (found, found - prepended):
            expected = _member(mapped, info, written, start).local_header()
            if mapped[found : found + len(expected)] == expected:
                return True
    return False


def _member(mapped: mmap.mmap, info: zipfile.ZipInfo, offset: int, start: int) -> Member:
    """Returns the member as `NPZWriter` places it at `offset`."""
    npy_header_bytes = 10 + int.from_bytes(mapped[start + 8 : start + 10], "little")
    member = Member.aligned(info.filename, offset, npy_header_bytes)
    member.size, member.crc32 = info.file_size, info.CRC
    return member


def _compare(path: Location, what: str, mapped: mmap.mmap, offset: int, expected: bytes) -> None:
    found = mapped[offset : offset + len(expected)]
    if found != expected:
        same = 0
        while found[same : same + 1] == expected[same : same + 1]:  # found may be shorter
            same += 1
        raise NPZFormatError(
            f"{path}: {what}, byte {offset + same:,}: found {found[same : same + 8].hex(' ')!r}, "
            f"{expected[same : same + 8].hex(' ')!r} was written: the file was changed after it "
            f"was written; {REBUILD}"
        )
