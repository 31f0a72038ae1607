"""Lists ``NAME.dropped.jsonl``, next to the files of real runs over messy annotations."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor
from processing.run.processing_run import ProcessingRun

SMALL = {"detector": 32, "landmarker": 24, "teacher": 16}
HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
ROWS = (
    "a.png,100,60,cat,10,10,40,40",
    "a.png,100,60,dog,50,40,20,55",  # inverted
    "b.png,100,60,cat,10,10,40,40",
    "b.png,100,60,cat,20.5,20,20.75,50",  # too small
    "b.png,100,60,cat,nan,1,2,3",
    "b.png,100,60,cat,nan,1,2,3.5",
    "c.png,100,60,cat,-5,-5,40,40",  # clipped
    "c.png,100,60,dog,200,10,240,40",  # outside
    "d.png,100,60,dog,40,10,10,40",  # rejected
)


@pytest.fixture
def raw(tmp_path):
    """Four images; three keep a box."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i, name in enumerate("abcd"):
        pixels = np.random.default_rng(i).integers(0, 256, (60, 100, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    write(folder, ROWS)
    return folder


def write(raw, rows):
    (raw / "labels.csv").write_text(HEADER + "\n".join(rows) + "\n")


def run(raw, output_dir, task="detector", **options):
    options = {"image_size": SMALL, "progress": False, "num_workers": 2} | options
    return DataProcessor(raw, output_dir, **options).process([task], 1.0)


def listed(output_dir, name="train_detector"):
    path = output_dir / f"{name}.dropped.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def contents(directory):
    kinds = ("*.npz", "*.jsonl")
    return {path.name: path.read_bytes() for kind in kinds for path in directory.glob(kind)}


def test_every_dropped_box_of_a_stored_image_is_listed_with_its_line_and_its_values(raw, tmp_path):
    run(raw, tmp_path / "out")
    found = [
        (one["image"], one["place"], one["reason"], one["category"], one["values"])
        for one in listed(tmp_path / "out")
    ]
    assert found == [
        ("a.png", "line 3", "inverted", "dog", [50, 40, 20, 55]),
        ("b.png", "line 5", "too_small", "cat", [20.5, 20, 20.75, 50]),
        ("b.png", "line 6", "not_finite", "cat", [None, 1, 2, 3]),
        ("b.png", "line 7", "not_finite", "cat", [None, 1, 2, 3.5]),
        ("c.png", "line 9", "outside", "dog", [200, 10, 240, 40]),
    ]
    assert {one["file"] for one in listed(tmp_path / "out")} == {"labels.csv"}


@pytest.mark.parametrize("task", ["detector", "teacher"])
def test_read_is_stored_plus_dropped_plus_rejected(raw, tmp_path, task):
    file = run(raw, tmp_path / "out", task).files[0]
    assert (file.instances_read, file.instances_stored, file.instances_rejected) == (9, 3, 1)
    assert file.dropped == {"inverted": 1, "too_small": 1, "not_finite": 2, "outside": 1}
    by_reason = Counter(one["reason"] for one in listed(tmp_path / "out", f"train_{task}"))
    assert by_reason == file.dropped
    assert file.categories == {"cat": 3}
    assert file.repairs["clipped"] == 1


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"num_workers": 5, "flush_every": 1}])
def test_lists_depend_neither_on_batches_nor_on_workers(raw, tmp_path, options):
    run(raw, tmp_path / "out")
    run(raw, tmp_path / "other", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_a_list_goes_when_nothing_is_dropped_any_more(raw, tmp_path):
    run(raw, tmp_path / "out")
    write(raw, [ROWS[0], ROWS[2], ROWS[6]])
    run(raw, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.dropped.jsonl"))


def spoilt(path):
    path.write_text(path.read_text().replace("inverted", "crowd"))


def shortened(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def scribbled(path):
    path.write_text(path.read_text() + "{no json\n")


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), spoilt, shortened, scribbled])
def test_a_list_that_is_missing_or_changed_is_made_again(raw, tmp_path, spoil):
    run(raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    spoil(tmp_path / "out" / "train_detector.dropped.jsonl")
    assert not run(raw, tmp_path / "out").up_to_date
    assert contents(tmp_path / "out") == before
    assert run(raw, tmp_path / "out").up_to_date


def test_when_lines_move_only_the_lists_are_written_again(raw, tmp_path, monkeypatch):
    run(raw, tmp_path / "out")
    write(raw, ["", *ROWS[:4], "", "", *ROWS[4:]])
    run(raw, tmp_path / "fresh")
    npz = tmp_path / "out" / "train_detector.npz"
    before = npz.stat().st_mtime_ns
    report = run(raw, tmp_path / "out")
    assert report.up_to_date
    assert npz.stat().st_mtime_ns == before
    assert [one["place"] for one in listed(tmp_path / "out")][:3] == ["line 4", "line 6", "line 9"]
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_messages_about_annotations_name_the_lines_that_they_have_now(raw, tmp_path):
    bad = "a.png,100,60,cat,10,10,x,40"
    write(raw, [*ROWS, bad])
    run(raw, tmp_path / "out")
    path = tmp_path / "out" / "train_detector.rejected.jsonl"
    assert "line 11" in path.read_text()
    write(raw, ["", *ROWS, bad])
    assert run(raw, tmp_path / "out").up_to_date
    assert "line 12" in path.read_text()
    assert run(raw, tmp_path / "out").up_to_date


def test_a_renamed_annotation_file_is_named_by_its_new_name(raw, tmp_path):
    run(raw, tmp_path / "out")
    (raw / "labels.csv").rename(raw / "boxes.csv")
    assert run(raw, tmp_path / "out").up_to_date
    assert {one["file"] for one in listed(tmp_path / "out")} == {"boxes.csv"}


def test_a_single_point_that_is_lost_is_listed_with_its_number(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "ab":
        Image.new("RGB", (100, 60)).save(raw / f"{name}.png")
    images = [
        {"id": i, "file_name": f"{n}.png", "width": 100, "height": 60} for i, n in enumerate("ab")
    ]
    points = [[10, 10, 2, float("inf"), 20, 2, 30, 30, 2], [1, 1, 2, 9, 9, 2, 9, 5, 2]]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 40, 40], "keypoints": of_image}
        for i, of_image in enumerate(points)
    ]
    categories = [{"id": 1, "name": "face", "keypoints": ["a", "b", "c"]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (raw / "a.json").write_text(json.dumps(content))
    file = run(raw, tmp_path / "out", "landmarker").files[0]
    assert (file.instances_stored, file.dropped) == (2, {})
    assert file.repairs == {"unlabelled_points": 1}
    (one,) = listed(tmp_path / "out", "train_landmarker")
    assert one["place"].endswith("point 2")
    assert (one["reason"], one["values"]) == ("unlabelled_points", [None, 20, 2])
    with np.load(tmp_path / "out" / "train_landmarker.npz") as members:
        assert members["keypoints"][0, :, 2].tolist() == [2, 0, 2]
    assert run(raw, tmp_path / "out", "landmarker").up_to_date
    assert not list(tmp_path.glob("out/*_detector.*"))


def test_the_lists_of_a_split_that_the_data_lost_go_with_its_file(raw, tmp_path):
    options = {"image_size": SMALL, "progress": False}
    DataProcessor(raw, tmp_path / "out", **options).process(["detector"], 0.0)
    assert listed(tmp_path / "out", "val_detector")
    (tmp_path / "out" / "val_detector.npz").rename(tmp_path / "out" / "test_detector.npz")
    val = tmp_path / "out" / "val_detector.dropped.jsonl"
    val.rename(tmp_path / "out" / "test_detector.dropped.jsonl")
    report = run(raw, tmp_path / "out")
    assert report.removed == ("test_detector.npz",)
    assert not (tmp_path / "out" / "test_detector.dropped.jsonl").exists()


def test_a_folder_with_the_name_of_a_list_is_refused_before_work(raw, tmp_path):
    (tmp_path / "out" / "train_detector.dropped.jsonl").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"train_detector\.dropped\.jsonl"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize("spoil", [None, b"no photograph", b""])
def test_every_object_of_a_rejected_image_is_named_by_its_line(raw, tmp_path, spoil):
    """Its boxes are bad, or the image is damaged or missing."""
    if spoil is not None:
        (raw / "d.png").write_bytes(spoil)
        if not spoil:
            (raw / "d.png").unlink()
    run(raw, tmp_path / "out")
    assert rejected_message(tmp_path / "out", "d.png").endswith(
        "; its objects: labels.csv: line 10"
    )
    write(raw, ("", *ROWS))
    assert run(raw, tmp_path / "out").up_to_date
    assert rejected_message(tmp_path / "out", "d.png").endswith(
        "; its objects: labels.csv: line 11"
    )
    write(raw, (*ROWS, *(f"d.png,100,60,dog,4{i},10,10,40" for i in range(1, 8))))
    run(raw, tmp_path / "out")
    assert "labels.csv: line 10, line 11, line 12, line 13, line 14 and 3 more" in (
        rejected_message(tmp_path / "out", "d.png")
    )


def test_lists_of_a_continued_run_name_the_lines_of_today(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ProcessingRun, "_finish_lists", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(raw, out, batch_size=1, flush_every=1)
    write(raw, ("", *ROWS))
    assert run(raw, out, batch_size=1, flush_every=1).images_resumed
    run(raw, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def rejected_message(output_dir, image):
    (message,) = {
        line["message"]
        for path in output_dir.glob("*_detector.rejected.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
        if line["path"] == image
    }
    return message


def test_a_missing_image_may_be_in_a_folder_that_was_not_entered(raw, tmp_path):
    (tmp_path / "store").mkdir()
    (raw / "d.png").rename(tmp_path / "store" / "d.png")
    (raw / "linked").symlink_to(tmp_path / "store")
    run(raw, tmp_path / "out", follow_links=False)
    message = rejected_message(tmp_path / "out", "d.png")
    assert message.startswith("does not exist; it may be in linked: a link to the folder")
