"""`export` and ``npz-vision export``: COCO and YOLO files of stored annotations."""

import json
import shutil

import numpy as np
import pytest
from faster_coco_eval import COCO
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing import LazyNPZDataset, NPZFormatError, export
from processing.__main__ import main
from processing.core.coordinates import rows_to_source, source_to_stored
from processing.data_processor import DataProcessor
from processing.demo import render_demo
from processing.exporting.records import StoredAnnotations
from processing.imaging.placement import crop_rect, letterbox_rect, place, rendered_rect
from tests.exporting.round_trip import TOLERANCE, annotations_of, check_same, exported_again

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
TASKS = tuple(SMALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A rendered raw directory with negatives, and its files."""
    folder = tmp_path_factory.mktemp("demo")
    render_demo(folder / "raw", images=12)
    process(folder / "raw", folder / "out")
    return folder


def process(raw, output, train_split=0.8, **options):
    settings = {"image_size": SMALL, "num_workers": 2, "progress": False}
    return DataProcessor(raw, output, **(settings | options)).process_all(train_split)


def files_of(folder, task="detector"):
    return sorted((folder / "out").glob(f"*_{task}.npz"))


def write_set(raw, annotations, *, names=("a.png",), size=(60, 80), categories=("face",), **entry):
    """Writes a COCO data set with images of one colour, and processes it to ``out``."""
    raw.mkdir(parents=True, exist_ok=True)
    images = []
    for number, name in enumerate(names, 1):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1], (number, 90, 120)).save(raw / name)
        images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    listed = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0} | one
        for i, one in enumerate(annotations)
    ]
    kinds = [{"id": i, "name": name} | entry for i, name in enumerate(categories, 1)]
    content = {"images": images, "annotations": listed, "categories": kinds}
    (raw / "train.json").write_text(json.dumps(content))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("format", ["coco", "yolo"])
def test_exported_annotations_are_read_as_they_were_stored(demo, task, format, tmp_path):
    first, second = exported_again(demo / "raw", demo / "out", task, format, tmp_path)
    check_same(first, second)
    if task == "detector":
        assert any(not boxes for _, boxes, _ in first.values())


def test_the_comparison_of_a_round_trip_sees_a_shift_of_a_fiftieth_of_a_pixel(demo):
    first = annotations_of(demo / "out", "detector")
    second = annotations_of(demo / "out", "detector")
    boxes = next(found[1] for found in second.values() if found[1])
    boxes[0] = boxes[0] + 2 * TOLERANCE
    with pytest.raises(AssertionError):
        check_same(first, second)


def test_an_export_is_the_same_bytes_each_time(demo, tmp_path):
    for format in ("coco", "yolo"):
        made = []
        for name in ("one", "two"):
            root = tmp_path / format / name
            export(files_of(demo), root, format=format)
            paths = (path for path in root.rglob("*") if path.is_file())
            made.append({path.relative_to(root): path.read_bytes() for path in paths})
        assert made[0] == made[1]
        assert made[0]


def test_coco_files_are_read_by_the_usual_tool(demo, tmp_path):
    report = export(files_of(demo, "landmarker"), tmp_path / "out")
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == ["keypoints_train.json", "keypoints_val.json"]
    for split in report.splits:
        coco = COCO(str(split.path))
        assert len(coco.getImgIds()) == split.images
        assert len(coco.getAnnIds()) == split.objects
        (category,) = coco.loadCats(coco.getCatIds())
        points = coco.loadAnns(coco.getAnnIds())[0]["keypoints"]
        assert len(points) == 3 * len(category["keypoints"]) > 0


def test_sets_are_exported_like_single_files(demo, tmp_path):
    process(demo / "raw", tmp_path / "parts", samples_per_shard=5)
    export(files_of(demo), tmp_path / "whole")
    export(sorted((tmp_path / "parts").glob("*_detector.json")), tmp_path / "set")
    for name in ("instances_train.json", "instances_val.json"):
        one, other = (
            (tmp_path / folder / name).read_text().splitlines() for folder in ("whole", "set")
        )
        assert one[1:] == other[1:]  # the first line names the files


def test_the_command_writes_a_tree_with_links_and_says_what_is_not_in_it(tmp_path, capsys):
    boxes = [{"bbox": [5, 5, 20, 20]}, {"bbox": [9, 9, 0, 5]}, {"bbox": [70, 50, 30, 30]}]
    raw, out, tree = tmp_path / "raw", tmp_path / "out", tmp_path / "tree"
    write_set(raw, boxes, names=("images/a.png", "images/b.png"))
    process(raw, out, 1.0)
    arguments = [str(out / "train_detector.npz"), "--format", "yolo", "-o", str(tree)]
    assert main(["export", *arguments, "--raw-data-dir", str(raw)]) == 0
    printed = capsys.readouterr().out
    assert "photographs 2, without objects 1; objects 2" in printed
    assert "not exported: 1 zero_size" in printed
    assert "1 box was cut" in printed
    assert (tree / "images/train/b.png").samefile(raw / "images/b.png")
    assert (tree / "labels/train/b.txt").read_bytes() == b""
    first, second = (tree / "labels/train/a.txt").read_text().splitlines()
    assert first == "0 0.1875 0.25 0.25 0.333333333"
    assert second.startswith("0 0.9375 ")
    assert (tree / "data.yaml").read_text().splitlines()[1:] == [
        "train: images/train",
        "names:",
        '  0: "face"',
    ]
    # Nothing is ever replaced.
    assert main(["export", *arguments]) == 1
    assert "is not an empty directory" in capsys.readouterr().err


def test_a_box_marked_crowd_is_said_to_lose_its_mark(tmp_path):
    write_set(tmp_path / "raw", [{"bbox": [5, 5, 20, 20], "iscrowd": 1}])
    process(tmp_path / "raw", tmp_path / "out", train_split=1.0, keep_flagged=True)
    report = export(tmp_path / "out" / "train_detector.npz", tmp_path / "coco")
    assert "without their marks" in str(report)


def test_annotations_that_a_format_cannot_hold_are_refused_and_nothing_is_written(tmp_path):
    square = {"bbox": [5, 5, 20, 20]}
    beyond = {"keypoints": [10, 10, 2, -4, 12, 1], "num_keypoints": 2}
    cases = {
        "a.txt too": ([square], {"names": ("a.png", "a.jpg")}),
        "lies outside the photograph": ([square | beyond], {"keypoints": ["l", "r"]}),
        "cannot hold the name": ([square], {"categories": ("a\x7fb",)}),
    }
    for number, (message, (annotations, options)) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        write_set(folder / "raw", annotations, **options)
        process(folder / "raw", folder / "out", 1.0)
        task = "landmarker" if "keypoints" in options else "detector"
        file = folder / "out" / f"train_{task}.npz"
        with pytest.raises(ValueError, match=message):
            export(file, folder / "tree", format="yolo")
        assert not list(folder.glob("tree*"))
        report = export(file, folder / "coco", format="coco")
        assert report.splits[0].objects == 1


def test_points_outside_a_photograph_and_hidden_points_survive_coco(tmp_path):
    points = [10, 10, 2, -4, 12, 1, 30, 30, 0]
    one = {"bbox": [5, 5, 30, 30], "keypoints": points, "num_keypoints": 2}
    single = {"bbox": [50, 5, 20, 20], "keypoints": [60, 10, 2, 0, 0, 0, 0, 0, 0]}
    write_set(tmp_path / "raw", [one, single], keypoints=["l", "m", "r"])
    process(tmp_path / "raw", tmp_path / "out", 1.0)
    check_same(
        *exported_again(tmp_path / "raw", tmp_path / "out", "landmarker", "coco", tmp_path / "x")
    )
    listed = json.loads((tmp_path / "x/again/exported/keypoints_train.json").read_text())
    assert [one["num_keypoints"] for one in listed["annotations"]] == [2, 1]


def test_upright_coordinates_are_those_of_a_turned_photograph(tmp_path):
    write_set(tmp_path / "raw", [{"bbox": [5, 6, 20, 30]}], size=(80, 60), names=("a.jpg",))
    photograph = Image.new("RGB", (80, 60), (9, 9, 9))
    exif = photograph.getexif()
    exif[274] = 6
    photograph.save(tmp_path / "raw" / "a.jpg", exif=exif)
    process(tmp_path / "raw", tmp_path / "out", 1.0)
    export(tmp_path / "out" / "train_detector.npz", tmp_path / "coco")
    listed = json.loads((tmp_path / "coco" / "instances_train.json").read_text())
    assert (listed["images"][0]["width"], listed["images"][0]["height"]) == (60, 80)
    assert listed["annotations"][0]["bbox"] == [5, 6, 20, 30]


def test_files_that_do_not_go_together_are_refused(demo, tmp_path):
    train, val = sorted(files_of(demo))
    shutil.copy(train, tmp_path / "copy.npz")
    for files, options, message in [
        ([], {}, "files is empty"),
        ([train, tmp_path / "copy.npz"], {}, "both of the split train"),
        ([train, files_of(demo, "teacher")[1]], {}, "of a teacher"),
        ([train], {"format": "voc"}, "format must be one of"),
        ([train], {"raw_data_dir": tmp_path}, "goes with format yolo"),
        ([val], {"format": "yolo", "raw_data_dir": tmp_path / "absent"}, "no such directory"),
        ([val], {"format": "yolo", "raw_data_dir": demo / "out"}, "photograph is not there"),
        ([tmp_path / "absent.npz"], {}, "absent.npz"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            export(files, tmp_path / "new", **options)
        assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize("place", ["yolo", "images/yolo", "../link/yolo", "."])
def test_photographs_are_never_linked_into_their_own_directory(demo, tmp_path, place):
    raw = tmp_path / "raw"
    raw.mkdir()
    (tmp_path / "link").symlink_to(raw)
    with pytest.raises(ValueError, match=r"is in raw_data_dir .*: choose a place outside of it"):
        export(files_of(demo), raw / place, format="yolo", raw_data_dir=raw)
    assert not list(raw.iterdir())


def test_a_file_of_another_program_is_refused(tmp_path):
    np.savez(
        tmp_path / "train_teacher.npz",
        images=np.zeros((1, 4, 4, 3), np.uint8),
        bboxes=np.ones((1, 4), np.float32),
        image_paths=np.array(["a.jpg"]),
    )
    with pytest.raises(NPZFormatError, match="another program wrote this file"):
        export(tmp_path / "train_teacher.npz", tmp_path / "coco")


def test_an_export_that_fails_or_is_killed_leaves_no_directory_of_its_name(
    demo, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("processing.exporting.export.write_coco", stop)
        with pytest.raises(KeyboardInterrupt):
            export(files_of(demo), tmp_path / "coco")
    assert not list(tmp_path.iterdir())
    (tmp_path / "coco.partial").mkdir()  # left by a kill
    with pytest.raises(FileExistsError, match="killed process"):
        export(files_of(demo), tmp_path / "coco")
    (tmp_path / "coco.partial").rmdir()
    (tmp_path / "coco").mkdir()
    export(files_of(demo), tmp_path / "coco")
    assert len(list((tmp_path / "coco").iterdir())) == 2


def test_an_export_works_where_the_system_has_no_sync_and_allows_no_links(
    demo, tmp_path, monkeypatch
):
    export(files_of(demo), tmp_path / "usual", format="yolo", raw_data_dir=demo / "raw")

    def refuse(*_):
        raise OSError("a privilege is not held by the client")

    monkeypatch.delattr("os.sync", raising=False)
    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    export(files_of(demo), tmp_path / "other", format="yolo", raw_data_dir=demo / "raw")
    trees = []
    for root in (tmp_path / "usual", tmp_path / "other"):
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        trees.append([(path.relative_to(root), path.read_bytes()) for path in paths])
    assert trees[0] == trees[1]
    assert not any(path.is_symlink() for path in (tmp_path / "other").rglob("*"))


def test_a_split_without_photographs_is_not_written(tmp_path):
    write_set(tmp_path / "raw", [{"bbox": [5, 5, 20, 20]}])
    process(tmp_path / "raw", tmp_path / "out", 1.0)
    train, val = files_of(tmp_path)
    report = export([val, train], tmp_path / "coco")
    assert [split.images for split in report.splits] == [1, 0]
    assert [path.name for path in (tmp_path / "coco").iterdir()] == ["instances_train.json"]
    assert "val_detector.npz: has no photographs" in str(report)
    with pytest.raises(ValueError, match="nothing to export"):
        export(val, tmp_path / "empty")


def test_a_long_file_is_read_in_parts(demo, monkeypatch):
    (train, _) = files_of(demo, "teacher")
    whole = list(StoredAnnotations(train).photographs())
    monkeypatch.setattr("processing.exporting.records._ROWS", 2)
    assert list(StoredAnnotations(train).photographs()) == whole


sides = st.integers(1, 30_000)
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(sides, sides, st.integers(64, 128), st.integers(64, 128), fractions, fractions)
def test_a_stored_box_of_any_photograph_is_exported_within_a_hundredth_of_a_pixel(
    height, width, stored_height, stored_width, x, y
):
    size = stored_height, stored_width
    box = np.float32([x[0] * width, y[0] * height, x[1] * width, y[1] * height])
    for wanted in (letterbox_rect((height, width), size), crop_rect(box, 0.25, size)):
        spans = place(wanted, (height, width), size)
        if spans is not None:
            rect = rendered_rect(spans, size)
            stored = source_to_stored(box, rect, size)  # as a task stores it, in float32
            found = rows_to_source(stored.reshape(-1, 2), np.float32([rect, rect]), size)
            assert np.abs(found.reshape(-1) - box).max() < TOLERANCE


def test_rows_are_taken_to_the_source_as_datasets_do(demo):
    for path in files_of(demo):
        stored = {one.path: one.boxes for one in StoredAnnotations(path).photographs()}
        with LazyNPZDataset(path) as dataset:
            for i, boxes in enumerate(dataset.bboxes):
                expected = dataset.to_source(i, boxes.astype(np.float64)).reshape(-1, 4)
                found = np.reshape(stored[dataset.image_paths[i]], (-1, 4))
                np.testing.assert_allclose(found, expected, atol=1e-3)
