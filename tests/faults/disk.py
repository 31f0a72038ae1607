"""Every operation of this process on the files of one directory, handed over before it happens.

What is watched is what the system is asked for: a write is what leaves Python's buffers, at its
offset. An fsync is handed over and not carried out: it matters to a power cut alone, and tests that
simulate one do so from the record.
"""

import contextlib
import functools
import io
import os
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class Operation:
    """One operation.

    Args:
        kind: create, write, truncate, fsync, replace, unlink, or mkdir.
        name: of the file, relative to the directory; ``.`` is the directory itself.
        offset: of a write; of a truncate the new size.
        data: what is written.
        target: of a replace, the new name.
    """

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""
    target: str = ""


def just_do(operation, do, half=None):
    """Performs every operation as it is."""
    return do()


@contextlib.contextmanager
def watched(directory, perform):
    """Calls ``perform(operation, do, half)`` instead of each operation below `directory`.

    `do` carries it out and gives its result, which `perform` must give back; `half`, where it is
    not None, writes the first half of a write.
    """
    root = os.path.realpath(directory)
    original = {name: getattr(os, name) for name in ("replace", "unlink", "mkdir", "fsync")}
    plain_open = io.open

    def inside(path):
        path = os.path.realpath(path)
        return os.path.relpath(path, root) if path == root or path.startswith(root + os.sep) else ""

    def open_file(path, mode="r", *arguments, **options):
        name = inside(path) if isinstance(path, str | Path) else ""
        if not name or "b" not in mode or not set(mode) & set("wx+a"):
            return plain_open(path, mode, *arguments, **options)
        open_raw = functools.partial(_File, path, mode.replace("b", ""), name, perform)
        if set(mode) & set("wx"):
            kind = "truncate" if Path(path).exists() else "create"
            raw = perform(Operation(kind, name), open_raw)
        else:
            raw = open_raw()
        return (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)

    def changed(function, kind):
        def change(path, *arguments, **options):
            do = functools.partial(original[function], path, *arguments, **options)
            name = inside(path)
            target = inside(arguments[0]) if kind == "replace" else ""
            return perform(Operation(kind, name, target=target), do) if name else do()

        return change

    def fsync(descriptor):
        name = inside(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name:
            perform(Operation("fsync", name), lambda: None)

    with (
        mock.patch.object(io, "open", open_file),
        mock.patch.object(os, "fsync", fsync),
        mock.patch.object(os, "writev", _watched_writev(inside, perform)),
        mock.patch.object(os, "replace", changed("replace", "replace")),
        mock.patch.object(os, "unlink", changed("unlink", "unlink")),
        mock.patch.object(os, "mkdir", changed("mkdir", "mkdir")),
    ):
        yield


def _watched_writev(inside, perform):
    """Gives an `os.writev` that hands over each call on a file in the directory."""
    original = os.writev

    def writev(descriptor, parts):
        name = inside(Path(f"/proc/self/fd/{descriptor}").readlink())
        do = functools.partial(original, descriptor, parts)
        if not name:
            return do()
        data = b"".join(parts)
        operation = Operation("write", name, os.lseek(descriptor, 0, os.SEEK_CUR), data)
        half = functools.partial(original, descriptor, [data[: len(data) // 2]])
        return perform(operation, do, half)

    return writev


class _File(io.FileIO):
    """A file whose writes are handed over."""

    def __init__(self, path, mode, name, perform):
        super().__init__(path, mode)
        self._operation, self._perform = functools.partial(Operation, name=name), perform

    def write(self, data):
        data = bytes(data)
        write = super().write
        operation = self._operation(kind="write", offset=self.tell(), data=data)
        half = functools.partial(write, data[: len(data) // 2])
        return self._perform(operation, functools.partial(write, data), half)

    def truncate(self, size=None):
        size = self.tell() if size is None else size
        do = functools.partial(super().truncate, size)
        return self._perform(self._operation(kind="truncate", offset=size), do)
