import gc
import threading
from itertools import islice

import pytest
import torch

from benchmarks import workers
from benchmarks.contenders.reader import Workload
from benchmarks.harness import Pass, Result
from benchmarks.reading import write_samples


@pytest.fixture(autouse=True)
def few_threads():
    """Undoes the setting of a consumer that computes on all CPUs of its own process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    workload = Workload.below(tmp_path_factory.mktemp("workers"), 300, 16)
    write_samples(workload)
    return workload


@pytest.mark.parametrize("consumer", workers.CONSUMERS)
@pytest.mark.parametrize(("threads", "capped"), [(0, True), (3, True), (3, False)])
def test_each_consumer_gets_whole_batches(workload, consumer, threads, capped):
    contender = consumer(workload, threads, capped=capped)
    contender.start(workload.data.parent)
    contender.check(workload.data, workload.data.parent)
    (batch,) = islice(contender.batches(0), 1)
    assert batch.images.shape == (64, 16, 16, 3)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_consumer_without_loader_gets_each_batch_of_an_epoch_in_order(workload, threads):
    contender = workers.ComputesWithoutLoader(workload, threads)
    contender.start(workload.data.parent)
    paths = [path for batch in contender.batches(2) for path in batch.paths]
    assert [workload.index_of(path) for path in paths] == workload.order(2).tolist()
    contender.check(workload.data, workload.data.parent)


def test_gathering_in_a_thread_ends_when_the_consumer_stops_early(workload):
    contender = workers.ComputesWithoutLoader(workload, 1)
    contender.open(workload.data.parent)
    before = threading.active_count()
    batches = contender.batches(0)
    next(batches)
    batches.close()
    gc.collect()
    assert threading.active_count() == before


@pytest.mark.parametrize(("capped", "started"), [(True, 1), (False, 3)])
def test_only_some_contenders_obey_the_limit_of_threads(workload, monkeypatch, capped, started):
    monkeypatch.setattr("processing.datasets.loader.available_cpus", lambda: 2)
    contender = workers.Uses(workload, 3, capped=capped)
    contender.open(workload.data.parent)
    assert contender._loader._threads == started


def test_each_setting_is_measured_in_several_processes_and_a_failure_is_kept(monkeypatch, workload):
    turns = iter(
        {"a": Result([Pass(number, 1.0, 1.0)], problem="failed" if number == 2 else None)}
        for number in range(1, workers.PROCESSES + 1)
    )
    monkeypatch.setattr(workers, "measure", lambda *_, **__: next(turns))
    measured = workers.measure_in_processes(workload, passes=1)["a"]
    assert [one.samples for one in measured.passes] == list(range(1, workers.PROCESSES + 1))
    assert measured.problem == "failed"


def test_the_table_has_a_row_for_each_setting_and_shares_of_one_worker():
    measured = {
        "a: num_workers=1": Result([Pass(100, 1.0, 1.0), Pass(50, 1.0, 1.0)]),
        "a: num_workers=2": Result([Pass(90, 1.0, 1.0), Pass(45, 1.0, 1.0)]),
        "b: num_workers=1": Result([Pass(10, 1.0, 1.0)]),
        "b: num_workers=2": Result(problem="failed"),
        "b: no loader": Result([Pass(20, 1.0, 1.0)]),
    }
    header, _, *rows = workers.table(measured).splitlines()
    assert header == "| setting | a | b |"
    assert rows == [
        "| num_workers=1 | 1.00 (75) | 1.00 (10) |",
        "| num_workers=2 | 0.90 (68) | failed |",
        "| no loader |  | 2.00 (20) |",
    ]
