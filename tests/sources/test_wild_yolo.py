"""YOLO data sets whose labels are elsewhere, misspelt, or no fractions."""

import pytest

from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw
from tests.sources.yolo_files import (
    COMPLETE,
    IMAGES,
    LABELS,
    PEAR,
    ROW,
    YAML,
    kinds_of,
    names_of,
    read,
    refusal,
)

# --- Images without a label file.


def test_an_image_without_label_file_among_others_is_a_listed_negative(tmp_path):
    files = {path: text for path, text in LABELS.items() if path != "labels/train/1.txt"}
    reading = read(tmp_path, {"data.yaml": YAML} | files)
    assert names_of(reading)["images/train/1.jpg"] is None
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("no_label_file", "images/train/1.jpg")
    ]
    assert "looked for labels/train/1.txt" in reading.notes[0].message


TRAIN_LOST = [
    ("data.yaml", "no_label_file"),
    ("images/train/0.jpg", "no_label_file"),
    ("images/train/1.jpg", "no_label_file"),
]


@pytest.mark.parametrize("kept", [[], ["labels/train/classes.txt"]])
def test_a_split_without_any_label_file_is_no_split_of_negatives(tmp_path, kept):
    files = {path: text for path, text in LABELS.items() if "train" not in path}
    reading = read(tmp_path, {"data.yaml": YAML} | files | dict.fromkeys(kept, "apple\npear\n"))
    assert names_of(reading) == {"images/val/0.jpg": "apple", "images/val/1.jpg": "pear"}
    assert reasons_of(reading) == TRAIN_LOST
    message = reading.rejections[0].message
    assert "none of the 2 images of train has a label file" in message
    assert "looked for labels/train/0.txt and images/train/0.txt" in message


@pytest.mark.parametrize(
    "spelling",
    [
        "labels/train_labels/{}.txt",
        "labels/Train2/{}.txt",
        "labels/train/{}.jpg.txt",
        "labels/train/0{}.txt",
        "labels/train/{}.label",
        "labels/{}.text",
        "annotations/train/{}.txt",
        "train/{}.txt",
    ],
)
def test_misplaced_and_misspelt_label_files_are_named(tmp_path, spelling):
    wrong = {spelling.format(0): ROW, spelling.format(1): PEAR}
    files = {path: text for path, text in LABELS.items() if "train" not in path}
    reading = read(tmp_path, {"data.yaml": YAML} | files | wrong)
    assert names_of(reading) == {"images/val/0.jpg": "apple", "images/val/1.jpg": "pear"}
    assert reasons_of(reading)[:3] == TRAIN_LOST
    for path in wrong:
        assert path in reading.rejections[0].message


def test_a_negative_whose_label_file_is_misspelt_is_rejected(tmp_path):
    files = {path: text for path, text in LABELS.items() if path != "labels/train/1.txt"}
    reading = read(tmp_path, {"data.yaml": YAML, "labels/train/1.JPG.txt": PEAR} | files)
    assert "images/train/1.jpg" not in names_of(reading)
    assert ("images/train/1.jpg", "no_label_file") in reasons_of(reading)
    assert ("labels/train/1.JPG.txt", "missing_image") in reasons_of(reading)


def test_a_label_file_of_another_split_says_nothing_about_a_negative(tmp_path):
    """labels/val/1.txt misses its own image, so it is not the label file of train's image."""
    files = {path: text for path, text in LABELS.items() if path != "labels/train/1.txt"}
    reading = read(tmp_path, {"data.yaml": YAML} | files, IMAGES[:3])
    assert names_of(reading)["images/train/1.jpg"] is None
    assert reasons_of(reading) == [("labels/val/1.txt", "missing_image")]


def test_labels_behind_a_link_are_read(tmp_path):
    write_raw(tmp_path / "pool", {"0.txt": ROW, "1.txt": PEAR})
    files = {path: text for path, text in LABELS.items() if "train" not in path}
    raw = write_raw(tmp_path / "raw", {"data.yaml": YAML} | files, IMAGES)
    (raw / "labels/train").symlink_to(tmp_path / "pool")
    assert names_of(read_sources(raw)) == COMPLETE
    reading = read_sources(raw, follow_links=False)
    assert reasons_of(reading) == TRAIN_LOST
    assert "labels/train is a link to the folder" in reading.rejections[0].message


def test_a_link_that_was_copied_as_text_is_named(tmp_path):
    files = {path: text for path, text in LABELS.items() if "train" not in path}
    reading = read(tmp_path, {"data.yaml": YAML, "labels/train": "../../pool"} | files)
    assert reasons_of(reading) == TRAIN_LOST
    assert "was a link copied as text?" in reading.rejections[0].message
    files = {"data.yaml": YAML, "images/train": "../pool"} | LABELS
    reading = read(tmp_path / "images", files, IMAGES[2:])
    assert ("data.yaml", "missing_folder") in reasons_of(reading)
    assert "images/train is a file that holds only '../pool'" in reading.rejections[0].message


@pytest.mark.parametrize("split", ["test", "images/test"])
def test_an_unlabelled_test_split_is_left_out_with_a_note(tmp_path, split):
    files = {"data.yaml": f"{YAML}test: {split}\n"} | LABELS
    images = [*IMAGES, f"{split}/x.jpg"]
    reading = read(tmp_path, files, images)
    assert names_of(reading) == COMPLETE
    assert reading.rejections == []
    assert "unlabelled_images" in kinds_of(reading)
    reading = read(tmp_path, {}, [], [{"format": "yolo", "unlabelled": "negatives"}])
    assert names_of(reading) == {**COMPLETE, f"{split}/x.jpg": None}
    assert splits_of(reading)[f"{split}/x.jpg"] == "test"


def test_unlabelled_negatives_may_be_asked_for_in_any_split(tmp_path):
    files = {path: text for path, text in LABELS.items() if "train" not in path}
    entry = {"format": "yolo", "unlabelled": "negatives"}
    reading = read(tmp_path, {"data.yaml": YAML} | files, sources=[entry])
    assert names_of(reading)["images/train/0.jpg"] is None
    assert reading.rejections == []
    with pytest.raises(SourceError, match="unlabelled is 'yes', expected negatives"):
        read(tmp_path, {}, sources=[{"format": "yolo", "unlabelled": "yes"}])


def test_a_labelled_test_split_is_read(tmp_path):
    files = {"data.yaml": f"{YAML}test: images/test\n", "labels/test/x.txt": ROW} | LABELS
    images = [*IMAGES, "images/test/x.jpg", "images/test/y.jpg"]
    reading = read(tmp_path, files, images)
    assert names_of(reading) == {
        **COMPLETE,
        "images/test/x.jpg": "apple",
        "images/test/y.jpg": None,
    }
    assert kinds_of(reading) == ["no_label_file"]


def test_a_split_folder_without_labels_and_without_yaml_is_no_split_of_negatives(tmp_path):
    images = ["train/images/0.jpg", "valid/images/0.jpg", "test/images/0.jpg"]
    files = {"train/labels/0.txt": ROW, "classes.txt": "apple\n"}
    reading = read(tmp_path, files, images)
    assert names_of(reading) == {"train/images/0.jpg": "apple"}
    assert ("valid/images/0.jpg", "no_label_file") in reasons_of(reading)
    assert "unlabelled_images" in kinds_of(reading)


def test_labels_of_no_image_without_yaml_are_rejected_and_not_passed_over(tmp_path):
    files = {"labels/0.txt": ROW, "labels/1.txt": PEAR}
    message = refusal(tmp_path, files, ["pictures/0.jpg", "pictures/1.jpg"])
    assert "labels/0.txt: no image at images/0.*; the labels of pictures/0.jpg belong at" in message


def test_a_folder_of_labels_with_another_name_is_reported(tmp_path):
    files = {"annotations/0.txt": ROW, "annotations/1.txt": PEAR}
    message = refusal(tmp_path, files, ["images/0.jpg", "images/1.jpg"])
    assert "annotations/0.txt: no image at annotations/0.*; the labels of images/0.jpg" in message
    assert "labels/0.txt" in message


# --- Fractions and pixels.


def test_a_file_of_pixels_gives_no_negative(tmp_path):
    files = {"data.yaml": YAML} | LABELS | {"labels/val/0.txt": "0 100 50 40 40\n1 9 9 3 3\n"}
    reading = read(tmp_path, files)
    assert "images/val/0.jpg" not in names_of(reading)
    lost = ("images/val/0.jpg", "no_usable_annotation")
    assert reasons_of(reading) == [*[("labels/val/0.txt", "not_fractions")] * 2, lost]
    assert (
        "coordinates are not fractions: 100 50 40 40; divide by the image's width and height"
        in (reading.rejections[0].message)
    )


def test_a_data_set_of_pixels_is_refused_unless_the_user_says_so(tmp_path):
    pixels = dict.fromkeys(LABELS, "0 100 50 40 40\n")
    assert "not fractions" in refusal(tmp_path, {"data.yaml": YAML} | pixels)
    reading = read(tmp_path, {}, sources=[{"format": "yolo", "units": "pixels"}])
    assert boxes_of(reading)[IMAGES[0]] == [("apple", [80, 30, 120, 70])]
    assert not reading.table.normalized.any()


@pytest.mark.parametrize("value", ["1.0009", "-0.0009", "1"])
def test_a_rounding_error_is_no_pixel(tmp_path, value):
    files = {"data.yaml": YAML} | LABELS | {"labels/val/0.txt": f"0 {value} .5 .1 .1\n"}
    reading = read(tmp_path, files)
    assert len(boxes_of(reading)["images/val/0.jpg"]) == 1
    assert reading.rejections == []


@pytest.mark.parametrize(
    "row", ["0 10 20 30 40 50 60", "0 .1 .2 .3 .4 1.5 .6", "0 .1 .2 -.3 .4 .5 .6"]
)
def test_a_polygon_outside_of_the_image_is_rejected(tmp_path, row):
    files = {"data.yaml": YAML} | LABELS | {"labels/val/0.txt": f"{PEAR}{row}\n"}
    reading = read(tmp_path, files)
    assert reasons_of(reading) == [("labels/val/0.txt", "not_fractions")]
