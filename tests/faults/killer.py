"""Killer: runs of the command line in children, in what may be there before a run."""

import contextlib
import shutil

from tests.faults.small_runs import SmallRuns, operations

SITUATIONS = ("fresh", "replacing", "after_another")


class Killer:
    """Runs in copies of three output directories: empty; an older data set; one killed halfway.

    Args:
        directory: where all of it goes.
        server: a `ForkServer` of `small_runs`.
        store: of the runs.

    Attributes:
        operations: those of an undisturbed run, by situation.
        log: what the last run printed.
        last_operations: those that the last run carried out.
    """

    def __init__(self, directory, server, store="raw"):
        self.runs = SmallRuns(directory, store)
        self._directory, self._server = directory, server
        self._before = {name: directory / f"before_{name}" for name in SITUATIONS}
        self._before["fresh"].mkdir()
        shutil.copytree(self.runs.output["old"], self._before["replacing"])
        self._halfway(self._before["after_another"])
        self.operations = {name: self._undisturbed(name) for name in SITUATIONS}

    def _halfway(self, output):
        """An old data set that was begun again because an option changed, and killed meanwhile."""
        shutil.copytree(self.runs.output["old"], output)
        (output / "train_teacher.npz").unlink()
        status, _ = self.run("old", output, at=60, how="before", flags=["--seed", "1"])
        assert status == -9
        assert len(list(output.glob("*.npz.partial"))) == 9

    def _undisturbed(self, situation):
        with self.prepared(situation) as output:
            assert self.run("new", output)[0] == 3, self.log
        return self.last_operations

    def run(self, name, output, at=0, how="none", flags=()):
        """A run in a child; gives its exit status and the number of images that it decoded."""
        scratch = self._directory / "scratch"
        scratch.mkdir()
        where = {"raw": self.runs.raw[name], "output": output, "scratch": scratch}
        flags = [*flags, "--store", self.runs.store]
        status = self._server.run(
            "run_with_kill", scratch / "log", **where, at=at, how=how, flags=flags
        )
        decoded = (scratch / "decoded").stat().st_size
        self.log = (scratch / "log").read_text()
        self.last_operations = operations(scratch)
        shutil.rmtree(scratch)
        return status, decoded

    @contextlib.contextmanager
    def prepared(self, situation):
        """An output directory with what was there before, for the time of one case."""
        output = self._directory / "output"
        shutil.copytree(self._before[situation], output)
        try:
            yield output
        finally:
            shutil.rmtree(output)
