"""Unpacks deflated members of NPZ files, once, into files that can be mapped.

Memory is bounded by one chunk. An unpacked file gets its name only once it is complete and its
CRC-32 is right, so a file under that name is good. Processes that want the same member wait for the
one that unpacks it.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from isal.isal_zlib import crc32

from processing.core.error_notes import with_filename
from processing.core.errors import NPZFormatError, damaged, wrong_checksum
from processing.core.files import sync_file

if TYPE_CHECKING:
    from tqdm.auto import tqdm

_CHUNK: Final = 1 << 20  # bytes
_ALWAYS_ALLOWED_BYTES: Final = 64 << 20  # may be unpacked whatever the ratio
_ALWAYS_ALLOWED_OBJECTS: Final = 1 << 20  # bytes of a pickle that may be unpacked so
_MAX_RATIO: Final = 200  # deflate reaches 1,032; photographs and boxes stay below 20


def unpack_member(path: Path, info: zipfile.ZipInfo, start: int, cache_dir: Path | None) -> Path:
    """Writes one compressed member to a file of its own, unless that file exists.

    Archive, member, CRC-32 and size are in the file's name, so the file of an older archive is
    never used.

    Args:
        path: the NPZ file.
        info: the member.
        start: position of its compressed data in the NPZ file.
        cache_dir: where to write, created if missing; the NPZ file's directory if None.

    Returns:
        The unpacked file. It is kept for later readers; it may be deleted while no reader uses it.

    Raises:
        ChecksumError: the unpacked data differs from the ZIP directory's checksum.
        NPZFormatError: the compressed data is damaged, or looks like a decompression bomb.
        OSError: the disk is too full, or the directory cannot be written.
    """
    # Imported here, as tqdm is below: few files are compressed, and these two take 60 ms.
    from filelock import FileLock

    _check_ratio(path, info)
    directory = path.parent if cache_dir is None else cache_dir
    member = quote(info.filename.removesuffix(".npy"), safe="")
    target = directory / f"{path.name}.{member}.{info.CRC:08x}.{info.file_size}.npy"
    if _is_complete(target, info):
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not _is_complete(target, info):
                _check_room(directory, info)
                _unpack(path, info, start, target)
    except OSError as error:
        error.add_note(
            f"{path}: member {info.filename!r} is compressed and must be unpacked once to be "
            f"mapped ({info.file_size:,} bytes, into {directory}); pass cache_dir to unpack it "
            "elsewhere"
        )
        raise
    return target


def _is_complete(target: Path, info: zipfile.ZipInfo) -> bool:
    try:
        return target.stat().st_size == info.file_size
    except FileNotFoundError:
        return False


_SOUND: Final[dict[Path, tuple[int, ...]]] = {}
"""Unpacked files that this process has compared with their checksum, and their state by then."""


def note_sound(unpacked: Path) -> None:
    """Remembers that an unpacked file is right, so that this process compares it only once."""
    _SOUND[unpacked] = _state(unpacked)


def is_known_sound(unpacked: Path) -> bool:
    """Whether this process has compared the file, and nobody has written to it since."""
    return _SOUND.get(unpacked) == _state(unpacked)


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    # The time of the last change of the inode cannot be set back, unlike that of the content.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _check_room(directory: Path, info: zipfile.ZipInfo) -> None:
    free = shutil.disk_usage(directory).free
    if info.file_size > free:
        raise OSError(f"{directory}: {info.file_size:,} bytes are needed, {free:,} are free")


def _unpack(path: Path, info: zipfile.ZipInfo, start: int, target: Path) -> None:
    """Unpacks into a sibling of `target`, makes it durable, and renames it; the lock is held."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # left by a killed process
        # "x": what a link of that name leads to is never written to.
        with with_filename(partial), partial.open("x+b") as file:
            with _progress_bar(path, info) as progress:
                for chunk in _decompressed(path, info, start):
                    file.write(chunk)
                    progress.update(len(chunk))
            sync_file(file)
        shutil.copymode(path, partial)  # a private photograph stays private
        partial.replace(target)
        note_sound(target)  # its checksum was compared while it was unpacked
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _progress_bar(path: Path, info: zipfile.ZipInfo) -> tqdm[Any]:
    from tqdm.auto import tqdm

    return tqdm(
        total=info.file_size,
        unit="B",
        unit_scale=True,
        desc=f"unpacking {path.name}:{info.filename}",
        leave=False,
        disable=None if sys.stderr else True,  # None: shown on a terminal only
    )


def verify_packed(path: Path, info: zipfile.ZipInfo, start: int) -> None:
    """Decompresses a member and compares it with its checksum; keeps nothing.

    Args:
        path: the NPZ file.
        info: the member.
        start: position of its compressed data in the NPZ file.

    Raises:
        ChecksumError: the data differs from the ZIP directory's checksum.
        NPZFormatError: the compressed data is damaged, or looks like a decompression bomb.
    """
    _check_ratio(path, info)
    for _ in _decompressed(path, info, start):
        pass


def _decompressed(path: Path, info: zipfile.ZipInfo, start: int) -> Iterator[bytes]:
    """Yields the decompressed data of a member in chunks; compares its checksum at the end.

    `zipfile` would read the whole directory again for each member.
    """
    where = f"{path}: member {info.filename!r}"
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # raw deflate, without zlib's own header
    found_crc32 = unpacked = 0
    unread = info.compress_size
    with with_filename(path), path.open("rb") as file:
        file.seek(start)
        while not inflater.eof and unpacked <= info.file_size:
            packed = inflater.unconsumed_tail
            if not packed:
                packed = file.read(min(_CHUNK, unread))
                unread -= len(packed)
            try:
                chunk = inflater.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise damaged(where, f"cannot be decompressed ({error})") from error
            if not packed and not chunk:
                break  # the data ends early
            found_crc32 = crc32(chunk, found_crc32)
            unpacked += len(chunk)
            yield chunk
    if unpacked != info.file_size:
        raise damaged(where, f"cannot be unpacked to {info.file_size:,} bytes, found {unpacked:,}")
    if found_crc32 != info.CRC:
        raise wrong_checksum(where, found_crc32, info.CRC)


def check_objects(info: zipfile.ZipInfo, shape: tuple[int, ...], where: str) -> None:
    """Refuses an object array that would take far more memory than its bytes.

    Args:
        info: the member.
        shape: the shape in its NPY header.
        where: file and member, for the message.

    Raises:
        NPZFormatError: its rows are empty, so any number of them fits in a few bytes; or its pickle
            is a decompression bomb.
    """
    allowed = max(_ALWAYS_ALLOWED_OBJECTS, _MAX_RATIO * info.compress_size)
    if 0 in shape[1:] or info.file_size > allowed:
        raise NPZFormatError(
            f"{where}: an object array of shape {shape} in {info.compress_size:,} bytes, which "
            f"unpack to {info.file_size:,}, is taken for a bomb"
        )


def _check_ratio(path: Path, info: zipfile.ZipInfo) -> None:
    """Refuses a decompression bomb before it fills the disk."""
    if info.file_size > max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * info.compress_size):
        raise NPZFormatError(
            f"{path}: member {info.filename!r}: {info.compress_size:,} bytes would unpack to "
            f"{info.file_size:,}; more than {_MAX_RATIO} times as many are taken for a "
            "decompression bomb. If you know where the file comes from, save its arrays "
            "uncompressed with numpy.savez"
        )
