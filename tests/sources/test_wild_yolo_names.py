"""Names of YOLO classes, and the files of Darknet, CVAT, Yolo_mark and labelImg."""

import time

import pytest

from tests.raw_files import reasons_of, splits_of
from tests.sources.yolo_files import (
    COMPLETE,
    LABELS,
    LINES,
    NAMES,
    PAIR,
    PEAR,
    ROW,
    TREE,
    kinds_of,
    names_of,
    prefixed,
    read,
    refusal,
)

# --- Names of classes.


@pytest.mark.parametrize(
    "files",
    [
        {"data.yaml": NAMES},
        {"dataset.yml": "nc: 2\nnames:\n  0: apple\n  1: pear\n"},
        {"data.yaml": f"train:\nval:\n{NAMES}"},
        {"data.yaml": f"test: images\n{NAMES}"},
        {
            "data.yaml": f"path: .\nTrain: Train.txt\n{NAMES}",
            "Train.txt": "images/0.jpg\nimages/1.jpg\n",
        },
        {"data.yaml": f"night: night.txt\n{NAMES}", "night.txt": "images/0.jpg\nimages/1.jpg\n"},
        {"data.yaml": "train: images\nnames: classes.list\n", "classes.list": LINES},
        {"data.yaml": "train: images\nnames: /home/me/obj/obj.names\n", "obj.names": LINES},
        {"obj.names": LINES},
        {"my-fruit.names": LINES},
        {"classes.txt": LINES},
        {"images/classes.txt": LINES},
        {"labels/classes.txt": "apple\r\npear\r\n\r\n"},
        {"labels/Classes.txt": LINES},
        {"_darknet.labels": LINES},
        {"labelmap.txt": LINES},
        {"labelmap.txt": "# label:color_rgb:parts:actions\napple:1,2,3::\npear:4,5,6::\n"},
        {"labelmap.txt": "apple:1,2,3::\npear:4,5,6::\nbackground:0,0,0::\n"},
        {"labels/classes.txt": LINES, "classes.txt": LINES, "data.yaml": NAMES},
        {"labels/classes.txt": LINES, "classes.txt": "Apple\nPear\nplum\n"},
        {"labels/classes.txt": "apple\n", "classes.txt": LINES},
    ],
)
def test_names_are_found_wherever_tools_write_them(tmp_path, files):
    reading = read(tmp_path, TREE | files, PAIR)
    assert names_of(reading) == {"images/0.jpg": "apple", "images/1.jpg": "pear"}
    assert reading.rejections == []
    assert reading.table.annotation_sets[0].has_names


def test_names_in_any_of_the_label_folders_count(tmp_path):
    reading = read(tmp_path, LABELS | {"labels/val/classes.txt": LINES})
    assert names_of(reading) == COMPLETE


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": LINES, "labels/classes.txt": "pear\napple\n"},
        {"classes.txt": LINES, "obj.names": "dog\ncat\n"},
        {"data.yaml": NAMES, "classes.txt": "pear\napple\n"},
        {"data.yaml": f"train: images\n{NAMES}", "labels/classes.txt": "dog\ncat\n"},
    ],
)
def test_files_that_contradict_each_other_are_refused_with_both_names(tmp_path, files):
    message = refusal(tmp_path, TREE | files, PAIR)
    assert "class 0 is" in message
    assert all(f"in {path}" in message for path in files)


def test_only_the_names_of_used_classes_may_not_differ(tmp_path):
    files = {"classes.txt": "apple\npear\nplum\n", "labels/classes.txt": "apple\npear\nfig\n"}
    assert names_of(read(tmp_path, TREE | files, PAIR)) == {PAIR[0]: "apple", PAIR[1]: "pear"}


def test_a_background_before_other_names_is_refused(tmp_path):
    """Tools disagree whether it counts, so each class might get the name of its neighbour."""
    files = {"labelmap.txt": "background:0,0,0::\napple:1,2,3::\npear:4,5,6::\n"}
    reading = read(tmp_path, TREE | files, PAIR)
    assert reasons_of(reading) == [("labelmap.txt", "ambiguous_names")]
    assert "unnamed_classes" in kinds_of(reading)


def test_a_placeholder_names_no_class(tmp_path):
    reading = read(tmp_path, TREE | {"labelmap.txt": "???\npear\n"}, PAIR)
    assert names_of(reading) == {"images/1.jpg": "pear"}
    assert reasons_of(reading) == [
        ("labels/0.txt", "unknown_category"),
        ("images/0.jpg", "no_usable_annotation"),
    ]


def test_without_names_the_report_says_so(tmp_path):
    reading = read(tmp_path, TREE, PAIR)
    assert names_of(reading) == {"images/0.jpg": "0", "images/1.jpg": "1"}
    assert kinds_of(reading) == ["unnamed_classes"]
    assert not reading.table.annotation_sets[0].has_names


@pytest.mark.parametrize("names", ["['no', 'yes']", "[no, yes]", "{0: no, 1: yes}"])
def test_a_name_stays_the_text_that_was_written(tmp_path, names):
    """YAML would turn them into False and True."""
    reading = read(tmp_path, TREE | {"data.yaml": f"train: images\nnames: {names}\n"}, PAIR)
    assert reading.table.category_names == ("no", "yes")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[" + "a," * 400_000 + "]", "more than 200,000 keys and values"),
        ("[" * 400_000, "nested deeper than 50 levels"),
        (":".join(["1"] * 300_000), None),
        ("*a", "aliases"),
    ],
)
def test_a_hostile_yaml_takes_no_minute(tmp_path, value, says):
    files = TREE | {"data.yaml": f"train: images\n{NAMES}a: &a x\nb: {value}\n"}
    started = time.monotonic()
    if says is None:
        assert len(names_of(read(tmp_path, files, PAIR))) == 2
    else:
        assert says in refusal(tmp_path, files, PAIR)
    assert time.monotonic() - started < 20


def test_two_values_of_one_key_are_refused(tmp_path):
    yaml = f"train: images\n{NAMES}names: [dog, cat]\n"
    assert "second value in line 3" in refusal(tmp_path, TREE | {"data.yaml": yaml}, PAIR)


def test_siblings_are_one_data_set_and_unrelated_folders_are_not(tmp_path):
    images = ["train/images/0.jpg", "valid/images/0.jpg", "test/images/0.jpg"]
    files = {path.replace("images", "labels").replace("jpg", "txt"): ROW for path in images}
    reading = read(tmp_path / "siblings", files, images)
    assert len(reading.table.annotation_sets) == 1
    assert list(splits_of(reading).values()) == ["test", "train", "val"]
    images = ["fruit/images/0.jpg", "dogs/images/0.jpg"]
    files = {path.replace("images", "labels").replace("jpg", "txt"): ROW for path in images}
    files |= {"fruit/classes.txt": "apple\n", "dogs/classes.txt": "beagle\n"}
    reading = read(tmp_path / "unrelated", files, images)
    assert names_of(reading) == {images[0]: "apple", images[1]: "beagle"}
    assert len(reading.table.annotation_sets) == 2


# --- Darknet's files, and text next to images.


def test_cvats_yolo_1_1_is_read(tmp_path):
    files = {
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
        "obj.names": LINES,
        "obj_train_data/cam1/0.txt": ROW,
        "obj_train_data/1.txt": PEAR,
        "train.txt": "data/obj_train_data/cam1/0.jpg\ndata/obj_train_data/1.jpg\n",
    }
    images = ["obj_train_data/1.jpg", "obj_train_data/cam1/0.jpg"]
    for prefix in ("", "export/fruit/"):
        folder = tmp_path / (prefix or "root")
        reading = read(folder, prefixed(prefix, files), [prefix + image for image in images])
        assert names_of(reading) == {prefix + images[0]: "pear", prefix + images[1]: "apple"}
        assert reading.rejections == []
        assert kinds_of(reading) == []


@pytest.mark.parametrize("missing", ["train.txt", "obj.data"])
def test_an_incomplete_export_of_cvat_is_read_from_its_text(tmp_path, missing):
    files = {
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
        "obj.names": LINES,
        "pictures/0.txt": ROW,
        "pictures/1.txt": PEAR,
        "train.txt": "data/pictures/0.jpg\ndata/pictures/1.jpg\n",
    }
    del files[missing]
    reading = read(tmp_path, files, ["pictures/0.jpg", "pictures/1.jpg"])
    assert names_of(reading) == {"pictures/0.jpg": "apple", "pictures/1.jpg": "pear"}
    assert kinds_of(reading) == (["yaml_paths_ignored"] if missing == "train.txt" else [])


def test_yolo_mark_is_read_and_a_listed_image_that_is_not_there_is_missing(tmp_path):
    files = {
        "data/obj.data": "classes= 2\ntrain  = data/train.txt\nvalid  = data/train.txt\n"
        "names = data/obj.names\nbackup = backup/\n",
        "data/obj.names": "air\nbird",
        "data/train.txt": "".join(f"data/img/air{i}.jpg\n" for i in range(3)),
        "data/img/air0.txt": ROW,
        "data/img/air1.txt": PEAR,
    }
    reading = read(tmp_path, files, ["data/img/air0.jpg", "data/img/air1.jpg"])
    assert names_of(reading) == {
        "data/img/air0.jpg": "air",
        "data/img/air1.jpg": "bird",
        "data/img/air2.jpg": None,  # decoding it gives the rejection missing_image
    }
    assert set(splits_of(reading).values()) == {None}


def test_names_and_lists_of_any_data_file_count(tmp_path):
    files = {
        "config/custom.data": "train=data/custom/train.txt\nvalid=data/custom/valid.txt\n"
        "names=data/custom/classes.names\n",
        "data/custom/classes.names": "train\nbus\n",
        "data/custom/labels/0.txt": ROW,
        "data/custom/labels/1.txt": PEAR,
        "data/custom/train.txt": "data/custom/images/0.jpg\n",
        "data/custom/valid.txt": "data/custom/images/1.jpg\n",
    }
    images = ["data/custom/images/0.jpg", "data/custom/images/1.jpg"]
    reading = read(tmp_path, files, images)
    assert names_of(reading) == {images[0]: "train", images[1]: "bus"}
    assert splits_of(reading) == {images[0]: "train", images[1]: "val"}
    assert kinds_of(reading) == []


def test_a_table_with_the_ending_of_a_data_file_is_none(tmp_path):
    files = {"iris.data": "5.1,3.5,1.4,0.2,Iris\n"} | TREE
    assert reasons_of(read(tmp_path, files, PAIR)) == []


@pytest.mark.parametrize("folder", ["", "pictures/", "a/b/c/", "train/", "images/"])
def test_labels_next_to_images_are_read_anywhere(tmp_path, folder):
    files = prefixed(folder, {"0.txt": ROW, "1.TXT": PEAR, "classes.txt": LINES})
    images = [f"{folder}0.jpg", f"{folder}1.jpg", f"{folder}2.jpg"]
    reading = read(tmp_path, files, images)
    assert names_of(reading) == {images[0]: "apple", images[1]: "pear", images[2]: None}
    assert kinds_of(reading) == ["no_label_file"]


def test_split_folders_of_text_next_to_images_are_one_data_set(tmp_path):
    images = ["test/0.jpg", "train/0.jpg", "valid/0.jpg"]
    files = dict.fromkeys(["train/0.txt", "valid/0.txt", "test/0.txt"], ROW)
    reading = read(tmp_path, files, images)
    assert list(splits_of(reading).values()) == ["test", "train", "val"]
    assert len(reading.table.annotation_sets) == 1


@pytest.mark.parametrize(
    "text",
    ["a photo of a cat, 4k\n", "1 2 3 4 5 6 7 8\n", "10.5 20.5\n30.5 40.5\n", "0 cat .5 .5 .5\n"],
)
def test_other_text_next_to_images_is_no_label_file(tmp_path, text):
    message = refusal(tmp_path, {"0.txt": text}, ["0.jpg"])
    assert "no annotations found" in message


def test_pixels_next_to_images_are_refused_if_a_file_names_classes(tmp_path):
    files = {"0.txt": "0 100 50 40 40\n", "classes.txt": "apple\n"}
    assert "coordinates are not fractions" in refusal(tmp_path, files, ["0.jpg"])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("Images", "Labels"),
        ("IMAGES", "LABELS"),
        ("images", "Labels"),
        ("Images", "labels"),
        ("JPEGImages", "labels"),
        ("image", "label"),
        ("data/Images", "data/Labels"),
    ],
)
def test_the_case_of_folders_and_endings_does_not_matter(tmp_path, images, labels):
    files = {f"{labels}/0.TXT": ROW, f"{labels}/1.txt": PEAR, "classes.txt": LINES}
    paths = [f"{images}/0.jpg", f"{images}/1.JPG"]
    reading = read(tmp_path, files, paths)
    assert names_of(reading) == {paths[0]: "apple", paths[1]: "pear"}
    yaml = {"data.yaml": f"train: {images}\n{NAMES}"}
    reading = read(tmp_path / "with yaml", files | yaml, paths)
    assert names_of(reading) == {paths[0]: "apple", paths[1]: "pear"}


def test_a_folder_in_another_case_does_not_take_the_labels_of_its_neighbour(tmp_path):
    files = {"data.yaml": f"train: Images\nval: images\n{NAMES}", "labels/0.txt": ROW}
    reading = read(tmp_path, files, ["Images/0.jpg", "images/0.jpg"])
    assert names_of(reading) == {"images/0.jpg": "apple"}
    assert ("Images/0.jpg", "no_label_file") in reasons_of(reading)
