import json
import os
import xml.etree.ElementTree as ElementTree
from functools import partial

import numpy as np
import pytest

from benchmarks import memory, memory_data
from benchmarks import memory_probes as probes
from processing import LazyNPZDataset
from processing.sources import read_sources

SVG = "{http://www.w3.org/2000/svg}"


def test_a_sparse_file_has_its_rows_and_boxes_but_takes_no_space_for_images(tmp_path):
    path = tmp_path / "d.npz"
    memory_data.sparse_npz(path, rows=3000, side=256, boxes_per_row=2)
    assert path.stat().st_size > 3000 * 256 * 256 * 3
    assert path.stat().st_blocks * 512 < 5e6
    with LazyNPZDataset(path) as dataset:
        assert len(dataset) == 3000
        assert [len(dataset[i]["bboxes"]) for i in range(6)] == [0, 1, 2, 3, 4, 0]
        assert dataset[2999]["image_path"] == "999/000000002999.jpg"
        assert not dataset[2999]["image"].any()
    with np.load(path) as arrays:
        assert arrays["bboxes"].shape == (6000, 4)


def test_a_file_of_a_terabyte_can_be_opened(tmp_path):
    path = tmp_path / "terabyte.npz"
    memory_data.sparse_npz(path, rows=5_600_000, side=256, boxes_per_row=0)
    assert path.stat().st_size > 1e12
    assert path.stat().st_blocks * 512 < 1e6
    with LazyNPZDataset(path) as dataset:
        assert len(dataset) == 5_600_000
        assert dataset[5_599_999]["bboxes"].shape == (0, 4)


def test_the_coco_file_is_read_completely(tmp_path):
    memory_data.coco(tmp_path, images=1500, boxes=25_001)
    reading = read_sources(tmp_path)
    assert (len(reading.table), len(reading.table.boxes)) == (1500, 25_001)
    assert reading.rejections == []
    assert reading.note_counts == {}  # every image is listed, no box occurs twice
    assert all((tmp_path / name).exists() for name in reading.table.image_paths)


def test_half_made_data_is_made_anew_and_complete_data_is_kept(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory_data.made_once(tmp_path / "data", fail)
    memory_data.made_once(tmp_path / "data", lambda folder: (folder / "whole").touch())
    data = memory_data.made_once(tmp_path / "data", fail)
    assert [file.name for file in data.iterdir()] == ["whole"]


@pytest.mark.long
def test_processing_is_sampled_from_beginning_to_end(tmp_path):
    findings, curves = memory.processing(tmp_path, [40, 400])
    assert [finding.what for finding in findings] == [
        "processing 40 images: peak PSS",
        "processing 400 images: peak PSS",
        "growth from 40 to 400 images",
    ]
    for images, curve in curves.items():
        counts = [sample.images for sample in curve]
        assert counts[0] == 0
        assert counts == sorted(counts)
        # Headers make the files of few rows a little longer.
        assert max(counts) <= images + 20
        assert max(sample.pss for sample in curve) > 10 << 20


def test_the_chart_names_each_run_with_its_peak_and_draws_all_runs_from_the_left(tmp_path):
    samples = [memory.Sample(images, mib << 20) for images, mib in ((0, 30), (400, 90), (1000, 80))]
    longer = [memory.Sample(images * 10, pss * 2) for images, pss in samples]
    memory.chart({1000: samples, 10_000: longer}).save(tmp_path / "memory.svg")
    drawn = ElementTree.parse(tmp_path / "memory.svg")
    texts = [node.text for node in drawn.iter(f"{SVG}text")]
    assert {"1,000 images: 90 MiB", "10,000 images: 180 MiB"} <= set(texts)
    lines = [node.get("points").split() for node in drawn.iter(f"{SVG}polyline")]
    short, long = (line for line in lines if len(line) == 3)
    assert short[0].partition(",")[0] == long[0].partition(",")[0]
    assert float(short[-1].partition(",")[0]) < float(long[-1].partition(",")[0])


def test_lost_rows_are_an_error(tmp_path, monkeypatch):
    half = partial(memory_data.small_photographs, images=2)
    memory_data.made_once(tmp_path / "photographs-4", half)
    with pytest.raises(RuntimeError, match="2 detector rows were stored of 4"):
        memory.processing_curve(tmp_path, 4)


def test_memory_that_a_process_allocates_is_found(tmp_path):
    before = probes.start_of_growth()
    block = np.ones(50 << 20, np.uint8)
    assert 50 << 20 <= probes.status("VmHWM") - before < 60 << 20
    private, _ = probes.private([os.getpid()])
    assert private > block.nbytes


def test_opening_is_measured_in_a_process_of_its_own(tmp_path):
    memory_data.sparse_npz(tmp_path / "d.npz", rows=1000, side=64, boxes_per_row=3)
    found = probes.Opening._make(memory.in_fresh_process(probes.open_file, tmp_path / "d.npz"))
    assert 0 < found.pickled < 10_240
    assert found.memory < 10 << 20


@pytest.mark.parametrize("read", [probes.read_by_processes, probes.read_by_threads])
def test_readers_read_every_row_and_their_memory_is_sampled(read, tmp_path):
    memory_data.sparse_npz(tmp_path / "d.npz", rows=1000, side=32, boxes_per_row=5)
    epoch = read(tmp_path / "d.npz", readers=2)
    assert epoch.rows == 1000
    assert 1 << 20 < epoch.before <= epoch.peak


def test_an_epoch_that_lacks_rows_is_an_error(tmp_path, monkeypatch):
    epoch = probes.Epoch(rows=9, seconds=1.0, before=0, peak=0, cached=0)
    monkeypatch.setattr(memory, "in_fresh_process", lambda *_: epoch)
    with pytest.raises(RuntimeError, match="9 of 10 rows were read"):
        memory.workers(tmp_path, rows=10)


def test_reading_coco_is_measured_on_the_data_that_was_made(tmp_path):
    time, cpu, listing, memory_grown = memory.coco(tmp_path, images=1000, boxes=5000)
    assert time.what.startswith("COCO of 1,000 images, 5,000 boxes, 1 MB: time")
    assert [finding.goal for finding in (cpu, listing)] == ["", ""]
    assert memory_grown.goal == "< 3 times the file's size"


def test_a_goal_that_is_missed_is_marked():
    table = memory.as_table(
        [memory.Finding.below("a", 5, 10, "ms"), memory.Finding.below("b", 10, 10, "ms")]
    )
    good, bad = table.splitlines()[2:]
    assert "reached" in good
    assert "**missed**" in bad


def test_measurements_made_one_by_one_are_kept_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "opening", lambda work: [memory.Finding("opened", "1 ms")])
    monkeypatch.setattr(memory, "workers", lambda work: [memory.Finding("read", "2 s")])
    memory.main(["workers", "--work", str(tmp_path)])
    memory.main(["opening", "--work", str(tmp_path)])
    memory.main(["--from-saved", "--work", str(tmp_path)])
    printed = capsys.readouterr().out.strip().splitlines()[-2:]
    assert ["opened" in printed[0], "read" in printed[1]] == [True, True]
    assert set(json.loads((tmp_path / "memory" / "results.json").read_text())) == {
        "machine",
        "measured",
    }


def test_a_measurement_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        memory.main(["opennig", "--work", str(tmp_path)])


def test_a_file_that_is_renamed_while_rows_are_counted_is_counted(tmp_path):
    published = tmp_path / "train_detector.npz"
    published.write_bytes(bytes(3 * memory._STORED_BYTES))
    listings = [[tmp_path / "train_detector.npz.partial"], [published]]

    class Output:
        def glob(self, pattern):
            return listings.pop(0)

    assert memory._rows_written(Output()) == 3
