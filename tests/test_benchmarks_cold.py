"""benchmarks.cold: passes start cold, contenders deliver the stored samples, fio may be missing."""

import mmap
import shutil

import pytest

from benchmarks import cold
from benchmarks.cold import (
    FIO,
    FIO_OPTIONS,
    MappedImages,
    Processes,
    Threads,
    fio,
    measure_cold,
    tables,
)
from benchmarks.contenders.reader import Workload
from benchmarks.harness import ContenderError, Pass, Result
from benchmarks.page_cache import StaysInMemoryError, drop, in_memory
from benchmarks.reading import write_samples


@pytest.fixture
def workload(tmp_path):
    workload = Workload(tmp_path / "data.npz", samples=400, size=64, most_seconds=60.0)
    write_samples(workload)
    return workload


def can_drop(path):
    try:
        drop(path)
    except StaysInMemoryError:
        return False
    return True


@pytest.fixture
def cold_workload(workload):
    if not can_drop(workload.data):
        pytest.skip("files cannot be dropped from memory here")
    return workload


def test_a_dropped_file_is_not_in_memory_and_a_file_that_was_read_is(cold_workload):
    drop(cold_workload.data)
    assert not in_memory(cold_workload.data).any()
    cold_workload.data.read_bytes()
    assert in_memory(cold_workload.data).all()


def test_a_file_that_cannot_be_dropped_is_an_error_not_a_warm_pass(cold_workload):
    path = cold_workload.data
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[0] == path.read_bytes()[0]
        with pytest.raises(StaysInMemoryError, match="stay in memory"):
            drop(path)


@pytest.mark.parametrize(
    "make",
    [MappedImages, lambda workload: Threads(workload, 0), lambda workload: Threads(workload, 2)],
)
def test_contenders_deliver_the_samples_and_read_a_quarter_of_them(make, workload, tmp_path):
    reader = make(workload)
    reader.check(workload.data, tmp_path)
    assert reader.run(tmp_path) == 128  # whole batches


def test_the_file_can_be_dropped_after_a_pass(cold_workload, tmp_path):
    reader = Threads(cold_workload, 2)
    reader.run(tmp_path)
    drop(cold_workload.data)


@pytest.mark.long
def test_readers_and_fio_are_measured_in_turns_or_report_a_reason(cold_workload, tmp_path):
    readers = [Threads(cold_workload, 1), Processes(cold_workload)]
    results = measure_cold(readers, cold_workload, tmp_path, passes=1)
    assert list(results) == [*FIO_OPTIONS, "BatchLoader, 1 thread", "DataLoader, 2 processes"]
    for reader in readers:
        assert results[reader.name].problem is None
        assert [one.samples for one in results[reader.name].passes] == [128]
    for name, options in FIO_OPTIONS.items():
        if shutil.which("fio") is None:
            assert results[name].problem == "not installed (fio)"
        elif results[name].problem is None:
            threads = options.get("numjobs", 1)
            assert [one.samples for one in results[name].passes] == [100 // threads * threads]


def test_a_missing_fio_is_reported(workload, monkeypatch):
    monkeypatch.setattr(cold.shutil, "which", lambda name: None)
    with pytest.raises(ContenderError, match="not installed"):
        fio(workload)


def test_ratios_are_formed_within_a_pass():
    results = {
        FIO: Result([Pass(100, 1.0, 0.1), Pass(50, 1.0, 0.1), Pass(100, 1.0, 0.1)]),
        "half": Result([Pass(50, 1.0, 0.2), Pass(25, 1.0, 0.1), Pass(90, 1.0, 0.1)]),
    }
    *_, table = tables({128: results})
    assert "| half | 50 (25 to 90) | 2 | 0.50 (0.50 to 0.90) | 40.00 |" in table


def test_without_fio_there_are_rates_but_no_ratios():
    results = {FIO: Result(problem="not installed (fio)"), "a": Result([Pass(10, 2.0, 0.1)])}
    *_, table = tables({128: results})
    assert f"| {FIO} | not installed (fio) |" in table
    assert "| a | 5 (5 to 5) | 0 | - |" in table
