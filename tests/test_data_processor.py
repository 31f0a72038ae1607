import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing.core.coordinates import stored_to_source
from processing.core.errors import AnnotationError, ImageError, SourceError, TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.imaging import image_rows
from processing.npz.writer import NPZWriter
from processing.run import image_batches, journal, processing_run
from processing.run.dataset_writer import DatasetWriter
from processing.run.image_sizes import image_sizes
from tests.processes import PROCESSES

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}


def processor(raw_dir, output_dir, **options):
    return DataProcessor(raw_dir, output_dir, **{"image_size": SMALL, "num_workers": 2, **options})


def stored_files(directory):
    return {path.name: path.read_bytes() for path in sorted(Path(directory).glob("*.npz"))}


def rejected(output_dir, name):
    path = Path(output_dir) / f"{name}.rejected.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def annotations_of(raw_dir):
    return json.loads((raw_dir / "annotations" / "instances.json").read_text())


@pytest.fixture
def edit_annotations(raw_dir):
    """Applies a function to the raw directory's COCO JSON."""

    def edit(change):
        content = annotations_of(raw_dir)
        change(content)
        (raw_dir / "annotations" / "instances.json").write_text(json.dumps(content))

    return edit


def test_every_file_of_every_task_has_exactly_its_members(processed_dir):
    common = ["image_paths", "image_crc32", "source_rects", "source_sizes", "metadata"]
    members = {
        "detector": ["images", "bboxes", "bboxes_offsets", *common],
        "landmarker": ["images", "keypoints", *common],
        "teacher": ["images", "bboxes", *common],
    }
    for task, expected in members.items():
        for split in ("train", "val"):
            with np.load(processed_dir / f"{split}_{task}.npz", allow_pickle=False) as stored:
                assert stored.files == expected
                height = width = SMALL[task]
                assert stored["images"].shape[1:] == (height, width, 3)
                metadata = json.loads(stored["metadata"].item())
                assert (metadata["task"], metadata["split"]) == (task, split)
                assert metadata["counts"]["rows"] == len(stored["images"])


def test_stored_boxes_undo_to_the_annotated_ones(processed_dir, shared_raw_dir):
    content = annotations_of(shared_raw_dir)
    names = {image["id"]: f"images/{image['file_name']}" for image in content["images"]}
    truth = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        truth[names[annotation["image_id"]]].append([x, y, x + w, y + h])
    seen = 0
    for split in ("train", "val"):
        with np.load(processed_dir / f"{split}_detector.npz") as stored:
            offsets, rects = stored["bboxes_offsets"], stored["source_rects"]
            for i, path in enumerate(stored["image_paths"].tolist()):
                boxes = stored["bboxes"][offsets[i] : offsets[i + 1]]
                undone = stored_to_source(boxes, rects[i], (64, 64))
                np.testing.assert_allclose(undone, np.reshape(truth[path], (-1, 4)), atol=0.01)
                seen += 1
    assert seen == len(names), "an image is missing, perhaps one without boxes"


def test_teacher_boxes_are_in_source_pixels_and_points_undo_to_theirs(
    processed_dir, shared_raw_dir
):
    content = annotations_of(shared_raw_dir)
    boxes = sorted(a["bbox"] for a in content["annotations"])
    points = sorted(a["keypoints"] for a in content["annotations"])
    found_boxes, found_points = [], []
    for split in ("train", "val"):
        with np.load(processed_dir / f"{split}_teacher.npz") as stored:
            for x1, y1, x2, y2 in stored["bboxes"].tolist():
                found_boxes.append([x1, y1, x2 - x1, y2 - y1])
        with np.load(processed_dir / f"{split}_landmarker.npz") as stored:
            for keypoints, rect in zip(stored["keypoints"], stored["source_rects"], strict=True):
                found_points.append(stored_to_source(keypoints, rect, (48, 48)).ravel().tolist())
    assert sorted(found_boxes) == boxes
    np.testing.assert_allclose(sorted(found_points), points, atol=0.01)


def test_no_image_is_in_train_of_one_task_and_val_of_another(processed_dir):
    paths = {}
    for path in processed_dir.glob("*_*.npz"):
        with np.load(path) as stored:
            paths.setdefault(path.name.split("_")[0], set()).update(stored["image_paths"].tolist())
    assert not paths["train"] & paths["val"]


def test_the_bytes_do_not_depend_on_the_number_of_workers_or_the_batches(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "a", num_workers=1, batch_size=3).process_all()
    processor(raw_dir, tmp_path / "b", num_workers=8, batch_size=500).process_all()
    assert stored_files(tmp_path / "a") == stored_files(tmp_path / "b")
    assert len(stored_files(tmp_path / "a")) == 6


def test_the_bytes_do_not_depend_on_where_and_how_old_the_raw_directory_is(raw_dir, tmp_path):
    moved = tmp_path / "elsewhere" / "raw"
    shutil.copytree(raw_dir, moved)
    for path in moved.rglob("*.jpg"):
        os.utime(path, (1, 1))
    processor(raw_dir, tmp_path / "a").process_all()
    processor(moved, tmp_path / "b").process_all()
    assert stored_files(tmp_path / "a") == stored_files(tmp_path / "b")


def test_an_image_that_feeds_three_tasks_is_decoded_once(raw_dir, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        image_rows,
        "decode",
        lambda data, *a, **k: decoded.append(data) or real_decode(data, *a, **k),
    )
    report = processor(raw_dir, tmp_path / "out").process_all()
    assert len(decoded) == report.images_decoded == 24


real_decode = image_rows.decode


def test_a_second_run_finds_the_files_up_to_date_and_decodes_nothing(raw_dir, tmp_path):
    first = processor(raw_dir, tmp_path / "out").process_all()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*_*.npz")}
    second = processor(raw_dir, tmp_path / "out", num_workers=1).process_all()
    assert second.up_to_date
    assert second.images_decoded == 0
    assert second.files == first.files
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_touched_but_equal_images_are_read_and_not_decoded(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "out").process_detector()
    for path in raw_dir.rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert processor(raw_dir, tmp_path / "out").process_detector().up_to_date


def test_files_are_up_to_date_without_the_input_cache(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "out").process_detector()
    (tmp_path / "out" / "processing.inputs.cache").unlink()
    assert processor(raw_dir, tmp_path / "out").process_detector().up_to_date


def test_a_changed_image_makes_its_files_stale(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "out").process_detector()
    Image.new("RGB", (160, 120), "white").save(raw_dir / "images" / "0000.jpg")
    report = processor(raw_dir, tmp_path / "out").process_detector()
    assert not report.up_to_date
    rows = [np.load(file.path) for file in report.files]
    (white,) = [
        stored["images"][i]
        for stored in rows
        for i in np.flatnonzero(stored["image_paths"] == "images/0000.jpg")
    ]
    assert (white[32, 32] == 255).all()


@pytest.mark.parametrize(
    "option",
    [
        {"image_size": 60},
        {"crop_margin": 0.5},
        {"min_box_size": 13},
        {"seed": 1},
        {"keep_flagged": True},
        {"store": "jpeg"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_a_changed_option_makes_files_stale(raw_dir, tmp_path, option):
    processor(raw_dir, tmp_path / "out").process_teacher()
    assert not processor(raw_dir, tmp_path / "out", **option).process_teacher().up_to_date


def test_a_changed_annotation_makes_files_stale(raw_dir, tmp_path, edit_annotations):
    processor(raw_dir, tmp_path / "out").process_teacher()
    edit_annotations(lambda content: content["annotations"].pop())
    assert not processor(raw_dir, tmp_path / "out").process_teacher().up_to_date


def test_a_damaged_output_is_made_again(raw_dir, tmp_path):
    report = processor(raw_dir, tmp_path / "out").process_detector()
    good = stored_files(tmp_path / "out")
    damaged = report.files[0].path
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert not processor(raw_dir, tmp_path / "out").process_detector().up_to_date
    assert stored_files(tmp_path / "out") == good


def process_and_die(raw_dir, output_dir, kill_at, store):
    """In a child: processes a raw directory, and kills itself after a step of the writers."""
    calls = 0

    def counted(owner, name):
        original = getattr(owner, name)

        def call(self, *arguments):
            nonlocal calls
            result = original(self, *arguments)
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, call)

    for name in ("_open", "write", "flush", "complete"):
        counted(DatasetWriter, name)
    counted(NPZWriter, "finish")
    processor(raw_dir, output_dir, batch_size=5, flush_every=2, store=store).process_all()


@pytest.fixture
def kill(small_runs_server, raw_dir, tmp_path):
    """Returns a function that processes `raw_dir` in a process that is killed at a step."""

    def run(kill_at, store="raw"):
        where = {"raw_dir": raw_dir, "output_dir": tmp_path / "out"}
        log = tmp_path / "log"
        status = small_runs_server.run(process_and_die, log, **where, kill_at=kill_at, store=store)
        assert status == -signal.SIGKILL, log.read_text()

    return run


@pytest.fixture(scope="module")
def files_of_stores(shared_raw_dir, processed_dir, tmp_path_factory):
    """The files that an undisturbed run makes, by `store`."""
    files = {"raw": stored_files(processed_dir)}
    for store in ("jpeg", "original"):
        output_dir = tmp_path_factory.mktemp(store) / "out"
        processor(shared_raw_dir, output_dir, store=store).process_all()
        files[store] = stored_files(output_dir)
    return files


@pytest.mark.parametrize(
    ("kill_at", "store"),
    [
        *((kill_at, "raw") for kill_at in (1, 4, 9, 12, 18, 20)),
        *((kill_at, "jpeg") for kill_at in (8, 10, 16, 19)),
        *((kill_at, "original") for kill_at in (10, 17)),
    ],
)
def test_a_killed_run_continues_at_its_last_flush_and_ends_with_equal_bytes(
    raw_dir, files_of_stores, kill, tmp_path, kill_at, store
):
    output_dir = tmp_path / "out"
    kill(kill_at, store)
    report = processor(raw_dir, output_dir, batch_size=5, flush_every=2, store=store).process_all()
    assert report.images_resumed + report.images_decoded == 24
    assert stored_files(output_dir) == files_of_stores[store]
    left = {path.name for path in output_dir.iterdir()} - set(stored_files(output_dir))
    assert left <= {"processing.lock", "processing.inputs.cache", "processing.rows.cache"}


def test_publishing_reads_the_journal_once_however_many_files_and_columns(
    raw_dir, tmp_path, monkeypatch
):
    read, decode = [], journal._decoded

    def counted(payload, kind):
        read.append(len(payload))
        return decode(payload, kind)

    written, append = [], journal.Journal.append

    def appended(self, records):
        append(self, records)
        written.append(len(records))

    monkeypatch.setattr(journal, "_decoded", counted)
    monkeypatch.setattr(journal.Journal, "append", appended)
    report = processor(raw_dir, tmp_path / "out", batch_size=2).process_all()
    assert len(report.files) == 6
    assert sum(written) == 12
    assert len(read) == 12


def test_a_run_stopped_by_an_exception_publishes_nothing_and_resumes(
    raw_dir, tmp_path, monkeypatch
):
    original = image_batches.process_image

    def interrupted(raw, job, options, earlier):
        if job.path.endswith("0017.jpg"):
            raise KeyboardInterrupt
        return original(raw, job, options, earlier)

    monkeypatch.setattr(image_batches, "process_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        processor(raw_dir, tmp_path / "out", batch_size=4, flush_every=2).process_all()
    assert not stored_files(tmp_path / "out")
    monkeypatch.undo()
    report = processor(raw_dir, tmp_path / "out", batch_size=4, flush_every=2).process_all()
    assert report.images_resumed in (8, 16)  # the fourth batch may have been waiting to be written


def test_a_strict_run_does_not_continue_what_a_lenient_one_began(raw_dir, kill, tmp_path):
    (raw_dir / "images" / "0000.jpg").write_text("no image")
    kill(12)
    with pytest.raises(ImageError, match=r"0000\.jpg"):
        processor(raw_dir, tmp_path / "out", on_error="raise").process_all()


def test_leftovers_of_an_abandoned_run_are_replaced(raw_dir, kill, tmp_path):
    output_dir = tmp_path / "out"
    kill(12)
    assert list(output_dir.glob("*.partial"))
    processor(raw_dir, output_dir).process_detector()
    assert not list(output_dir.glob("*.partial"))


def spoil(raw_dir):
    """Six bad inputs of four kinds; returns their reasons by path."""
    images = raw_dir / "images"
    whole = (images / "0001.jpg").read_bytes()
    (images / "0001.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "0002.jpg").write_bytes(b"")
    (images / "0003.jpg").write_text("<html>404</html>")
    (images / "0004.jpg").unlink()
    (images / "0006.jpg").unlink()
    (images / "0006.jpg").symlink_to("/etc/hostname")
    return {
        "images/0001.jpg": "truncated",
        "images/0002.jpg": "not_an_image",
        "images/0003.jpg": "not_an_image",
        "images/0004.jpg": "missing_image",
        "images/0006.jpg": "outside_raw_dir",
    }


def test_bad_images_are_listed_once_with_their_reason_and_good_ones_kept(raw_dir, tmp_path):
    expected = spoil(raw_dir)
    report = processor(raw_dir, tmp_path / "out", follow_links=False).process_detector()
    assert report.has_rejections
    listed = rejected(tmp_path / "out", "train_detector") + rejected(
        tmp_path / "out", "val_detector"
    )
    assert {entry["path"]: entry["reason"] for entry in listed} == expected
    assert len(listed) == len(expected)
    assert all(entry["path"] in entry["message"] or entry["message"] for entry in listed)
    assert sum(file.rows for file in report.files) == 24 - len(expected)
    assert processor(raw_dir, tmp_path / "out", follow_links=False).process_detector().up_to_date


def test_links_to_photographs_anywhere_are_read_unless_they_are_forbidden(raw_dir, tmp_path):
    shutil.move(raw_dir / "images" / "0001.jpg", tmp_path / "0001.jpg")
    (raw_dir / "images" / "0001.jpg").symlink_to(tmp_path / "0001.jpg")
    assert not processor(raw_dir, tmp_path / "out").process_detector().has_rejections
    report = processor(raw_dir, tmp_path / "out", follow_links=False).process_detector()
    assert sum(file.rejected.get("outside_raw_dir", 0) for file in report.files) == 1
    assert not processor(raw_dir, tmp_path / "out").process_detector().has_rejections


def test_rejection_lists_go_when_the_inputs_are_mended(raw_dir, tmp_path, shared_raw_dir):
    spoil(raw_dir)
    processor(raw_dir, tmp_path / "out").process_detector()
    (raw_dir / "images" / "0006.jpg").unlink()
    shutil.copytree(shared_raw_dir, raw_dir, dirs_exist_ok=True)
    report = processor(raw_dir, tmp_path / "out").process_detector()
    assert not report.has_rejections
    assert not list((tmp_path / "out").glob("*.rejected.jsonl"))


def test_a_flood_of_bad_images_does_not_flood_the_log(raw_dir, tmp_path, caplog):
    for path in sorted((raw_dir / "images").iterdir())[1:]:
        path.write_bytes(b"")
    report = processor(raw_dir, tmp_path / "out").process_detector()
    assert sum(file.listed for file in report.files) == 23
    assert sum(file.rows for file in report.files) == 1
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("left out: images/") for line in lines) == 20
    assert sum("listed in NAME.rejected.jsonl" in line for line in lines) == 1


def test_on_error_raise_stops_at_the_first_bad_image_and_names_it(raw_dir, tmp_path):
    (raw_dir / "images" / "0003.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"0003\.jpg"):
        processor(raw_dir, tmp_path / "out", on_error="raise").process_detector()
    assert not stored_files(tmp_path / "out")


def test_on_error_raise_stops_at_a_bad_annotation(raw_dir, tmp_path, edit_annotations):
    def unknown_image(content):
        content["annotations"][0]["image_id"] = 999

    edit_annotations(unknown_image)
    with pytest.raises(AnnotationError, match="999"):
        processor(raw_dir, tmp_path / "out", on_error="raise").process_detector()


def test_more_bad_images_than_allowed_stop_the_run(raw_dir, tmp_path):
    spoil(raw_dir)
    with pytest.raises(TooManyRejectedError, match=r"of 24 images.*max_bad_fraction=0\.1"):
        processor(raw_dir, tmp_path / "out", max_bad_fraction=0.1).process_detector()
    assert not stored_files(tmp_path / "out")


def test_good_files_are_not_replaced_by_nothing_when_all_images_are_gone(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "out").process_all()
    before = stored_files(tmp_path / "out")
    (raw_dir / "images").rename(tmp_path / "unmounted")
    with pytest.raises(TooManyRejectedError, match=r"24 of 24 images .*no such file"):
        processor(raw_dir, tmp_path / "out").process_all()
    assert stored_files(tmp_path / "out") == before
    (tmp_path / "unmounted").rename(raw_dir / "images")
    assert processor(raw_dir, tmp_path / "out").process_all().up_to_date


def test_repairs_are_counted_and_reads_equal_stored_plus_dropped(
    raw_dir, tmp_path, edit_annotations
):
    def damage(content):
        boxes = [annotation["bbox"] for annotation in content["annotations"]]
        boxes[6][2] = -5
        boxes[1][0] = -3
        boxes[2][:] = [5000, 5000, 10, 10]
        boxes[3][2:] = [0.2, 0.2]
        content["annotations"][4]["iscrowd"] = 1

    edit_annotations(damage)
    report = processor(raw_dir, tmp_path / "out").process_teacher()
    repairs = {}
    for file in report.files:
        for reason, count in file.repairs.items():
            repairs[reason] = repairs.get(reason, 0) + count
    assert repairs == {"inverted": 1, "clipped": 1, "outside": 1, "too_small": 1, "crowd": 1}
    for file in report.files:
        assert file.instances_read == file.instances_stored + sum(file.dropped.values())
    read = sum(file.instances_read for file in report.files)
    assert sum(file.rows for file in report.files) == read - 4


def test_images_with_points_alone_are_no_negatives_of_the_detector(
    raw_dir, tmp_path, edit_annotations
):
    def add_points_alone(content):
        content["images"].append({"id": 99, "file_name": "face.png", "height": 40, "width": 50})
        points = [10, 10, 2, 20, 20, 2, 15, 15, 2, 10, 20, 2, 20, 10, 2]
        content["annotations"].append({"image_id": 99, "category_id": 1, "keypoints": points})

    Image.new("RGB", (50, 40)).save(raw_dir / "images/face.png")
    edit_annotations(add_points_alone)
    report = processor(raw_dir, tmp_path / "out").process_all()
    rows = {file.path.stem: file.rows for file in report.files}
    assert rows["train_detector"] + rows["val_detector"] == 24
    paths = [
        p
        for n in ("train", "val")
        for p in np.load(tmp_path / "out" / f"{n}_landmarker.npz")["image_paths"]
    ]
    assert "images/face.png" in paths


def test_a_set_of_points_of_another_number_is_refused_and_leaves_the_others_alone(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    points = ["10 10", "20 20", "15 25"]
    for name, count in {"a": 3, "b": 3, "c": 2, "d": 3}.items():
        Image.new("RGB", (50, 40)).save(raw / f"{name}.png")
        lines = "\n".join(points[:count])
        (raw / f"{name}.pts").write_text(f"version: 1\nn_points: {count}\n{{\n{lines}\n}}\n")
    report = processor(raw, tmp_path / "out").process_landmarker()
    assert sum(file.rows for file in report.files) == 3
    assert report.rejected_annotations == {"malformed": 1, "no_usable_annotation": 1}
    lines = (tmp_path / "out/train_landmarker.rejected.jsonl").read_text().splitlines()
    assert "c.pts: " in lines[0]
    assert "2 points, but most others have 3" in lines[0]
    assert "c.png" in lines[1]
    with np.load(tmp_path / "out/train_landmarker.npz") as stored:
        assert stored["keypoints"].shape[1:] == (3, 3)


def test_labels_are_stored_only_where_there_are_several_categories(
    raw_dir, tmp_path, edit_annotations
):
    def second_category(content):
        content["categories"].append({"id": 7, "name": "dog"})
        content["annotations"][0]["category_id"] = 7

    edit_annotations(second_category)
    processor(raw_dir, tmp_path / "out").process_detector()
    labels = []
    for split in ("train", "val"):
        with np.load(tmp_path / "out" / f"{split}_detector.npz") as stored:
            np.testing.assert_array_equal(stored["labels_offsets"], stored["bboxes_offsets"])
            assert json.loads(stored["metadata"].item())["category_names"] == ["face", "dog"]
            labels += stored["labels"].tolist()
    assert sorted(set(labels)) == [0, 1]
    assert labels.count(1) == 1


def test_a_task_without_data_is_skipped_by_all_and_refused_alone(
    raw_dir, tmp_path, edit_annotations
):
    def forget_points(content):
        for annotation in content["annotations"]:
            del annotation["keypoints"]

    edit_annotations(forget_points)
    report = processor(raw_dir, tmp_path / "out").process_all()
    assert list(report.skipped_tasks) == ["landmarker"]
    assert "landmarker: skipped, no keypoints" in str(report)
    with pytest.raises(SourceError, match="landmarker: no keypoints in"):
        processor(raw_dir, tmp_path / "out").process_landmarker()


def test_without_teacher_no_teacher_file_is_made(raw_dir, tmp_path):
    processor(raw_dir, tmp_path / "out").process_all(include_teacher=False)
    assert not list((tmp_path / "out").glob("*teacher*"))


def test_an_output_that_would_not_fit_is_refused_before_anything_is_written(
    raw_dir, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"need [\d,]+ bytes, 1,000 are free"):
        processor(raw_dir, tmp_path / "out").process_detector()
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_strict_run_does_not_pass_because_a_lenient_one_was_there_before(raw_dir, tmp_path):
    (raw_dir / "images" / "0003.jpg").write_text("no image")
    processor(raw_dir, tmp_path / "out").process_detector()
    with pytest.raises(ImageError, match=r"0003\.jpg"):
        processor(raw_dir, tmp_path / "out", on_error="raise").process_detector()
    with pytest.raises(TooManyRejectedError, match="1 of 24 images"):
        processor(raw_dir, tmp_path / "out", max_bad_fraction=0.01).process_detector()


def test_the_list_of_rejections_follows_the_annotations(raw_dir, tmp_path, edit_annotations):
    output_dir = tmp_path / "out"
    processor(raw_dir, output_dir).process_detector()
    edit_annotations(
        lambda content: content["annotations"].append(
            {"id": 99, "image_id": 999, "category_id": 1, "bbox": [1, 1, 9, 9]}
        )
    )
    assert processor(raw_dir, output_dir).process_detector().has_rejections
    (entry,) = rejected(output_dir, "train_detector")
    assert entry["reason"] == "unknown_image_id"
    edit_annotations(lambda content: content["annotations"].pop())
    assert not processor(raw_dir, output_dir).process_detector().has_rejections
    assert not rejected(output_dir, "train_detector")


def test_a_lost_list_of_rejections_is_written_again(raw_dir, tmp_path):
    (raw_dir / "images" / "0003.jpg").write_text("no image")
    processor(raw_dir, tmp_path / "out").process_detector()
    (path,) = (tmp_path / "out").glob("*.rejected.jsonl")
    content = path.read_bytes()
    path.unlink()
    processor(raw_dir, tmp_path / "out").process_detector()
    assert path.read_bytes() == content


def test_instances_of_rejected_images_are_counted(raw_dir, tmp_path):
    before = DataProcessor(raw_dir, tmp_path / "a", progress=False).process_detector()
    (raw_dir / "images" / "0003.jpg").write_bytes(b"")  # which has three
    after = DataProcessor(raw_dir, tmp_path / "b", progress=False).process_detector()
    read, stored, lost = (
        [sum(getattr(file, name) for file in report.files) for report in (before, after)]
        for name in ("instances_read", "instances_stored", "instances_rejected")
    )
    assert read[0] == read[1]
    assert lost == [0, 3]
    assert read[1] == stored[1] + lost[1] + sum(
        count for f in after.files for name, count in f.repairs.items() if name != "clipped"
    )
    assert "objects in rejected images: 3" in str(after)


def official_splits(raw_dir, names):
    """Divides the COCO JSON into one file a split; `names` gives each image its split in turn."""
    content = annotations_of(raw_dir)
    (raw_dir / "annotations" / "instances.json").unlink()
    for name in ("train", "val", "test"):
        path = raw_dir / "annotations" / f"instances_{name}.json"
        path.unlink(missing_ok=True)
        images = [
            image for i, image in enumerate(content["images"]) if names[i % len(names)] == name
        ]
        ids = {image["id"] for image in images}
        annotations = [a for a in content["annotations"] if a["image_id"] in ids]
        if images:
            path.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    (raw_dir / "annotations" / "instances.json.all").write_text(json.dumps(content))


def test_official_splits_are_respected_and_a_test_file_goes_when_its_split_does(raw_dir, tmp_path):
    official_splits(raw_dir, ["train", "train", "val", "test"])
    report = processor(raw_dir, tmp_path / "out").process_detector()
    assert {file.path.name: file.rows for file in report.files} == {
        "train_detector.npz": 12,
        "val_detector.npz": 6,
        "test_detector.npz": 6,
    }
    (raw_dir / "annotations" / "instances.json.all").rename(
        raw_dir / "annotations" / "instances.json"
    )
    official_splits(raw_dir, ["train", "train", "val", "val"])
    report = processor(raw_dir, tmp_path / "out").process_detector()
    assert report.removed == ("test_detector.npz",)
    assert "removed: test_detector.npz, the data no longer has this split" in str(report)
    assert not (tmp_path / "out" / "test_detector.npz").exists()


def test_a_test_file_that_is_not_ours_is_left_alone(raw_dir, tmp_path):
    (tmp_path / "out").mkdir()
    np.savez(tmp_path / "out" / "test_detector.npz", images=np.zeros((1, 2, 2, 3), np.uint8))
    assert processor(raw_dir, tmp_path / "out").process_detector().removed == ()
    assert (tmp_path / "out" / "test_detector.npz").exists()


def test_a_journal_left_by_a_kill_after_publishing_goes(raw_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("processing.run.journal.Journal.remove", lambda self: self.close())
    processor(raw_dir, tmp_path / "out").process_detector()
    monkeypatch.undo()
    journal = tmp_path / "out" / "processing.journal"
    assert journal.exists()
    assert processor(raw_dir, tmp_path / "out").process_detector().up_to_date
    assert not journal.exists()


def test_an_output_deleted_after_such_a_kill_is_made_again(raw_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("processing.run.journal.Journal.remove", lambda self: self.close())
    processor(raw_dir, tmp_path / "out").process_detector()
    monkeypatch.undo()
    good = stored_files(tmp_path / "out")
    (tmp_path / "out" / "train_detector.npz").unlink()
    processor(raw_dir, tmp_path / "out").process_detector()
    assert stored_files(tmp_path / "out") == good


def test_point_sets_without_extent_are_counted(raw_dir, tmp_path, edit_annotations):
    def collapse(content):
        annotation = content["annotations"][1]
        del annotation["bbox"]
        annotation["keypoints"] = [50, 50, 2] * 5

    edit_annotations(collapse)
    report = processor(raw_dir, tmp_path / "out").process_landmarker()
    assert sum(file.repairs.get("no_extent", 0) for file in report.files) == 1
    read = sum(file.instances_read for file in report.files)
    assert sum(file.rows for file in report.files) == read - 1


@pytest.mark.parametrize("limit", ["_BATCH_BYTES", "_PART_BYTES"])
def test_many_crops_an_image_are_written_early(
    raw_dir, tmp_path, monkeypatch, processed_dir, limit
):
    sizes = []
    write = processing_run.DatasetWriter.write
    monkeypatch.setattr(image_batches, limit, 40_000)
    monkeypatch.setattr(
        processing_run.DatasetWriter,
        "write",
        lambda self, batch: sizes.append(len(batch.record.input_crc32)) or write(self, batch),
    )
    processor(raw_dir, tmp_path / "out").process_all()
    assert max(sizes) < 5
    assert stored_files(tmp_path / "out") == stored_files(processed_dir)


@pytest.mark.parametrize("part_bytes", [1 << 30, 40_000])
def test_flushes_count_whole_batches_whatever_their_parts(
    raw_dir, tmp_path, monkeypatch, part_bytes
):
    flushed = []
    append = journal.Journal.append
    monkeypatch.setattr(image_batches, "_PART_BYTES", part_bytes)
    monkeypatch.setattr(
        journal.Journal,
        "append",
        lambda self, records: append(self, records) or flushed.append(self.progress.images_done),
    )
    processor(raw_dir, tmp_path / "out", batch_size=5, flush_every=2).process_all()
    assert flushed == [10, 20, 24]


def _process_and_report(raw_dir, output_dir, barrier, results):
    barrier.wait(60)
    results.put(processor(raw_dir, output_dir).process_detector().up_to_date)


def test_of_two_processes_at_one_output_one_works_and_the_other_finds_it_done(raw_dir, tmp_path):
    barrier, results = PROCESSES.Barrier(2), PROCESSES.Queue()
    arguments = (raw_dir, tmp_path / "out", barrier, results)
    workers = [PROCESSES.Process(target=_process_and_report, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert sorted(results.get(timeout=120) for _ in workers) == [False, True]
    for worker in workers:
        worker.join(60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": 0}, "num_workers must be at least 1, got 0"),
        ({"flush_every": 0}, "flush_every must be at least 1"),
        ({"group_by": "("}, r"group_by='\('"),
        ({"crop_margin": float("inf")}, r"crop_margin must be in \[0, 100\], got inf"),
        ({"crop_margin": -1}, r"crop_margin must be in \[0, 100\]"),
        ({"min_box_size": float("nan")}, r"min_box_size must be in \[0, 65535\], got nan"),
        ({"max_bad_fraction": 2}, r"max_bad_fraction must be in \[0, 1\], got 2"),
        ({"on_error": "ignore"}, "on_error must be 'quarantine' or 'raise', got 'ignore'"),
        ({"batch_size": "many"}, "batch_size must be an integer, got 'many'"),
        ({"batch_size": 2.5}, r"batch_size must be an integer, got 2\.5"),
        ({"crop_margin": "wide"}, "crop_margin must be a number, got 'wide'"),
        ({"num_workers": True}, "num_workers must be an integer, got True"),
        ({"keep_flagged": "no"}, "keep_flagged must be true or false, got 'no'"),
        ({"progress": 1}, "progress must be true or false, got 1"),
        ({"output_dir": ""}, "output_dir is empty: was a variable not set"),
        ({"raw_data_dir": 5}, "raw_data_dir must be a path, got 5"),
        ({"group_by": 5}, "group_by must be a regular expression, got 5"),
        ({"sources": []}, "sources is empty"),
        ({"image_size": 256.0}, r"image_size must be a side in pixels, .* got 256\.0"),
        ({"image_size": {"detector": None}}, r"image_size\.detector must be a side .* got None"),
        ({"image_size": True}, "image_size must be a side .* got True"),
        ({"image_size": 0}, "image_size must be a side in pixels"),
        ({"image_size": {"detektor": 5}}, r"image_size names \['detektor'\]"),
        ({"image_size": [1, 2, 3]}, "image_size must be a side"),
        ({"image_size": 65_536}, "image_size must be a side in pixels, 1 to 65535"),
        ({"image_size": np.float64(64)}, "image_size must be a side"),
        ({"image_size": np.array([64.0, 64.0])}, "image_size must be a side"),
        ({"image_size": b"@@"}, "image_size must be a side"),
        ({"max_bad_fraction": 10**400}, r"max_bad_fraction must be in \[0, 1\], got inf"),
        ({"on_error": ["raise"]}, r"on_error must be .* got \['raise'\]"),
        ({"store": "png"}, "store must be one of raw, jpeg, original, got 'png'"),
        ({"store": ["jpeg"]}, r"store must be one of .* got \['jpeg'\]"),
        ({"store": "jpeg", "jpeg_quality": 0}, "jpeg_quality must be at least 1, got 0"),
        ({"store": "jpeg", "jpeg_quality": 101}, "jpeg_quality must be at most 100, got 101"),
        ({"store": "jpeg", "jpeg_quality": 95.5}, r"jpeg_quality must be an integer, got 95\.5"),
        ({"store": "jpeg", "jpeg_subsampling": "4:2:0"}, "jpeg_subsampling must be one of 444"),
        ({"jpeg_quality": 90}, "jpeg_quality=90 .* no effect with store='raw'"),
        ({"store": "jpeg", "image_size": 65_501}, r"image_size\.detector must be at most 65500"),
        ({"work_dir": "work"}, "work_dir=work: nothing would be put there, .* leave it out"),
        ({"sources": 5}, "sources must be formats, names of formats, or mappings, got 5"),
    ],
)
def test_an_impossible_option_is_refused_by_name(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DataProcessor(**options)


@pytest.mark.parametrize("names", ["detector", b"detector", [], 5, [["detector"]], [b"teacher"]])
def test_names_of_tasks_that_are_no_list_are_refused(raw_dir, tmp_path, names):
    with pytest.raises(ValueError, match="task_names must be a list of detector, landmarker"):
        processor(raw_dir, tmp_path).process(names)


@pytest.mark.parametrize("train_split", [True, "0.8", None])
def test_a_share_of_another_type_is_refused_by_name(raw_dir, tmp_path, train_split):
    with pytest.raises(TypeError, match=f"train_split must be a number, got {train_split!r}"):
        processor(raw_dir, tmp_path).process_all(train_split=train_split)


def test_numbers_and_flags_of_numpy_are_those_of_python(raw_dir, tmp_path):
    sizes = {
        "detector": np.int64(64),
        "landmarker": np.array([48, 32]),
        "teacher": (np.uint8(32),) * 2,
    }
    options = {
        "batch_size": np.int32(5),
        "keep_flagged": np.bool_(False),
        "progress": np.bool_(False),
    }
    of_numpy = DataProcessor(raw_dir, tmp_path / "a", image_size=sizes, **options)
    of_numpy.process_all(np.float32(0.5), include_teacher=np.bool_(True))
    plain = {"detector": 64, "landmarker": [48, 32], "teacher": 32}
    DataProcessor(raw_dir, tmp_path / "b", image_size=plain).process_all(0.5)
    assert stored_files(tmp_path / "a") == stored_files(tmp_path / "b")


def test_image_sizes_are_a_side_a_pair_or_some_of_the_tasks():
    assert image_sizes(None) == {
        "detector": (256, 256),
        "landmarker": (192, 192),
        "teacher": (128, 128),
    }
    assert image_sizes((100, 200))["teacher"] == (100, 200)
    assert image_sizes({"teacher": 64}) == {
        "detector": (256, 256),
        "landmarker": (192, 192),
        "teacher": (64, 64),
    }
