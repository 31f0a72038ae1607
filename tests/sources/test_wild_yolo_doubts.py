"""YOLO data sets that may mean two things: they are refused or noted, never guessed."""

import pytest

from tests.raw_files import boxes_of, reasons_of, splits_of
from tests.sources.yolo_files import (
    COMPLETE,
    IMAGES,
    LABELS,
    LINES,
    NAMES,
    PAIR,
    PEAR,
    ROW,
    TREE,
    YAML,
    kinds_of,
    names_of,
    prefixed,
    read,
    refusal,
)

BAD = "0 .5 .5\n"

# --- Every image and label file is explained once.


def test_an_image_whose_rows_are_rejected_is_not_called_unlisted(tmp_path):
    reading = read(tmp_path, {"data.yaml": YAML} | LABELS | {"labels/train/0.txt": BAD})
    assert reasons_of(reading) == [
        ("labels/train/0.txt", "malformed"),
        ("images/train/0.jpg", "no_usable_annotation"),
    ]
    assert reading.notes == []


def test_an_unlabelled_test_image_is_noted_once(tmp_path):
    files = {"data.yaml": f"test: images/test\n{YAML}"} | LABELS
    reading = read(tmp_path, files, [*IMAGES, "images/test/0.jpg"])
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("unlabelled_images", "images/test/0.jpg")
    ]


def test_label_folders_without_images_next_to_a_description_are_noted(tmp_path):
    files = {"data.yaml": YAML} | LABELS | prefixed("backup/", LABELS)
    reading = read(tmp_path, files)
    assert names_of(reading) == COMPLETE
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("unlisted_labels", "backup/labels")
    ]


@pytest.mark.parametrize("yaml", [{"data.yaml": f"train: images\n{NAMES}"}, {"classes.txt": LINES}])
def test_a_second_folder_of_labels_is_noted(tmp_path, yaml):
    reading = read(
        tmp_path, yaml | TREE | {"labels_old/0.txt": PEAR, "labels_old/1.txt": PEAR}, PAIR
    )
    assert names_of(reading) == dict(zip(PAIR, ["apple", "pear"], strict=True))
    assert [(note.kind, note.path) for note in reading.notes] == [("unlisted_labels", "labels_old")]


def test_templates_of_other_data_sets_add_no_categories(tmp_path):
    template = "path: ../datasets/coco\ntrain: train2017.txt\nval: val2017.txt\nnames: [person]\n"
    reading = read(tmp_path, {"data.yaml": YAML, "cfg/coco.yaml": template} | LABELS)
    assert reading.table.category_names == ("apple", "pear")
    assert reasons_of(reading) == [("cfg/coco.yaml", "missing_folder")] * 2


def test_a_split_of_empty_label_files_is_noted(tmp_path):
    labels = {path: "" if "train" in path else text for path, text in LABELS.items()}
    reading = read(tmp_path, {"data.yaml": YAML} | labels)
    assert list(names_of(reading).values()) == [None, None, "apple", "pear"]
    assert [(note.kind, note.path) for note in reading.notes] == [("empty_split", "data.yaml")]
    assert "all 2 label files of train are empty" in reading.notes[0].message


# --- Which label file belongs to an image.


@pytest.mark.parametrize("other", ["images/train/0.png", "images/train/0.JPG"])
def test_two_images_with_one_label_file_are_rejected(tmp_path, other):
    reading = read(tmp_path, {"data.yaml": YAML} | LABELS, [*IMAGES, other])
    assert sorted(reasons_of(reading)) == [
        (path, "ambiguous_label_file") for path in sorted(["images/train/0.jpg", other])
    ]
    assert set(names_of(reading)) == set(IMAGES[1:])


def test_an_image_that_a_list_chooses_keeps_the_label_file(tmp_path):
    files = {"data.yaml": f"train: train.txt\nval: images/val\n{NAMES}"} | LABELS
    files["train.txt"] = "images/train/0.jpg\nimages/train/1.jpg\n"
    reading = read(tmp_path, files, [*IMAGES, "images/train/0.png"])
    assert names_of(reading) == COMPLETE


@pytest.mark.parametrize("used", [ROW, ""])
def test_an_image_with_two_different_label_files_is_rejected(tmp_path, used):
    more = {"labels/train/0.txt": used, "images/train/0.txt": PEAR}
    reading = read(tmp_path, {"data.yaml": YAML} | LABELS | more)
    assert reasons_of(reading) == [("images/train/0.jpg", "conflicting_annotations")]
    assert set(names_of(reading)) == set(IMAGES[1:])


@pytest.mark.parametrize("copy", [ROW, "", "a caption of the image\n"])
def test_a_copy_of_a_label_file_or_a_caption_next_to_the_image_is_harmless(tmp_path, copy):
    reading = read(tmp_path, {"data.yaml": YAML, "images/train/0.txt": copy} | LABELS)
    assert names_of(reading) == COMPLETE
    assert not reading.rejections


# --- Class numbers and names.


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("[apple, pear]", (1, 2)),
        ("[apple, pear]", (2, 2)),
        ("{1: apple, 2: pear}", (0, 1)),
    ],
)
def test_names_numbered_from_another_number_are_refused(tmp_path, names, classes):
    first, second = (f"{number} .5 .5 .25 .5\n" for number in classes)
    files = {"labels/0.txt": first, "labels/1.txt": second}
    yaml = f"train: images\nnames: {names}\n"
    assert "shifted_classes" in refusal(tmp_path, {"data.yaml": yaml} | files, PAIR)


@pytest.mark.parametrize("typo", [7, 2])
def test_one_wrong_class_number_costs_only_its_row(tmp_path, typo):
    labels = LABELS | {"labels/train/0.txt": f"{ROW}{typo} .2 .2 .1 .1\n"}
    reading = read(tmp_path, {"data.yaml": YAML} | labels)
    assert names_of(reading) == COMPLETE
    assert reasons_of(reading) == [("labels/train/0.txt", "unknown_category")]


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_that_contradicts_the_names_is_noted(tmp_path, count):
    reading = read(tmp_path, {"data.yaml": f"nc: {count}\n{YAML}"} | LABELS)
    assert names_of(reading) == COMPLETE
    assert kinds_of(reading) == ["class_count"]


def test_two_used_classes_of_one_name_are_noted(tmp_path):
    yaml = YAML.replace("pear", "apple")
    reading = read(tmp_path, {"data.yaml": yaml} | LABELS)
    assert set(names_of(reading).values()) == {"apple"}
    assert kinds_of(reading) == ["same_names"]


@pytest.mark.parametrize("text", ["0 apple\n1 pear\n", "0: apple\n1: pear\n", "0,apple\n1,pear"])
def test_numbers_of_lines_are_no_part_of_names(tmp_path, text):
    reading = read(tmp_path, {"classes.txt": text} | TREE, PAIR)
    assert names_of(reading) == dict(zip(PAIR, ["apple", "pear"], strict=True))


@pytest.mark.parametrize("text", ["1 euro\n2 euro\n", "0 euro\n2 euro\n", "80s car\nvan\n"])
def test_other_numbers_are_part_of_names(tmp_path, text):
    reading = read(tmp_path, {"classes.txt": text} | TREE, PAIR)
    assert list(names_of(reading).values()) == text.splitlines()


@pytest.mark.parametrize("text", ["apple, pear\n", "['apple', 'pear']\n"])
def test_names_in_one_line_are_refused(tmp_path, text):
    reading = read(tmp_path, {"classes.txt": text} | TREE, PAIR)
    assert list(names_of(reading).values()) == ["0", "1"]
    assert reasons_of(reading) == [("classes.txt", "malformed")]


def test_a_file_of_names_in_a_far_folder_is_named(tmp_path):
    reading = read(tmp_path, {"cfg/obj.names": LINES} | TREE, PAIR)
    assert list(names_of(reading).values()) == ["0", "1"]
    assert "if cfg/obj.names names them" in reading.notes[0].message


# --- Boxes that are no centres.


@pytest.mark.parametrize("row", ["0 .6 .6 .9 .9\n", "0 .1 .1 .4 .3\n"])
def test_corners_in_fractions_are_refused(tmp_path, row):
    message = refusal(tmp_path, {"data.yaml": YAML} | dict.fromkeys(LABELS, row))
    assert "looks_like_corners" in message
    assert "4 of 4 boxes reach beyond the image" in message


def test_a_corner_outside_of_the_image_is_not_called_pixels(tmp_path):
    labels = LABELS | {"labels/train/0.txt": f"{ROW}0 -.05 .2 .3 .2 .3 .4 -.05 .4\n"}
    reading = read(tmp_path, {"data.yaml": YAML} | labels)
    assert names_of(reading) == COMPLETE
    assert reasons_of(reading) == [("labels/train/0.txt", "not_fractions")]
    assert "cut the object at the edges of the image" in reading.rejections[0].message


@pytest.mark.parametrize("row", ["0 .1 .5 .4 .2\n", "0 .98 .5 .2 .2\n"])
def test_boxes_that_reach_beyond_the_image_but_are_no_corners_are_kept(tmp_path, row):
    reading = read(tmp_path, {"data.yaml": YAML} | dict.fromkeys(LABELS, row))
    assert set(names_of(reading).values()) == {"apple"}
    assert not reading.rejections


def test_large_boxes_that_could_be_corners_are_kept(tmp_path):
    reading = read(tmp_path, {"data.yaml": YAML} | dict.fromkeys(LABELS, "0 .5 .5 1 .9\n"))
    assert set(names_of(reading).values()) == {"apple"}


# --- Paths of descriptions.


@pytest.mark.parametrize("path", ["images", "list.txt"])
def test_a_folder_that_is_train_and_val_has_no_split(tmp_path, path):
    files = {"data.yaml": f"train: {path}\nval: {path}\n{NAMES}"} | TREE
    if path == "list.txt":
        files[path] = "".join(f"{image}\n" for image in PAIR)
    reading = read(tmp_path, files, PAIR)
    assert names_of(reading) == dict(zip(PAIR, ["apple", "pear"], strict=True))
    assert set(splits_of(reading).values()) == {None}
    assert reading.notes == []


@pytest.mark.parametrize("line", ["{}", "images/{}", "labels/{}.txt", "/home/me/labels/{}.txt"])
@pytest.mark.parametrize("yaml", [{"data.yaml": f"train: train.txt\nval: val.txt\n{NAMES}"}, {}])
def test_lists_of_names_without_endings_and_of_label_files(tmp_path, yaml, line):
    files = yaml | {"train.txt": line.format(0), "val.txt": line.format(1), "classes.txt": LINES}
    reading = read(tmp_path, files | TREE, PAIR)
    assert splits_of(reading) == dict(zip(PAIR, ["train", "val"], strict=True))
    assert not reading.rejections
    assert reading.notes == []


def test_a_name_without_ending_that_two_images_have_is_missing(tmp_path):
    files = {"data.yaml": f"train: train.txt\nval: val.txt\n{NAMES}"} | LABELS
    files |= {"train.txt": "0\nimages/train/1.jpg\n", "val.txt": "images/val/0.jpg\n"}
    reading = read(tmp_path, files)
    assert splits_of(reading) == {"0": "train", IMAGES[1]: "train", IMAGES[2]: "val"}


def test_a_second_name_of_the_validation_is_left_out(tmp_path):
    files = {"data.yaml": f"test: images/val\n{YAML}"} | LABELS
    reading = read(tmp_path, files)
    assert splits_of(reading) == {path: path.split("/")[1] for path in IMAGES}
    assert [(note.kind, note.path) for note in reading.notes] == [("ambiguous_split", "data.yaml")]


def test_a_test_folder_that_is_named_twice_stays_a_test_folder(tmp_path):
    reading = read(tmp_path, {"data.yaml": f"test: [images, images]\n{NAMES}"} | TREE, PAIR)
    assert set(splits_of(reading).values()) == {"test"}


def test_an_export_in_a_folder_of_another_export_keeps_its_own_images(tmp_path):
    yaml = f"train: ../train/images\nval: ../valid/images\n{NAMES}"
    files = {"data.yaml": yaml, "train/labels/0.txt": ROW, "valid/labels/1.txt": PEAR}
    images = ["train/images/0.jpg", "valid/images/1.jpg"]
    files |= prefixed("v2/", files)
    reading = read(tmp_path, files, [*images, *(f"v2/{image}" for image in images)])
    assert {path for path, boxes in boxes_of(reading).items() if boxes} == {
        *images,
        *(f"v2/{image}" for image in images),
    }
    assert reading.notes == []


@pytest.mark.parametrize(
    ("yaml", "remedy"),
    [
        ('train: "C:\\Users\\joe\\images"\nnames: [a]\n', "in line 1 write /"),
        ("train: images\nnames:\n\t- apple\n", "line 3 has a tab"),
    ],
)
def test_the_usual_mistakes_in_a_data_yaml_are_explained(tmp_path, yaml, remedy):
    assert remedy in refusal(tmp_path, {"data.yaml": yaml, "classes.txt": LINES} | TREE, PAIR)
