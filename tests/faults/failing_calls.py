"""FailingCalls: makes the n-th system call on files below one directory fail, once or from then on.

The calls are met where Python makes them: functions of `os`, and the raw layer below the buffers of
what `open` gives, so that buffers behave as they do over a real disk that fails. What is real here
and what is not: a failing call does nothing, except that a failing close closes, as Linux does, and
a short write writes its part. The fsyncs are counted and not carried out, for speed: nothing here
cuts the power. PEP 475 has the interpreter repeat most calls that a signal interrupts (EINTR), so
that code like ours never sees it; here it does see it, except from reads and writes below a buffer,
which `io` itself repeats (so that "from then on" means every other one of these, not each).
"""

import builtins
import contextlib
import errno
import io
import mmap
import os
from pathlib import Path

KINDS = ("ENOSPC", "EIO", "EINTR", "EACCES", "short write", "MemoryError", "KeyboardInterrupt")
_BY_PATH = (
    *("open", "stat", "lstat", "mkdir", "unlink", "remove", "rmdir", "replace", "rename"),
    *("truncate", "scandir", "listdir", "statvfs"),
)
_REPEATED_BY_IO = ("read", "write")


class FailingCalls:
    """While entered, counts the calls on files below `root` and makes some fail.

    Args:
        root: the directory; all else is left alone.
        at: which call fails, from 1; None: none does.
        kind: one of `KINDS`.
        persistent: whether those after it fail as well.

    Attributes:
        calls: each call so far, as its name and the file's.
        raised: the exceptions that were made here; one that was never given away is not among them.
    """

    def __init__(self, root, *, at=None, kind="EIO", persistent=False):
        self.root, self.at, self.kind, self.persistent = os.fspath(root), at, kind, persistent
        self.calls, self.raised = [], []
        self._path_of = {}  # by descriptor
        self._just_interrupted = False

    def __enter__(self):
        self._undo = contextlib.ExitStack()
        for name in _BY_PATH:
            self._patch(os, name, self._failing_by_path)
        for name in ("fsync", "close", "write", "read"):
            self._patch(os, name, self._failing_by_descriptor)
        self._patch(os, "writev", self._failing_writev)
        self._patch(mmap, "mmap", self._failing_by_descriptor)
        self._open_file = io.open
        for module in (io, builtins):
            self._undo.callback(setattr, module, "open", module.open)
            module.open = self._open
        return self

    def __exit__(self, *_):
        self._undo.close()
        for error in self.raised:  # the frames of a traceback hold files that were let go of
            error.__traceback__ = error.__context__ = None

    def _patch(self, module, name, failing):
        original = getattr(module, name)
        self._undo.callback(setattr, module, name, original)
        setattr(module, name, failing(name, original))

    def below(self, path):
        """Whether the call concerns us."""
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root)

    def call(self, name, path, original, *, by_path=False):
        """Makes a call, or fails."""
        self.calls.append(f"{name} {os.path.relpath(path, self.root)}")
        if not self._is_to_fail(name):
            return original()
        if name == "close":
            original()
        self.raised.append(self._error(path if by_path else None))
        raise self.raised[-1]

    def _is_to_fail(self, name):
        if self.at is None or self.kind == "short write":
            return False
        reached = len(self.calls) >= self.at if self.persistent else len(self.calls) == self.at
        if reached and self.kind == "EINTR" and self.persistent and name in _REPEATED_BY_IO:
            self._just_interrupted = not self._just_interrupted
            return self._just_interrupted
        return reached

    def _error(self, path):
        if self.kind in ("MemoryError", "KeyboardInterrupt"):
            return getattr(builtins, self.kind)()
        number = getattr(errno, self.kind)
        where = () if path is None else (os.fspath(path),)
        return OSError(number, os.strerror(number), *where)

    def length_to_write(self, length):
        """How many of `length` bytes the write that was just counted may take."""
        number = len(self.calls)
        if self.kind != "short write" or self.at is None or number < self.at or length < 2:
            return length
        return length if number > self.at and not self.persistent else length // 2

    def _failing_by_path(self, name, original):
        def call(path, *arguments, **options):
            if not self.below(path):
                return original(path, *arguments, **options)

            def really():
                result = original(path, *arguments, **options)
                if name == "open":
                    self._path_of[result] = os.fspath(path)
                return result

            return self.call(name, path, really, by_path=True)

        return call

    def _failing_by_descriptor(self, name, original):
        def call(descriptor, *arguments, **options):
            path = self._path_of.get(descriptor)
            if name == "close":
                self._path_of.pop(descriptor, None)
            if path is None:
                return original(descriptor, *arguments, **options)
            if name == "fsync":
                return self.call(name, path, lambda: None)
            return self.call(name, path, lambda: original(descriptor, *arguments, **options))

        return call

    def _failing_writev(self, _, original):
        def call(descriptor, parts):
            path = self._path_of.get(descriptor)
            if path is None:
                return original(descriptor, parts)

            def really():
                data = b"".join(parts)
                return original(descriptor, [data[: self.length_to_write(len(data))]])

            return self.call("write", path, really)

        return call

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
        if not self.below(file):
            return self._open_file(file, mode, buffering, encoding, errors, newline, **more)
        raw = self.call("open", file, lambda: _RawFile(self, file, mode), by_path=True)
        if buffering == 0:
            return raw
        if "+" in mode:
            return io.BufferedRandom(raw)
        buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)


class _RawFile(io.FileIO):
    """The file below the buffer, each of whose calls can fail."""

    def __init__(self, layer, path, mode):
        super().__init__(path, mode.replace("b", "").replace("t", ""))
        self._layer, self._path = layer, os.fspath(path)
        layer._path_of[self.fileno()] = self._path

    def readinto(self, buffer):
        return self._layer.call("read", self._path, lambda: super(_RawFile, self).readinto(buffer))

    def readall(self):
        return self._layer.call("read", self._path, super().readall)

    def read(self, size=-1):
        if size < 0:
            return self.readall()
        return self._layer.call("read", self._path, lambda: super(_RawFile, self).read(size))

    def write(self, data):
        def really():
            length = self._layer.length_to_write(memoryview(data).nbytes)
            return super(_RawFile, self).write(memoryview(data).cast("B")[:length])

        return self._layer.call("write", self._path, really)

    def truncate(self, size=None):
        return self._layer.call(
            "truncate", self._path, lambda: super(_RawFile, self).truncate(size)
        )

    def close(self):
        if self.closed:
            return
        self._layer._path_of.pop(self.fileno(), None)
        self._layer.call("close", self._path, super().close)


@contextlib.contextmanager
def no_descriptor_left_open():
    """Fails where more files are open at the end than at the beginning."""
    before = _open_descriptors()
    yield
    assert _open_descriptors() == before, "a file was left open"


def _open_descriptors():
    """How many there are; 0 where the system does not say."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
