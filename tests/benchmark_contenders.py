"""Contenders for the tests of the harness.

Each contender is pickled to a new process. This module imports little, so that the process starts
quickly.
"""

import os
import signal
import time

MEBIBYTE = 1 << 20


class Recorder:
    """Appends the name of each call to one file that all contenders share.

    Args:
        name: of the contender, and of its folder.
        fails_in: name of the call that raises.
        misses_library: whether `run` imports a library that does not exist.
        busy_seconds: CPU time that `run` uses.
    """

    def __init__(self, name, *, fails_in="", misses_library=False, busy_seconds=0.0):
        self.name = self.files = name
        self.fails_in, self.misses_library = fails_in, misses_library
        self.busy_seconds = busy_seconds

    def prepare(self, data, folder):
        self._note(folder, "prepare")
        (folder / "data").write_bytes(b"x")

    def start(self, folder):
        self._note(folder, "start")

    def make_ready(self, folder):
        self._note(folder, "make_ready")

    def run(self, folder):
        if self.misses_library:
            import no_such_library_of_a_peer  # noqa: F401 - fails, as for a peer that is not installed
        end = time.process_time() + self.busy_seconds
        while time.process_time() < end:
            pass
        self._note(folder, "run")
        return 100

    def check(self, data, folder):
        self._note(folder, "check")

    def _note(self, folder, what):
        with (folder.parent / "notes.txt").open("a") as notes:
            notes.write(f"{what} {self.name}\n")
        if what == self.fails_in:
            raise ValueError("the pixels are wrong")


class Exits(Recorder):
    """Ends its process in the middle of a pass."""

    def run(self, folder):
        os._exit(7)


class Remarks(Recorder):
    """Has something to tell about its files."""

    def make_ready(self, folder):
        return "parts were evicted"


class HoldsMemoryInAChild(Recorder):
    """Starts a child that holds 64 MiB and lives on, like a persistent worker."""

    def __init__(self):
        super().__init__("parent")

    def start(self, folder):
        pass

    def run(self, folder):
        """Returns the process id of the child, for the test to look for it."""
        ready, done = os.pipe()
        child = os.fork()
        if child == 0:
            block = b"x" * (64 * MEBIBYTE)
            os.write(done, block[:1])
            signal.pause()  # until it is killed
        os.read(ready, 1)  # the child holds its memory now
        return child
