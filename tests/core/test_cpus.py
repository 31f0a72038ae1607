"""Processing starts no more threads than its container has CPUs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processing.core.cpus import available_cpus

REPOSITORY = Path(__file__).parents[2]


class TestAvailableCPUs:
    @pytest.fixture(autouse=True)
    def sixteen(self, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)

    @pytest.mark.parametrize(
        ("groups", "limits", "cpus"),
        [
            ("", {}, 16),
            ("0::/", {"cpu.max": "100000 100000"}, 1),
            ("0::/", {"cpu.max": "150000 100000"}, 2),
            ("0::/", {"cpu.max": "1 100000"}, 1),
            ("0::/", {"cpu.max": "max 100000"}, 16),
            ("0::/", {"cpu.max": "9900000 100000"}, 16),
            ("0::/slurm/job", {"slurm/job/cpu.max": "400000 100000"}, 4),
            ("0::/slurm/job", {"slurm/cpu.max": "300000 100000"}, 3),
            (
                "0::/slurm/job",
                {"slurm/cpu.max": "300000 100000", "slurm/job/cpu.max": "max 100000"},
                3,
            ),
            ("0::/docker/5f", {"cpu.max": "200000 100000"}, 2),  # the host's path, mounted as root
            ("3:memory:/\n1:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs": "250000 100000"}, 3),
            ("1:cpuacct,cpu:/docker/5f", {"cpu/cpu.cfs": "50000 100000"}, 1),
            ("1:cpu:/a\n0::/", {"cpu/a/cpu.cfs": "-1 100000"}, 16),
            ("1:name=systemd:/\n0::/b", {"unified/b/cpu.max": "200000 100000"}, 2),
            ("1:cpuset:/a", {"cpu.max": "200000 100000"}, 16),
            ("0::/", {"cpu.max": "200000"}, 2),
            ("0::/", {"cpu.max": "200000 0"}, 2),
            ("0::/", {"cpu.max": "many 100000"}, 16),
            ("0::/", {"cpu.max": "-7 100000"}, 16),
            ("0::/", {"cpu.max": "0 100000"}, 16),
            ("no colon at all", {"cpu.max": "200000 100000"}, 2),
            ("0::/\udcff", {"\udcff/cpu.max": "300000 100000"}, 3),
        ],
    )
    def test_are_limited_by_control_groups(self, tmp_path, groups, limits, cpus):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups, errors="surrogateescape")
        for name, limit in limits.items():
            file = tmp_path / "sys/fs/cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("cpu.cfs"):
                quota, period = limit.split()
                file.with_name("cpu.cfs_quota_us").write_text(quota + "\n")
                file.with_name("cpu.cfs_period_us").write_text(period + "\n")
            else:
                file.write_text(limit + "\n")
        assert available_cpus(tmp_path) == cpus

    def test_are_limited_by_the_affinity_mask(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3, 5})
        assert available_cpus(tmp_path) == 3


COUNT = (
    "from processing.data_processor import DataProcessor\n"
    "from processing.core.cpus import available_cpus\n"
    "print(available_cpus(), DataProcessor('a', 'b')._run_options.num_workers)"
)


def counted(*prefix):
    """Runs COUNT by a command and returns its output."""
    command = [*prefix, sys.executable, "-c", COUNT]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def control_group():
    """A real control group with a quota of one CPU; version 1 or 2."""
    for parent, limit in (("cpu", "cpu.cfs_quota_us"), ("", "cpu.max")):
        group = Path("/sys/fs/cgroup") / parent / f"npz-vision-data-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text("100000")
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("this user cannot create a control group with a quota")


def test_processing_uses_one_thread_in_a_control_group_of_one_cpu(control_group):
    enter = f'echo $$ > {control_group}/cgroup.procs; exec "$@"'
    assert counted("sh", "-c", enter, "sh") == "1 1\n"


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_processing_uses_one_thread_if_bound_to_one_cpu():
    cpu = min(os.sched_getaffinity(0))
    assert counted("taskset", "-c", str(cpu)) == "1 1\n"
