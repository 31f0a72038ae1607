"""The power goes during a run: whatever a file system may have kept, the next run makes good."""

import contextlib
import random
import shutil
from dataclasses import dataclass

import pytest

from processing.data_processor import DataProcessor
from tests.faults.disk import watched
from tests.faults.killer import SITUATIONS
from tests.faults.power_cut import Disk
from tests.faults.small_runs import IMAGES, OPTIONS, is_rare

SEED = 5
SURVIVAL = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class PowerCut:
    """After how many operations of which run the power goes; `draw` numbers the states tried."""

    situation: str
    after: int
    draw: int

    def __str__(self):
        return f"{self.situation}-{self.after}-{self.draw}"


class Cutter:
    """Builds states of a disk and checks what the next run makes of them."""

    def __init__(self, directory, killer):
        self.killer = killer
        self._directory = directory
        self.recorded = {name: self._record(name) for name in SITUATIONS}
        self.recorded["continued"] = self._record("fresh", kill_at=100)

    def _record(self, situation, kill_at=0):
        """What was there before, and the operations of a run, or of a killed one and its rerun."""
        with self.killer.prepared(situation) as output:
            before = {path.name: path.read_bytes() for path in output.iterdir()}
            operations = []
            for at in (kill_at, 0) if kill_at else (0,):
                self.killer.run("new", output, at, "before")
                operations += self.killer.last_operations
            return before, operations

    def cases(self, draws):
        """Some draws for each moment of each run."""
        return [
            PowerCut(situation, after, draw)
            for situation, (_, operations) in self.recorded.items()
            for after in range(len(operations) + 1)
            for draw in range(draws)
        ]

    def sample(self):
        """All draws at the ends of runs, and seeded ones at rare operations and at any."""
        rng, cases = random.Random(SEED), self.cases(draws=3)
        of = {name: operations for name, (_, operations) in self.recorded.items()}
        ends = [case for case in cases if case.after == len(of[case.situation])]
        rare = [c for c in cases if c.after and is_rare(of[c.situation][c.after - 1])]
        return sorted({*ends, *rng.sample(rare, 10), *rng.sample(cases, 6)}, key=str)

    def check(self, case):
        """Builds one state, runs, and gives the outcome for the tally."""
        before, operations = self.recorded[case.situation]
        disk = Disk(before)
        for operation in operations[: case.after]:
            disk.apply(operation)
        rng = random.Random(f"{SEED}-{case}")
        state = disk.after_power_cut(rng, rng.choice(SURVIVAL))
        runs = self.killer.runs
        with self._on_disk(disk.durable()) as output:
            durable = runs.journalled(output)
        with self._on_disk(state) as output:
            runs.check_files(output, before)
            report = runs.check_rerun(output)
            assert report.up_to_date or report.images_decoded <= IMAGES - durable
            assert report.up_to_date or case.after < len(operations), "what was published is lost"
        return "unaffected" if report.up_to_date else "recovered"

    @contextlib.contextmanager
    def _on_disk(self, files):
        output = self._directory / "output"
        output.mkdir()
        try:
            for name, content in files.items():
                (output / name).write_bytes(content)
            yield output
        finally:
            shutil.rmtree(output)


@pytest.fixture(scope="module")
def cutter(killer, tmp_path_factory):
    return Cutter(tmp_path_factory.mktemp("power"), killer)


def test_after_a_power_cut_files_are_whole_and_the_run_is_continued(cutter, tally):
    cases = cutter.sample()
    tally.points, tally.seed = len({(case.situation, case.after) for case in cases}), SEED
    tally.each(cases, cutter.check)


@pytest.mark.long
def test_after_a_power_cut_at_any_operation_files_are_whole_and_the_run_is_continued(cutter, tally):
    tally.points, tally.seed = len(cutter.cases(draws=1)), SEED
    tally.each(cutter.cases(draws=2), cutter.check)


def test_the_name_of_a_new_output_directory_is_durable_before_there_is_a_file_in_it(
    cutter, tmp_path
):
    seen = []

    def perform(operation, do, half=None):
        result = do()  # mkdir fails first where the parent is missing
        seen.append((operation.kind, operation.name))
        return result

    with watched(tmp_path, perform):
        DataProcessor(cutter.killer.runs.raw["new"], tmp_path / "a" / "b", **OPTIONS).process_all()
    assert seen[:2] == [("mkdir", "a"), ("mkdir", "a/b")]
    assert set(seen[2:4]) == {("fsync", "."), ("fsync", "a")}
