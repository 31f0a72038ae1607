"""The reading benchmark and its harness, on tiny data."""

import json
import os
from multiprocessing.connection import wait

import numpy as np
import pytest

from benchmarks import reading, results
from benchmarks.contenders import arrays, limit, ours, streaming
from benchmarks.contenders.reader import Batch, Reader, Workload
from benchmarks.harness import ContenderProcess, Pass, Result, measure, measure_first_passes
from benchmarks.process_tree import PeakMemory, huge_pages, process_tree, tree_memory
from tests.benchmark_contenders import (
    MEBIBYTE,
    Exits,
    HoldsMemoryInAChild,
    Recorder,
    Remarks,
)


def notes(work):
    return (work / "notes.txt").read_text().splitlines()


def test_contenders_are_warmed_up_checked_and_take_turns(tmp_path):
    measured = measure([Recorder("a"), Recorder("b")], data=tmp_path, work=tmp_path, passes=2)
    first = [f"{what} {name}" for name in "ab" for what in ("start", "run", "check")]
    turn = [f"{what} {name}" for name in "ab" for what in ("make_ready", "run")]
    assert notes(tmp_path) == [*first, *turn, *turn]
    assert [len(measured[name].passes) for name in "ab"] == [2, 2]
    assert {one.samples for name in "ab" for one in measured[name].passes} == {100}


def test_first_passes_follow_the_writing_of_the_files_each_in_a_new_process(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "of an earlier run").touch()
    first = measure_first_passes([Recorder("a")], data=tmp_path, work=tmp_path, repeats=2)
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["data"]
    assert notes(tmp_path) == ["prepare a", *["start a", "make_ready a", "run a"] * 2]
    assert [one.samples for one in first["a"].passes] == [100, 100]


def test_contenders_with_the_same_files_share_those_that_the_first_one_wrote(tmp_path):
    contenders = [Recorder("a"), Recorder("b")]
    contenders[1].files = "a"
    measure_first_passes(contenders, data=tmp_path, work=tmp_path, repeats=1)
    assert [note for note in notes(tmp_path) if "prepare" in note] == ["prepare a"]


def test_a_contender_that_cannot_write_its_files_is_reported(tmp_path):
    bad = Recorder("bad", fails_in="prepare")
    first = measure_first_passes([bad], data=tmp_path, work=tmp_path, repeats=1)
    assert "prepare: ValueError" in first["bad"].problem


def test_a_missing_library_and_a_failure_are_reported_and_the_others_go_on(tmp_path):
    measured = measure(
        [Recorder("none", misses_library=True), Recorder("bad", fails_in="check"), Recorder("a")],
        data=tmp_path,
        work=tmp_path,
        passes=1,
    )
    assert measured["none"].problem == "not installed (no_such_library_of_a_peer)"
    assert measured["bad"].problem == "check: ValueError: the pixels are wrong"
    assert not measured["bad"].passes
    assert len(measured["a"].passes) == 1
    table = results.comparison(measured, ["a"])
    assert "| none | not installed (no_such_library_of_a_peer) |" in table
    assert "| bad | check: ValueError: the pixels are wrong |" in table


def test_a_contender_that_dies_is_reported(tmp_path):
    measured = measure([Exits("a")], data=tmp_path, work=tmp_path, passes=1)
    assert "exit code 7" in measured["a"].problem


def test_cpu_seconds_are_measured(tmp_path):
    busy = Recorder("a", busy_seconds=0.2)
    one = measure([busy], data=tmp_path, work=tmp_path, passes=1)["a"].passes[0]
    assert 0.2 <= one.cpu_seconds <= one.seconds + 0.05
    assert one.rate == pytest.approx(100 / one.seconds)


@pytest.mark.parametrize("others", [0.0, 5.0])
def test_a_pass_that_other_programs_disturb_is_reported(tmp_path, monkeypatch, caplog, others):
    clock = iter([10.0, 10.2 + others])
    monkeypatch.setattr("benchmarks.process_tree.busy_cpu_seconds", lambda: next(clock))
    measure([Recorder("a", busy_seconds=0.3)], data=tmp_path, work=tmp_path, passes=1)
    assert ("other programs" in caplog.text) == (others > 0)


def test_memory_counts_the_whole_process_tree_which_ends_together(tmp_path):
    with ContenderProcess(HoldsMemoryInAChild(), tmp_path, tmp_path) as process:
        before = tree_memory(process.pid)["Pss_Anon"]
        with PeakMemory(process.pid) as memory:
            child = process.call("run").value
        ended = os.pidfd_open(child)
        assert process_tree(process.pid) == [process.pid, child]
        assert tree_memory(process.pid)["Pss_Anon"] > before + 64 * MEBIBYTE
    assert memory.peak > before + 64 * MEBIBYTE
    assert wait([ended], timeout=30), "its child goes on"
    os.close(ended)


def test_ratios_are_formed_within_a_pass():
    limit_passes = [Pass(100, 1.0, 1.0), Pass(100, 2.0, 1.0)]
    passes = [Pass(50, 1.0, 1.0), Pass(50, 1.0, 3.0)]
    assert results.ratios(passes, limit_passes) == [0.5, 1.0]
    table = results.comparison(
        {"LIMIT": Result(limit_passes, 1_000_000), "a": Result(passes, 2_000_000)}, ["LIMIT"]
    )
    assert "| a | 50 (50 to 50) | 0.75 (0.50 to 1.00) | 400 | 2 |" in table
    assert "first epoch" not in table


def test_the_first_epoch_and_the_large_pages_have_columns(tmp_path):
    first = Result([Pass(100, 4.0, 1.0), Pass(100, 2.0, 1.0), Pass(100, 1.0, 1.0)], huge_pages=0)
    later = Result([Pass(100, 1.0, 1.0)], 1_000_000, huge_pages=2_000_000, first=first)
    table = results.comparison({"a": later}, [])
    assert "| a | 100 (100 to 100) | 50 (0.50) | 0, 2 | 100 | 1 |" in table


def test_large_pages_are_those_of_the_process_that_maps_the_most(monkeypatch):
    maps = {1: 5, 2: 7, 3: 0}
    monkeypatch.setattr("benchmarks.process_tree.process_tree", lambda pid: list(maps))
    monkeypatch.setattr(
        "benchmarks.process_tree._smaps_sums", lambda pid: {"FilePmdMapped": maps[pid]}
    )
    assert huge_pages(1) == 7
    monkeypatch.undo()
    assert huge_pages(os.getpid()) % (2 * MEBIBYTE) == 0


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    made = Workload(
        tmp_path_factory.mktemp("reading") / "samples.npz",
        samples=400,
        size=16,
        least_seconds=0.01,
        most_seconds=0.1,
    )
    reading.write_samples(made)
    return made


def test_the_samples_are_a_valid_file_of_this_project(workload):
    from processing import LazyNPZDataset

    with LazyNPZDataset(workload.data, verify=True) as dataset:
        dataset.verify()
        assert len(dataset) == 400
        for index in (0, 17, 399):
            truth = workload.sample(index)
            assert np.array_equal(dataset[index]["image"], truth.image)
            assert np.array_equal(dataset[index]["bboxes"], truth.bboxes)
            assert dataset[index]["image_path"] == truth.path
    assert {len(workload.sample(i).bboxes) for i in range(400)} == set(range(21))


def readers_without_peers(workload):
    return [
        one
        for group in (limit, ours, arrays)
        for one in group.contenders(workload)
        if "2 workers" not in one.name
    ]


def test_every_contender_without_a_library_reads_what_was_written(workload, tmp_path):
    readers = readers_without_peers(workload)
    for one in readers:
        one.start(tmp_path)
        assert one.run(tmp_path) > 0, one.name
        one.check(workload.data, tmp_path)


class Wrong(ours.OursGetBatch):
    """Spoils the first batch."""

    def __init__(self, workload, spoil):
        super().__init__(workload)
        self.spoil = spoil

    def batches(self, epoch):
        for batch in super().batches(epoch):
            yield self.spoil(batch)


def one_pixel(batch):
    batch.images[5, 0, 0, 0] ^= 1
    return batch


def boxes_of_another(batch):
    return Batch(batch.images, np.roll(batch.bboxes, 1), batch.paths)


def float_images(batch):
    return Batch(batch.images.astype(np.float32), batch.bboxes, batch.paths)


def other_order(batch):
    return Batch(*(field[::-1] for field in batch))


def path_of_another(batch):
    return Batch(batch.images, batch.bboxes, np.roll(batch.paths, 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_pixel, "wrong image"),
        (float_images, "wrong image"),
        (boxes_of_another, "wrong boxes"),
        (path_of_another, "wrong image"),
        (other_order, "another order"),
    ],
)
def test_a_contender_that_delivers_something_wrong_is_caught(workload, tmp_path, spoil, message):
    reader = Wrong(workload, spoil)
    reader.start(tmp_path)
    with pytest.raises(ValueError, match=message):
        reader.check(workload.data, tmp_path)


def test_a_file_with_evicted_pages_is_read_again_with_a_remark(workload, tmp_path, monkeypatch):
    reader = ours.OursGetBatch(workload)
    read = []
    monkeypatch.setattr("benchmarks.contenders.reader.read_in_sequence", read.append)
    assert reader.make_ready(tmp_path) is None
    monkeypatch.setattr(
        "benchmarks.contenders.reader.in_memory", lambda file: np.array([True, False])
    )
    assert "evicted of samples.npz" in reader.make_ready(tmp_path)
    assert read == [workload.data]


def test_the_remark_of_a_contender_reaches_the_user(tmp_path, caplog):
    measure([Remarks("a")], data=tmp_path, work=tmp_path, passes=1)
    assert "parts were evicted" in caplog.text


class InSequence(Reader):
    name = files = "in sequence"
    ordered = False

    def open(self, folder):
        pass

    def batches(self, epoch):
        for start in range(0, self.workload.samples, 64):
            yield Batch(*zip(*map(self.workload.sample, range(start, start + 64)), strict=True))


def test_a_contender_that_does_not_shuffle_is_caught(workload, tmp_path):
    with pytest.raises(ValueError, match="not shuffled"):
        InSequence(workload).check(workload.data, tmp_path)


def test_the_command_selects_by_words_and_always_includes_the_limits(workload):
    names = [one.name for one in reading.contenders(workload, ["litdata"])]
    assert names == ["LIMIT-1", "LIMIT-2", "LitData, 0 workers", "LitData, 2 workers"]
    everyone = [one.name for one in reading.contenders(workload)]
    assert len(set(everyone)) == len(everyone)
    assert {one.name for one in streaming.contenders(workload)} <= set(everyone)


def test_a_section_is_replaced_between_its_markers_and_the_rest_stays(tmp_path):
    page = tmp_path / "benchmarks.md"
    results.write_section(page, "reading", "old")
    page.write_text(page.read_text() + "\nby hand\n")
    results.write_section(page, "processing", "other")
    before = page.read_text()
    results.write_section(page, "reading", "new")
    assert page.read_text() == before.replace("old", "new")
    assert page.read_text().count("<!-- reading:begin -->") == 1


def test_a_page_with_one_marker_is_refused(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- reading:begin -->\nprecious\n")
    with pytest.raises(ValueError, match="only one of the markers"):
        results.write_section(page, "reading", "new")
    assert "precious" in page.read_text()


def test_saved_results_are_read_back(tmp_path):
    first = Result([Pass(1, 9.0, 3.0)], huge_pages=7)
    measured = {
        "a": Result([Pass(1, 2.0, 3.0)], 4, first=first),
        "b": Result(problem="not installed (b)"),
    }
    results.save(tmp_path / "r.json", machine="m", sizes={128: measured})
    saved = json.loads((tmp_path / "r.json").read_text())
    assert results.load_results(saved["sizes"]["128"]) == measured
