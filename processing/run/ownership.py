"""Which files of an output directory this package wrote: no other file is replaced or removed.

Other programs write files of the same names: `numpy.savez("train_detector.npz")` is what everybody
wrote before there was a package for it. A file is ours if it holds something that only this package
writes. Damage almost always leaves enough of it to tell. If nothing tells, the file is refused:
moving it away takes a moment, and bringing it back may be impossible. A file without any content,
such as a power cut may leave, can be replaced without loss.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from numpy.typing import NDArray

from processing.core.error_notes import with_filename
from processing.core.errors import ForeignFileError, Note, NPZFormatError
from processing.core.files import partial_of, remove_durably
from processing.core.urls import Location
from processing.npz.mapped import MappedNPZ
from processing.npz.origin import is_written_by_us
from processing.npz.sets import manifest_path, read_manifest
from processing.run.obsolete import for_report, obsolete_files, obsolete_sets
from processing.run.output_directory import (
    CACHE_NAMES,
    JOURNAL_NAME,
    LOCK_NAME,
    NOTES_NAME,
    SHARDS_NAME,
    earlier_path,
    file_names,
    list_paths,
    npz_path,
    partial_path,
    shard_of,
)

_LOOKED_AT: Final = 1 << 20  # bytes of a journal, list or cache
_MOST_ZEROS: Final = 1 << 30  # bytes; a longer file of zeros is not searched to its end
_FRAME_BYTES: Final = 8  # before the header of a journal
_CHECKSUM_BYTES: Final = 4  # before the archive of a cache

# The keys that a line of a list begins with; see `Rejection`, `Dropped` and `Note`.
_LINE: Final = re.compile(
    rb'^\{"path":".*","stage":"[a-z]+","reason":"'
    rb'|^\{"image":".*","file":".*","place":".*","reason":"'
    rb'|^\{"kind":".*","path":".*","message":"',
    re.MULTILINE,
)
_LINE_BEGINNINGS: Final = (b'{"path":"', b'{"image":"', b'{"kind":"')
# The names of members of the two caches.
_CACHE_MEMBER: Final = re.compile(
    rb"entries\.npy|keys\.npy|(train|val|test)_\w+\.[0-9a-f]{32}\.npy"
)
_ARCHIVE_SIGNATURES: Final = (b"PK\x03\x04", b"PK\x05\x06")
_HEADER_KEYS: Final = (b"\xa3key", b"\xa7outputs", b"\xa7version")  # of a journal, as MessagePack
# A lock is empty. Where the system has no locks, the file holds the number of its process.
_LOCK_CONTENT: Final = re.compile(rb"[0-9]+\n[^\n]{0,255}\n[^\0]{0,1024}\Z")


class _Candidate(NamedTuple):
    """A path that this package may write, and how to tell whether it did."""

    path: Path
    is_ours: Callable[[Path], bool]


def refuse_foreign(directory: Path, planned: Collection[str]) -> None:
    """Checks that every file that a run may replace or remove was written by this package.

    Args:
        directory: the output directory.
        planned: names of the files that the run makes. Files with other names are not replaced.

    Raises:
        ForeignFileError: another program wrote one, or something else than a file has its name.
    """
    # The journal first: it is the proof of the partial files, so it must be ours.
    for candidate in (*_helpers(directory), *_of_runs(directory, planned)):
        # Another process may be at work, and rename its files at any moment.
        with contextlib.suppress(FileNotFoundError):
            _check(candidate)


def refuse_foreign_manifests(directory: Path, names: Collection[str]) -> None:
    """Checks that every manifest that a run may replace was written by this package.

    Args:
        directory: the output directory.
        names: of the sets.

    Raises:
        ForeignFileError: another program wrote one.
    """
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            _check(_Candidate(manifest_path(directory, name), _is_manifest))


def is_ours(path: Path) -> bool:
    """Whether this package wrote a published file, a list or a manifest; False if there is none."""
    kinds = {".npz": is_written_by_us, ".json": _is_manifest}
    try:
        _check(_Candidate(path, kinds.get(path.suffix, _is_list)))
    except (FileNotFoundError, ForeignFileError):
        return False
    return True


def _helpers(directory: Path) -> Iterator[_Candidate]:
    yield _Candidate(directory / LOCK_NAME, _is_lock)
    yield _Candidate(directory / JOURNAL_NAME, _is_journal)
    for name in CACHE_NAMES:
        yield _Candidate(directory / name, _is_cache)
        yield _Candidate(partial_of(directory / name), _is_cache)
    yield _Candidate(directory / NOTES_NAME, _is_list)
    yield _Candidate(partial_of(directory / NOTES_NAME), _is_begun_list)


def _of_runs(directory: Path, planned: Collection[str]) -> Iterator[_Candidate]:
    in_journal = _names_in_journal(directory / JOURNAL_NAME)
    for name in file_names(directory):
        # A partial file has no header until its first flush; the journal was there before it.
        of_journal = _always if name in in_journal else is_written_by_us
        yield _Candidate(partial_path(directory, name), of_journal)
        yield _Candidate(earlier_path(directory, name), is_written_by_us)
        if name in planned:
            yield _Candidate(npz_path(directory, name), is_written_by_us)
            for path in list_paths(npz_path(directory, name)):
                yield _Candidate(path, _is_list)
                yield _Candidate(partial_of(path), _is_begun_list)


def _check(candidate: _Candidate) -> None:
    """Checks that a path can be replaced.

    Raises:
        ForeignFileError: it is of another program.
        FileNotFoundError: there is nothing.
    """
    path = candidate.path
    mode = path.lstat().st_mode
    # Replacing a link to one of our files loses the link only: data version control makes such.
    is_link = stat.S_ISLNK(mode)
    if is_link and (path.suffix != ".npz" or not path.exists()):
        raise refusal(path, f"a link to {path.readlink()}")
    if not path.is_file():
        raise refusal(path, "a folder" if path.is_dir() else "a pipe, socket or device")
    if not candidate.is_ours(path) and not _holds_nothing(path):
        raise refusal(path, _describe(path))


def refusal(path: Location, found: str) -> ForeignFileError:
    """Returns the error about a file of another program in the way."""
    return ForeignFileError(
        f"{path}: expected a file of ours, found {found}: a run would replace it; move it away, or "
        "choose another output_dir"
    )


def _describe(path: Path) -> str:
    begin = _read(path, 8)
    if path.suffix == ".npz" and begin.startswith(_ARCHIVE_SIGNATURES):
        return "an NPZ file of another program, such as numpy.savez"
    return f"a file of another program, which begins with {begin!r}"


def _read(path: Path, size: int = _LOOKED_AT) -> bytes:
    with with_filename(path), path.open("rb") as file:
        return file.read(size)


def _holds_nothing(path: Path) -> bool:
    """Whether a file is empty, or holds zeros only."""
    if path.stat().st_size > _MOST_ZEROS:
        return False
    with with_filename(path), path.open("rb") as file:
        while chunk := file.read(_LOOKED_AT):
            if chunk.count(0) != len(chunk):
                return False
    return True


def _always(path: Path) -> bool:
    return True


def _is_lock(path: Path) -> bool:
    return _LOCK_CONTENT.match(_read(path)) is not None


def _is_list(path: Path) -> bool:
    return has_line_of_list(_read(path))


def has_line_of_list(content: bytes) -> bool:
    """Whether a part of a file holds a line of one of our lists."""
    return _LINE.search(content) is not None


def _is_manifest(path: Path) -> bool:
    try:
        read_manifest(path)
    except NPZFormatError:
        return False
    return True


def _is_begun_list(path: Path) -> bool:
    """Whether a list was cut off anywhere, even in its first line."""
    begin = _read(path, max(map(len, _LINE_BEGINNINGS)))
    return any(key.startswith(begin) or begin.startswith(key) for key in _LINE_BEGINNINGS)


def _is_cache(path: Path) -> bool:
    content = _read(path)
    signature = content[_CHECKSUM_BYTES : _CHECKSUM_BYTES + 4]
    is_begun = len(content) < _CHECKSUM_BYTES + 4
    return is_begun or signature in _ARCHIVE_SIGNATURES or bool(_CACHE_MEMBER.search(content))


def _is_journal(path: Path) -> bool:
    header = _read(path)[_FRAME_BYTES:]
    return any(key in header for key in _HEADER_KEYS) or path.stat().st_size < _FRAME_BYTES


def _names_in_journal(path: Path) -> Collection[str]:
    """The names of the files that a killed run was making, whatever the version of its journal."""
    if not path.is_file():
        return ()
    content = _read(path)
    try:
        length = int.from_bytes(content[:4], "little")
        header: Any = msgspec.msgpack.decode(content[_FRAME_BYTES : _FRAME_BYTES + length])
        return frozenset(header["outputs"])
    except (ValueError, KeyError, TypeError):  # damaged: the names may still be there
        return [name for name in file_names(path.parent) if name.encode() in content]


def remove_orphaned_lists(directory: Path) -> None:
    """Deletes lists without their file, which a killed run left; never those of other programs."""
    for npz in (npz_path(directory, name) for name in file_names(directory)):
        for path in list_paths(npz):
            if not npz.exists() and is_ours(path):
                remove_durably(path)


def remove_obsolete(directory: Path, tasks: Iterable[str], planned: Collection[str]) -> list[str]:
    """Deletes files that the data no longer has; their images are in other files now.

    These are files of other splits, and the files of a division into other shards, or into none.

    Args:
        directory: the output directory.
        tasks: names of the tasks that were processed; files of other tasks stay.
        planned: names of the files that belong there.

    Returns:
        Names of the deleted files, all shards of a set as one. A file that this package did not
        write is never deleted.
    """
    for name in obsolete_sets(tasks, planned):
        if is_ours(manifest_path(directory, name)):
            remove_durably(manifest_path(directory, name))  # first: without it, there is no set
    names = [path.name for path in directory.glob("*.npz")]
    removed = []
    for npz in (directory / name for name in obsolete_files(names, tasks, planned)):
        if is_ours(npz):
            for path in filter(is_ours, list_paths(npz)):
                remove_durably(path)  # first: without their file, no run would find them
            npz.unlink()
            removed.append(npz.name)
    return for_report(removed)


def remove_unused_shards(directory: Path, planned: Collection[str] = ()) -> None:
    """Deletes the directories of shards that have no file left and that no run works in.

    Args:
        directory: the output directory.
        planned: names of shards whose caches stay, although their files may be at a URL.
    """
    for shard in filter(shard_of, sorted((directory / SHARDS_NAME).glob("*"))):
        is_used = any(npz_path(shard, name).exists() for name in file_names(shard))
        is_used |= shard.name in planned
        if not is_used and not (shard / JOURNAL_NAME).exists():
            for candidate in _helpers(shard):
                candidate.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # holds something that is not ours
                shard.rmdir()
    with contextlib.suppress(OSError):  # there is none, or it is in use
        (directory / SHARDS_NAME).rmdir()


def other_files(
    directory: Path, planned: Collection[str], paths: NDArray[Any], *, all_replaced: bool
) -> Iterator[Note]:
    """Notes files of other programs and of other data sets, which a run leaves as they are.

    Args:
        directory: the output directory.
        planned: names of the files that belong to this run.
        paths: StringDType (N,), of all images that the annotations list.
        all_replaced: whether the run has replaced the files of a data set with other images.
    """
    names = [name for name in file_names(directory) if name not in planned]
    files = {name: npz_path(directory, name) for name in names}
    there = [npz for npz in files.values() if npz.is_file()]
    listed = set(paths.tolist()) if there else set()
    for npz in there:
        if not is_ours(npz):
            found = "was written by another program, and stays; datasets of its split and task"
            yield Note("other_file", npz.name, f"{npz.name} {found} will read it: move it away")
            continue
        try:
            images = set(MappedNPZ(npz)["image_paths"].tolist())
        except (NPZFormatError, KeyError, FileNotFoundError):
            continue  # a file that cannot be read trains no model
        missing = len(images) if all_replaced else len(images - listed)
        if missing:
            yield Note(
                "other_data",
                npz.name,
                f"{npz.name} was made of other data, and stays: {missing} of its {len(images)} "
                "images are not in this data set; delete it, or make it again",
                missing,
            )
