"""Unpacks deflated NPZ members, once, into files that can be mapped.

Memory is bounded by one chunk. The unpacked file appears under its name only when it is complete
and its CRC-32 is right, so a file that is there is good; processes that want the same member wait
for the one that unpacks it.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

from filelock import FileLock
from tqdm.auto import tqdm

from processing.core.errors import ChecksumError, NPZFormatError
from processing.npz.format import REBUILD

_CHUNK: Final = 1 << 20
_TRUSTED: Final = 64 << 20  # bytes that may be unpacked from however few
_HIGHEST_RATIO: Final = 200  # deflate reaches 1,032; photographs and boxes stay below 20


def unpack_member(path: Path, info: zipfile.ZipInfo, cache_dir: Path | None) -> Path:
    """Writes one compressed member to a file of its own, unless that was done before.

    The file is named after archive, member, CRC-32 and size, so a changed archive never meets an
    old file.

    Args:
        path: the NPZ file.
        info: the member.
        cache_dir: where to write, created if missing; the NPZ file's directory if None.

    Returns:
        The unpacked file; it stays there for the next time, and may be deleted when nobody reads
        it.

    Raises:
        ChecksumError: what comes out differs from the ZIP directory's checksum.
        NPZFormatError: the compressed data is damaged, or far too small for what it promises.
        OSError: there is no room, or the directory cannot be written.
    """
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
                _unpack(path, info, target)
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


def _check_room(directory: Path, info: zipfile.ZipInfo) -> None:
    free = shutil.disk_usage(directory).free
    if info.file_size > free:
        raise OSError(f"{directory}: {info.file_size:,} bytes are needed, {free:,} are free")


def _unpack(path: Path, info: zipfile.ZipInfo, target: Path) -> None:
    """Unpacks into a sibling of `target`, makes it durable, and renames it; its lock is held."""
    partial = target.with_name(f"{target.name}.partial")  # of a process that was killed, cut first
    try:
        with partial.open("wb") as file:
            _copy_member(path, info, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _copy_member(path: Path, info: zipfile.ZipInfo, file: IO[bytes]) -> None:
    progress = tqdm(
        total=info.file_size,
        unit="B",
        unit_scale=True,
        desc=f"unpacking {path.name}:{info.filename}",
        leave=False,
        disable=None if sys.stderr else True,  # None: shown on a terminal only
    )
    with progress:
        for chunk in _chunks(path, info):
            file.write(chunk)
            progress.update(len(chunk))


def verify_packed(path: Path, info: zipfile.ZipInfo) -> None:
    """Decompresses a member, keeping nothing of it.

    Raises:
        ChecksumError: what comes out differs from the ZIP directory's checksum.
        NPZFormatError: the compressed data is damaged.
    """
    _check_ratio(path, info)
    for _ in _chunks(path, info):
        pass


def _chunks(path: Path, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What a compressed member holds; its checksum is compared at the end."""
    where = f"{path}: member {info.filename!r}"
    unpacked = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                unpacked += len(chunk)
                yield chunk
    except zipfile.BadZipFile as error:
        # zipfile has one exception for all; only here has it read to the end and compared.
        kind = ChecksumError if "CRC-32" in str(error) else NPZFormatError
        raise kind(f"{where}: damaged ({error}); {REBUILD}") from error
    except (zlib.error, EOFError, RuntimeError) as error:
        raise NPZFormatError(f"{where}: cannot be decompressed ({error}); {REBUILD}") from error
    if unpacked != info.file_size:
        raise NPZFormatError(
            f"{where}: {info.file_size:,} bytes expected, {unpacked:,} unpacked: "
            "the file is damaged; restore it from a copy, or process again"
        )


def check_objects(info: zipfile.ZipInfo, shape: tuple[int, ...], where: str) -> None:
    """Refuses an object array that would take far more memory than its bytes.

    Args:
        info: the member.
        shape: the header's.
        where: file and member, for the message.

    Raises:
        NPZFormatError: it is of nothing, however often, or its pickle is a decompression bomb.
    """
    if 0 in shape[1:] or info.file_size > max(1 << 20, _HIGHEST_RATIO * info.compress_size):
        raise NPZFormatError(
            f"{where}: an object array of shape {shape} in {info.compress_size:,} bytes, which "
            f"unpack to {info.file_size:,}, is taken for a bomb"
        )


def _check_ratio(path: Path, info: zipfile.ZipInfo) -> None:
    """Refuses a decompression bomb before it takes disk."""
    if info.file_size > _TRUSTED and info.file_size > _HIGHEST_RATIO * info.compress_size:
        raise NPZFormatError(
            f"{path}: member {info.filename!r}: {info.compress_size:,} bytes would unpack to "
            f"{info.file_size:,}; more than {_HIGHEST_RATIO} times as many are taken for a "
            "decompression bomb. If you know where the file comes from, save its arrays "
            "uncompressed with numpy.savez"
        )
