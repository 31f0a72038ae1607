"""Benchmarks may share one ``--work`` folder: none reads the data of another."""

import pytest

from benchmarks import cold, reading
from benchmarks.contenders.ours import OursGetBatch
from benchmarks.harness import Result


def read_nothing(contenders, **_):
    return {contender.name: Result() for contender in contenders}


def read_in_this_process(contenders, *, data, work, **_):
    """Reads the samples with one contender and compares them with the truth."""
    for contender in contenders:
        if isinstance(contender, OursGetBatch):
            contender.start(work)
            contender.check(data, work)
    return read_nothing(contenders)


@pytest.fixture
def measure_reading(tmp_path, monkeypatch):
    """Runs the benchmark of warm files, with one contender, on so many tiny images."""

    def run(samples):
        monkeypatch.setattr(reading, "SAMPLES", {16: samples})
        monkeypatch.setattr(reading, "measure_first_passes", read_nothing)
        monkeypatch.setattr(reading, "measure", read_in_this_process)
        monkeypatch.setattr(reading, "tables", lambda by_size: [])
        reading.main(["--work", str(tmp_path), "--sizes", "16", "--only", "get_batch"])

    return run


@pytest.fixture
def measure_cold(tmp_path, monkeypatch):
    """Runs the benchmark of cold files, with one contender, on so many tiny images."""

    def read(readers, workload, folder, *, passes):
        get_batch = OursGetBatch(workload)
        return read_in_this_process([get_batch], data=workload.data, work=folder)

    def run(samples):
        monkeypatch.setattr(cold, "SAMPLES", {16: samples})
        monkeypatch.setattr(cold, "measure_cold", read)
        monkeypatch.setattr(cold, "tables", lambda by_size: [])
        cold.main(["--work", str(tmp_path), "--sizes", "16"])

    return run


def test_benchmarks_with_one_work_folder_do_not_read_each_others_files(
    measure_cold, measure_reading
):
    measure_reading(50)
    measure_cold(70)  # the data of a smaller benchmark end too early
    measure_cold(90)
    measure_reading(120)
