"""The report: what was read, how it was divided, and where each object went."""

import json
from collections import Counter

import pytest
from PIL import Image

from processing.core.annotation_sets import SetReport
from processing.core.errors import Note, SourceError, TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.run.processing_report import FileReport, ProcessingReport, SplitReport
from tests.datasets.test_viewable import Page
from tests.sources.test_real_annotations import SETS

SMALL = {"detector": 32, "landmarker": 24, "teacher": 16}
NAN = float("nan")


def box(image, *xywh, **more):
    return {"image_id": image, "category_id": 1 + image % 2, "bbox": list(xywh)} | more


def face(image, points, **more):
    return box(image, 5, 5, 40, 40, keypoints=points) | {"category_id": 3} | more


GOOD = [10, 10, 2, 30, 10, 2, 20, 30, 2]
MESS = [
    *(box(image, 10, 10, 30, 30) for image in range(8)),
    box(0, 50, 10, -20, 30),  # inverted
    box(1, 10, 10, 0.25, 30),  # too small
    box(2, 300, 10, 30, 30),  # outside
    box(3, -5, 10, 30, 30),  # clipped
    box(4, 40, 10, 30, 30, iscrowd=1),
    *(box(8, 50, 10, -20, 30 + i) for i in range(2)),  # its image is rejected
    box(9, 50, 10, 20, 30, iscrowd=1),  # its image is left out by a rule
    face(10, GOOD),
    face(11, [1e9, 10, 2, *GOOD[3:]]),
    face(12, [1e9, 10, 2] * 3),
    face(12, GOOD, iscrowd=1, bbox=[50, 5, 40, 40]),
    box(13, 10, 10, 30, 30),  # its image is damaged
]
IMAGES = 16
"""Images 14 and 15 have no objects."""


@pytest.fixture
def raw(tmp_path):
    """One COCO file with every way in which an object can be lost."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for i in range(IMAGES):
        Image.new("RGB", (100, 60), (i * 10, 0, 0)).save(folder / f"{i:02d}.png")
    (folder / "13.png").write_bytes(b"no photograph")
    Image.new("RGB", (9, 9)).save(folder / "unlisted.png")
    images = [
        {"id": i, "file_name": f"{i:02d}.png", "width": 100, "height": 60} for i in range(IMAGES)
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(("cat", "dog"))]
    categories.append({"id": 3, "name": "face", "keypoints": ["left", "right", "mouth"]})
    annotations = [{"id": i} | annotation for i, annotation in enumerate(MESS, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "mess.json").write_text(json.dumps(content))
    return folder


def run(raw, output_dir, train_split=0.5, **options):
    options = {"image_size": SMALL, "progress": False, "num_workers": 2} | options
    return DataProcessor(raw, output_dir, **options).process_all(train_split)


def check_identity(report, output_dir):
    """Asserts that every object that was read is stored, dropped and listed, or rejected."""
    for file in report.files:
        dropped = sum(file.dropped.values())
        accounted = file.instances_stored + dropped + file.instances_rejected
        assert file.instances_read == accounted, file.path
        assert sum(file.categories.values()) == file.instances_stored
        path = output_dir / f"{file.path.stem}.dropped.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        reasons = Counter(json.loads(line)["reason"] for line in lines)
        unlabelled = {"unlabelled_points": file.repairs.get("unlabelled_points", 0)}
        assert reasons == +Counter(file.dropped | unlabelled)


def test_every_object_of_a_messy_data_set_is_stored_dropped_or_rejected(raw, tmp_path):
    report = run(raw, tmp_path / "out")
    check_identity(report, tmp_path / "out")
    totals = Counter()
    for file in report.files:
        if file.task == "detector":
            totals.update(file.dropped)
            totals["read"] += file.instances_read
            totals["stored"] += file.instances_stored
            totals["rejected"] += file.instances_rejected
            totals["empty"] += file.empty_images
            totals["by rules"] += file.left_out_by_rules
            totals.update({f"image {reason}": n for reason, n in file.rejected.items()})
    assert totals == {
        **{"read": len(MESS), "stored": 12, "rejected": 4, "empty": 2, "by rules": 1},
        **{"inverted": 1, "too_small": 1, "outside": 1, "crowd": 2},
        **{"image no_usable_annotation": 1, "image not_an_image": 1},
    }


def test_an_image_rejected_for_one_task_is_stored_by_another(raw, tmp_path):
    report = run(raw, tmp_path / "out", 1.0)
    (landmarker,) = [f for f in report.files if f.path.stem == "train_landmarker"]
    # Image 12 lost both sets of points, one of them by a rule.
    assert landmarker.rejected == {"no_usable_annotation": 1}
    assert (landmarker.instances_read, landmarker.instances_rejected) == (4, 2)
    assert landmarker.repairs == {"unlabelled_points": 1}
    listed = (tmp_path / "out" / "train_landmarker.rejected.jsonl").read_text()
    assert "2 point sets: bad_points 1, crowd 1" in listed
    assert "; its objects: mess.json: annotations[18], annotations[19]" in listed
    assert "12.png" not in (tmp_path / "out" / "train_detector.rejected.jsonl").read_text()


def test_a_second_run_prints_the_same_report_but_for_its_last_line(raw, tmp_path):
    first = str(run(raw, tmp_path / "out")).splitlines()
    again = run(raw, tmp_path / "out")
    assert again.up_to_date
    assert str(again).splitlines()[:-1] == first[:-1]
    assert "up to date" in str(again).splitlines()[-1]
    assert len(first) <= 40


def test_the_report_says_what_was_read_and_how_it_was_divided(raw, tmp_path):
    report = run(raw, tmp_path / "out")
    text = str(report)
    assert f"read mess.json (coco): {IMAGES} images, {len(MESS)} objects" in text
    assert f"splits: {IMAGES} images by a hash of the path, train_split=0.5" in text
    assert "objects by category (detector, teacher): dog 5, cat 4, face 3" in text
    assert "objects by category (landmarker): face 2" in text
    assert "images left out by keep_flagged or min_box_size: 1" in text


def test_notes_are_listed_and_the_list_goes_when_there_are_none(raw, tmp_path):
    report = run(raw, tmp_path / "out", 1.0)
    path = tmp_path / "out" / "processing.notes.jsonl"
    notes = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(note["kind"], note["path"]) for note in notes] == [("unlisted_images", "unlisted.png")]
    assert "unlisted_images 1: unlisted.png: no usable annotation lists this image" in str(report)
    assert str(path) in str(report)
    before = path.stat()
    run(raw, tmp_path / "out", 1.0)
    assert path.stat() == before, "it did not change"
    (raw / "unlisted.png").unlink()
    run(raw, tmp_path / "out", 1.0)
    assert not path.exists()


def test_images_left_out_by_rules_are_neither_errors_nor_bad(raw, tmp_path):
    content = json.loads((raw / "mess.json").read_text())
    content["annotations"] = [box(9, 50, 10, 20, 30, iscrowd=1), box(0, 10, 10, 30, 30)]
    content["images"] = [content["images"][i] for i in (0, 9)]
    (raw / "mess.json").write_text(json.dumps(content))
    for _ in range(2):
        options = {"max_bad_fraction": 0.0, "on_error": "raise"}
        report = run(raw, tmp_path / "out", 1.0, **options)
        assert not report.has_rejections
        assert report.files[0].left_out_by_rules == 1
    listed = json.loads((tmp_path / "out" / "train_detector.rejected.jsonl").read_text())
    assert (listed["path"], listed["stage"]) == ("09.png", "rules")
    kept = run(raw, tmp_path / "kept", 1.0, keep_flagged=True)
    assert kept.files[0].rows == 2


def test_bad_boxes_count_as_bad_images_once_however_many_tasks_lack_them(raw, tmp_path):
    # Images 8, 12 and 13 are bad, two of them for two tasks.
    run(raw, tmp_path / "out", max_bad_fraction=3 / 16)
    with pytest.raises(TooManyRejectedError, match="of 16 images"):
        run(raw, tmp_path / "other", max_bad_fraction=2 / 16)
    with pytest.raises(TooManyRejectedError, match="of 16 images"):
        run(raw, tmp_path / "out", max_bad_fraction=2 / 16)


@pytest.mark.parametrize("bad", [[50, 10, -20, 30], "malformed"])
def test_an_image_that_lost_its_only_box_counts_as_bad_at_whatever_stage(raw, tmp_path, bad):
    content = json.loads((raw / "mess.json").read_text())
    content["annotations"] = [box(0, 10, 10, 30, 30), box(1, 10, 10, 30, 30) | {"bbox": bad}]
    (raw / "mess.json").write_text(json.dumps(content))
    (raw / "13.png").unlink()
    content["images"] = content["images"][:10]
    (raw / "mess.json").write_text(json.dumps(content))
    with pytest.raises(TooManyRejectedError, match="1 of 10 images were rejected"):
        run(raw, tmp_path / "out", max_bad_fraction=0.09)
    assert run(raw, tmp_path / "out", max_bad_fraction=0.1).has_rejections
    with pytest.raises(TooManyRejectedError, match="1 of 10 images were rejected"):
        run(raw, tmp_path / "out", max_bad_fraction=0.09)


def test_a_task_without_a_row_leaves_what_was_published(raw, tmp_path):
    run(raw, tmp_path / "out", 1.0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.npz")}
    content = json.loads((raw / "mess.json").read_text())
    content["annotations"] = [box(0, 10, 10, 30, 30), face(12, [1e9, 10, 2] * 3)]
    (raw / "mess.json").write_text(json.dumps(content))
    with pytest.raises(TooManyRejectedError, match=r"landmarker: 1 of 1 images.*bad_points 1"):
        run(raw, tmp_path / "out", 1.0)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.npz")}


def test_an_error_about_absent_boxes_says_what_is_there_instead(raw, tmp_path):
    content = json.loads((raw / "mess.json").read_text())
    content["annotations"] = [box(99, 1, 1, 9, 9)]
    content["images"].append({"id": 70, "file_name": "gone.png"})
    (raw / "mess.json").write_text(json.dumps(content))
    with pytest.raises(SourceError) as caught:
        run(raw, tmp_path / "out")
    message = str(caught.value)
    assert f"no boxes in {raw} (17 images listed)" in message
    assert "mess.json (coco) lists 17 images and no objects" in message
    assert "17 of 17 listed images have no object at all" in message
    assert "1 of them are not there, such as gone.png" in message
    assert "rejected: unknown_image_id 1: mess.json: annotations[0]" in message
    assert "note: unlisted_images: unlisted.png" in message


# --- the text of odd reports

FILE = {"rows": 1, "images": 1, "instances_read": 1, "instances_stored": 1}
FILE |= {"repairs": {}, "rejected": {}, "listed": 0}


def report_of(tmp_path, **more):
    categories = {f"c{i}": 100 - i for i in range(30)}
    files = (FileReport(tmp_path / "train_detector.npz", categories=categories, **FILE),)
    counts = {"images_decoded": 1, "images_copied": 0, "images_resumed": 0, "seconds": 1}
    return str(ProcessingReport(files, up_to_date=False, **counts, **more))


def test_long_lists_are_cut(tmp_path):
    sets = tuple(SetReport(f"{i}.csv", "csv_manifest", 2, 3, "from 0") for i in range(20))
    notes = {f"kind{i:02d}": i + 1 for i in range(20)}
    examples = {kind: Note(kind, "a", "a" * 1000) for kind in notes}
    text = report_of(tmp_path, sets=sets, notes=notes, note_examples=examples)
    assert "read 0.csv (csv_manifest): 2 images, 3 objects; from 0" in text
    assert "read 14 more annotation sets: 28 images, 42 objects" in text
    assert "c0 100" in text
    assert "c9 91, and 20 more" in text
    assert "kind09 10: aaa" in text
    assert "and kind10 11, kind11 12" in text
    assert "a" * 401 not in text
    assert len(text.splitlines()) <= 40


def test_rejected_annotations_are_shown_with_an_example_and_their_list(raw, tmp_path):
    content = json.loads((raw / "mess.json").read_text())
    content["annotations"] += [box(99, 1, 1, 9, 9), box(98, 1, 1, 9, 9)]
    (raw / "mess.json").write_text(json.dumps(content))
    for _ in range(2):
        lines = str(run(raw, tmp_path / "out")).splitlines()
        listed = tmp_path / "out" / "train_detector.rejected.jsonl"
        at = lines.index(f"rejected annotations (all in {listed}):")
        expected = f"    unknown_image_id 2: mess.json: annotations[{len(MESS)}]"
        assert lines[at + 1].startswith(expected)


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (SplitReport(5, 0, 0.8), "5 images as the annotations say"),
        (SplitReport(0, 1, 0.8), "1 image by a hash of the path, train_split=0.8"),
        (
            SplitReport(2, 3, 0.25, "id-([0-9]+)"),
            "2 images as the annotations say, 3 images by a hash of the group "
            "(group_by='id-([0-9]+)'), train_split=0.25",
        ),
    ],
)
def test_the_report_says_how_images_were_divided(split, text):
    assert str(split) == text


@pytest.mark.parametrize("name", SETS)
def test_every_object_of_real_data_is_accounted_for(real_data, tmp_path, name):
    report = DataProcessor(
        real_data / name, tmp_path / "out", image_size=SMALL, progress=False
    ).process_all()
    check_identity(report, tmp_path / "out")
    assert report.sets
    assert sum(read.instances for read in report.sets) >= max(
        sum(file.instances_read for file in report.files if file.task == task)
        for task in ("detector", "landmarker")
    )


def test_a_notebook_shows_the_report_with_its_files_in_a_table(raw_dir, tmp_path):
    (raw_dir / "images" / "0001.jpg").write_bytes(b"no picture")
    report = DataProcessor(raw_dir, tmp_path / "out", image_size=32).process_detector()
    page = Page(report._repr_html_())
    assert "table" in page.tags
    for file in report.files:
        assert file.path.name in page.text
    assert "rejected images: " in page.text
    assert "splits: 24 images by a hash" in page.text
    assert "images/s" in page.text
