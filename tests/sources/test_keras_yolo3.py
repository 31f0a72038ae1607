import pytest

from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw

CLASSES = {"_classes.txt": "button\nfield\n"}
FIELD = ("field", [20, 30, 100, 90])
BUTTON = ("button", [110, 40, 150, 80])


def read(tmp_path, text, others=CLASSES, images=("a.jpg", "b.jpg"), path="_annotations.txt"):
    return read_sources(write_raw(tmp_path, {path: text} | others, images))


def test_roboflow_export_is_read_with_its_splits(tmp_path):
    files, images = {}, []
    for split in ("train", "valid", "test"):
        files |= {
            f"{split}/_annotations.txt": "a.jpg 20,30,100,90,1 110,40,150,80,0\n",
            f"{split}/_classes.txt": "button\nfield\n",
        }
        images.append(f"{split}/a.jpg")
    reading = read_sources(write_raw(tmp_path, files, images))
    assert boxes_of(reading) == {path: [FIELD, BUTTON] for path in images}
    assert list(splits_of(reading).values()) == ["test", "train", "val"]
    assert reading.rejections == []
    assert reading.table.entries.tolist() == [1] * 6
    assert not reading.table.normalized.any()


@pytest.mark.parametrize(
    "name", ["a b 1.jpg", "x/a.jpg", "my.png photos/a.JPG", "a,b.jpg", "1.2.jpeg"]
)
def test_paths_may_hold_spaces_commas_and_other_endings(tmp_path, name):
    reading = read(tmp_path, f"{name} 20,30,100,90,1\n", images=[name])
    assert boxes_of(reading) == {name: [FIELD]}


def test_a_line_without_boxes_is_an_image_without_objects(tmp_path):
    reading = read(tmp_path, "b.jpg\n\r\na.jpg\t20,30,100,90,1 \r\n")
    assert boxes_of(reading) == {"a.jpg": [FIELD], "b.jpg": []}


@pytest.mark.parametrize(
    "others",
    [
        {"_classes.txt": "button\nfield"},
        {"classes.txt": "button\r\nfield\r\n\r\n"},
        {"voc_classes.txt": "button\nfield\n"},
        {"model_data/my_classes.txt": "button\nfield\n"},
        {"_classes.txt": "button\nfield\n", "coco_classes.txt": "cat\n"},
    ],
)
def test_classes_are_named_by_a_file_near(tmp_path, others):
    reading = read(tmp_path, "a.jpg 20,30,100,90,1\n", others, path="2007_train.txt")
    assert boxes_of(reading) == {"a.jpg": [FIELD]}
    assert reading.table.category_names == ("button", "field")
    assert reading.table.annotation_sets[0].has_names


@pytest.mark.parametrize("others", [{}, {"a_classes.txt": "x\ny\n", "b_classes.txt": "y\nx\n"}])
def test_without_one_file_of_classes_their_numbers_are_labels(tmp_path, others):
    reading = read(tmp_path, "a.jpg 1,2,3,4,2 5,6,7,8,02\n", others)
    assert boxes_of(reading) == {"a.jpg": [("2", [1, 2, 3, 4]), ("2", [5, 6, 7, 8])]}
    assert reading.table.category_names == ("0", "1", "2")
    assert reading.note_counts["unnamed_classes"] == 1
    assert not reading.table.annotation_sets[0].has_names


def test_classes_may_be_written_as_names(tmp_path):
    reading = read(tmp_path, "a.jpg 1,2,3,4,dog 5,6,7,8,cat\n", {})
    assert boxes_of(reading) == {"a.jpg": [("dog", [1, 2, 3, 4]), ("cat", [5, 6, 7, 8])]}
    assert reading.table.category_names == ("cat", "dog")
    assert reading.table.annotation_sets[0].has_names


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("1,2,3,4", "malformed"),
        ("1,2,x,4,0", "malformed"),
        ("1,2,3,4,", "malformed"),
        ("1,2,3,4,-1", "malformed"),
        ("1,2,3,4,1.0", "malformed"),
        ("1,2,3,4,123456", "malformed"),
        ("1,2,3,4,2", "unknown_category"),
        ("1,2,3,4,dog", "unknown_category"),
        ("1,2,3,4,0,0.9", "prediction"),
        ("1,2,3,4,0,5,6", "malformed"),
    ],
)
def test_only_a_bad_box_is_rejected(tmp_path, bad, reason):
    reading = read(tmp_path, f"a.jpg {bad} 20,30,100,90,1\nb.jpg {bad}\n")
    assert boxes_of(reading) == {"a.jpg": [FIELD]}
    assert reasons_of(reading) == [
        ("_annotations.txt", reason),
        ("_annotations.txt", reason),
        ("b.jpg", "no_usable_annotation"),
    ]
    assert "_annotations.txt: line 1: box 1: " in reading.rejections[0].message


@pytest.mark.parametrize("line", ["nonsense", "a.jpg nonsense", "a.bmpx 1,2,3,4,0", b"\xff.jpg"])
def test_only_a_bad_line_is_rejected(tmp_path, line):
    written = line if isinstance(line, bytes) else line.encode()
    reading = read(tmp_path, written + b"\nb.jpg 20,30,100,90,1\n")
    assert boxes_of(reading) == {"b.jpg": [FIELD]}
    assert reasons_of(reading) == [("_annotations.txt", "malformed")]
    assert "line 1" in reading.rejections[0].message


@pytest.mark.parametrize("names", ["a\n\nb\n", "a\na\n", b"caf\xe9\n"])
def test_a_bad_file_of_classes_is_rejected_and_names_nothing(tmp_path, names):
    reading = read(tmp_path, "a.jpg 1,2,3,4,0\n", {"_classes.txt": names})
    assert boxes_of(reading) == {"a.jpg": [("0", [1, 2, 3, 4])]}
    assert reasons_of(reading) == [("_classes.txt", "malformed")]


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "see a.jpg for 1,2,3,4,0\n"},
        {"list.txt": "a.jpg\nb.jpg\n"},
        {"numbers.txt": "0 .5 .5 .5 .5\n"},
        {"a.txt": "a.jpg 1,2,3,4,0\n"},
    ],
)
def test_other_text_files_are_not_found(tmp_path, files):
    with pytest.raises(SourceNotFoundError, match="keras-yolo3"):
        read_sources(write_raw(tmp_path, files, ["a.jpg"]), ["keras_yolo3"])


def test_label_files_of_yolo_are_left_to_yolo(tmp_path):
    files = {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": "0 .5 .5 .5 .5\n"}
    reading = read_sources(write_raw(tmp_path, files, ["images/a.jpg"]))
    assert [found.format for found in reading.table.annotation_sets] == ["yolo"]


def test_a_path_that_leaves_the_raw_directory_is_rejected(tmp_path):
    reading = read(tmp_path, "../../gone.jpg 1,2,3,4,0\nb.jpg 20,30,100,90,1\n")
    assert boxes_of(reading) == {"b.jpg": [FIELD]}
    assert reasons_of(reading) == [("_annotations.txt", "outside_raw_dir")]


def test_a_list_of_bad_lines_only_names_them(tmp_path):
    with pytest.raises(SourceError, match="line 1: box 1: class '7', expected one of the 2"):
        read(tmp_path, "a.jpg 1,2,3,4,7\n")
