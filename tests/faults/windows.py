"""WindowsRules: files obey the rules of Windows, as far as they concern this package.

What is real here and what is not: whether a file is open or mapped is what Linux says of this
process. A program on Windows that shares its files for deletion, as few do, is not simulated.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
from pathlib import Path
from unittest import mock

from processing.core import files
from processing.npz import readahead, set_contents
from tests.system_calls import MapWithoutAdvice

ACCESS_DENIED, SHARING_VIOLATION, MAPPED, BAD_NAME = 5, 32, 1224, 123
_MISSING = (
    *("memfd_create", "O_NOFOLLOW", "pidfd_open", "posix_fadvise", "pwrite"),
    *("sched_getaffinity", "writev"),
)
_BAD_NAME = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?$', re.IGNORECASE
)


class WindowsRules:
    """While entered, all files below a directory obey the rules of Windows; a context manager.

    - A file that is open or mapped is neither renamed, replaced nor deleted.
    - A file that is mapped is not cut.
    - No directory can be opened, and nothing that is open for reading only can be synced.
    - Names such as ``a:b``, ``aux.txt`` and ``a.`` are refused.
    - POSIX calls are absent.

    Args:
        root: the directory.

    Attributes:
        refused: the errors that were raised here, as text.
    """

    def __init__(self, root):
        self.root = os.path.realpath(root)
        self.refused = []

    def __enter__(self):
        self._undo = contextlib.ExitStack()
        for name in ("replace", "rename"):
            self._patch(os, name, self._moving(getattr(os, name)))
        for name in ("unlink", "remove"):
            self._patch(os, name, self._deleting(getattr(os, name)))
        self._patch(os, "open", self._opening(os.open))
        self._patch(os, "fsync", self._syncing(os.fsync))
        self._patch(os, "ftruncate", self._cutting(os.ftruncate))
        self._patch(files, "_SYNCS_DIRECTORIES", False)
        self._patch(files, "fcntl", None)
        self._patch(readahead, "_CAN_ADVISE", False)
        self._patch(set_contents, "resource", None)
        self._patch(mmap, "mmap", MapWithoutAdvice)
        for name in _MISSING:
            self._undo.callback(setattr, os, name, getattr(os, name))
            delattr(os, name)
        return self

    def __exit__(self, *_):
        self._undo.close()

    def _patch(self, module, name, replacement):
        self._undo.enter_context(mock.patch.object(module, name, replacement))

    def _refuse(self, winerror, source, target=None):
        number = {ACCESS_DENIED: errno.EACCES, SHARING_VIOLATION: errno.EACCES}
        paths = [os.fspath(source)] if target is None else [os.fspath(source), None, str(target)]
        error = OSError(number.get(winerror, errno.EINVAL), f"[WinError {winerror}]", *paths)
        error.winerror = winerror
        self.refused.append(str(error))
        raise error

    def _below(self, path):
        return isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(self.root)

    def _check_name(self, path):
        for part in Path(os.path.relpath(path, self.root)).parts:
            if part != ".." and _BAD_NAME.search(part):
                self._refuse(BAD_NAME, path)

    def _moving(self, original):
        def move(source, target, **options):
            if self._below(target):
                self._check_name(target)
                if _is_in_use(source):
                    self._refuse(SHARING_VIOLATION, source, target)
                if _is_in_use(target):
                    self._refuse(ACCESS_DENIED, source, target)
            return original(source, target, **options)

        return move

    def _deleting(self, original):
        def delete(path, **options):
            if self._below(path) and _is_in_use(path):
                self._refuse(SHARING_VIOLATION, path)
            return original(path, **options)

        return delete

    def _opening(self, original):
        def opened(path, *arguments, **options):
            if self._below(path):
                if Path(path).is_dir():
                    self._refuse(ACCESS_DENIED, path)
                self._check_name(path)
            return original(path, *arguments, **options)

        return opened

    def _syncing(self, original):
        def sync(descriptor):
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, "open for reading only")
            return original(descriptor)

        return sync

    def _cutting(self, original):
        def cut(descriptor, size):
            status = os.fstat(descriptor)
            if size < status.st_size and (status.st_dev, status.st_ino) in _mapped():
                self._refuse(MAPPED, f"descriptor {descriptor}")
            return original(descriptor, size)

        return cut


def _is_in_use(path):
    """Whether this process has a file open or mapped."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) in _opened() | _mapped()


def _opened():
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the list itself
            status = descriptor.stat()
            found.add((status.st_dev, status.st_ino))
    return found


def _mapped():
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, _, _, device, inode, *_ = line.split()
        major, minor = (int(part, 16) for part in device.split(":"))
        found.add((os.makedev(major, minor), int(inode)))
    return found
