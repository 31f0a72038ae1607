"""Descriptions of YOLO data sets with paths of other machines."""

import pytest

from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw
from tests.sources.yolo_files import (
    COMPLETE,
    IMAGES,
    LABELS,
    LINES,
    NAMES,
    PAIR,
    ROW,
    TREE,
    YAML,
    kinds_of,
    names_of,
    prefixed,
    read,
    refusal,
)


@pytest.mark.parametrize(
    ("folder", "yaml"),
    [
        ("", "train: /content/fruit-1/images/train\nval: /content/fruit-1/images/val\n"),
        (
            "",
            "train: C:\\Users\\me\\fruit\\images\\train\nval: C:\\Users\\me\\fruit\\images\\val\n",
        ),
        (
            "",
            "train: '/content/My Drive/images/train'\nval: '/content/My Drive/images/val'\n",
        ),
        ("", "path: D:/fruit\ntrain: images/train\nval: images/val\n"),
        (
            "",
            "path: path\\to\\dataset\ntrain: path\\to\\your\\train\nval: path\\to\\your\\val\n",
        ),
        ("", "train: ../fruit/images/train\nval: ../fruit/images/val\n"),
        ("", "train: ../../datasets/fruit/images/train/\nval: ../../datasets/fruit/images/val/\n"),
        ("fruit/", "path: ../datasets/fruit\ntrain: images/train\nval: images/val\n"),
        ("fruit/", "path: /home/me/fruit\ntrain: images/train\nval: images/val\n"),
        ("fruit/", "train: /home/me/fruit/images/train\nval: /home/me/fruit/images/val\n"),
        ("deep/er/", "train: /home/me/fruit/images/train\nval: /home/me/fruit/images/val\n"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "sub/folder/"])
def test_folders_of_another_machine_are_found(tmp_path, prefix, folder, yaml):
    files = {f"{prefix}data.yaml": yaml + NAMES} | prefixed(prefix + folder, LABELS)
    reading = read(tmp_path, files, [prefix + folder + image for image in IMAGES])
    assert names_of(reading) == prefixed(prefix + folder, COMPLETE)
    assert splits_of(reading)[prefix + folder + IMAGES[2]] == "val"
    assert reading.rejections == []


def test_a_former_folder_next_to_another_data_set_is_not_mistaken_for_it(tmp_path):
    yaml = "train: ../train/images\nval: ../valid/images\n" + NAMES
    files = {"a/data.yaml": yaml, "b/data.yaml": yaml}
    images = ["a/train/images/0.jpg", "b/train/images/0.jpg", "b/valid/images/0.jpg"]
    files |= {path.replace("images", "labels").replace("jpg", "txt"): ROW for path in images}
    reading = read(tmp_path, files, images)
    assert names_of(reading) == dict.fromkeys(images, "apple")
    assert reasons_of(reading) == [("a/data.yaml", "missing_folder")]


def test_a_data_set_and_its_copy_are_both_found(tmp_path):
    own = "train: ../train/images\nval: ../valid/images\n" + NAMES
    drive = own.replace("..", "D:/fish/dataset_pose")
    files = {"dataset/data.yaml": own, "compare/dataset_pose/data.yaml": drive}
    images = [
        f"{folder}/{split}/images/0.jpg"
        for folder in ("compare/dataset_pose", "dataset")
        for split in ("train", "valid")
    ]
    files |= {path.replace("images", "labels").replace("jpg", "txt"): ROW for path in images}
    reading = read(tmp_path, files, images)
    assert names_of(reading) == dict.fromkeys(images, "apple")
    assert reading.rejections == []


def test_several_folders_that_an_entry_may_mean_are_listed(tmp_path):
    yaml = f"train: /content/x/train\nval: images/val\n{NAMES}"
    images = ["a/train/0.jpg", "b/train/0.jpg"]
    files = {"data.yaml": f"train: /content/x/train\n{NAMES}"}
    message = refusal(tmp_path, files, images)
    assert "it may mean a/train, b/train: write one of them there" in message
    reading = read(tmp_path / "other", {"data.yaml": yaml} | LABELS, [*IMAGES[2:], *images])
    assert ("data.yaml", "outside_raw_dir") in reasons_of(reading)


def test_a_yaml_that_leads_nowhere_gives_its_names_to_the_tree_next_to_it(tmp_path):
    files = {"data.yaml": f"path: /data\ntrain: my_photos\nval: other_photos\n{NAMES}"} | LABELS
    reading = read(tmp_path, files)
    assert names_of(reading) == COMPLETE
    assert list(splits_of(reading).values()) == ["train", "train", "val", "val"]
    assert kinds_of(reading) == ["yaml_paths_ignored"]
    assert "train: 'my_photos', val: 'other_photos': nothing there" in reading.notes[0].message


def test_a_foreign_yaml_gives_no_names_to_a_described_data_set(tmp_path):
    """Cloned repositories hold the yaml files of COCO and VOC next to their own."""
    foreign = (
        "path: ../datasets/coco\ntrain: train2017.txt\nval: val2017.txt\nnames: [person, dog]\n"
    )
    files = {"data.yaml": YAML, "coco.yaml": foreign} | LABELS
    reading = read(tmp_path, files)
    assert names_of(reading) == COMPLETE
    assert reasons_of(reading) == [("coco.yaml", "missing_folder")] * 2


def test_empty_lists_are_named_with_the_yaml(tmp_path):
    yaml = "path: ''\ntrain: train_list.txt\nval: val_list.txt\nnc: 0\nnames: []\n"
    files = {"data.yaml": yaml, "train_list.txt": "", "val_list.txt": " \n"} | LABELS
    message = refusal(tmp_path, files)
    assert "data.yaml: train_list.txt and val_list.txt are empty" in message
    assert "images/ and labels/ are there" in message


def test_empty_entries_without_a_tree_are_named(tmp_path):
    message = refusal(tmp_path, {"data.yaml": f"train:\nval:\n{NAMES}"}, ["pictures/0.jpg"])
    assert "data.yaml: expected train and val to name a folder or a list" in message


# --- Split lists.


@pytest.mark.parametrize(
    "front",
    ["", "./", "data/", "/content/darknet/data/", "C:\\data\\", "../old name/", "my%20set/"],
)
def test_lists_with_another_prefix_lead_to_their_images(tmp_path, front):
    files = {
        "data.yaml": f"train: train.txt\nval: val.txt\n{NAMES}",
        "train.txt": "".join(f"{front}{image}\n" for image in IMAGES[:2]),
        "val.txt": "".join(f"{front}{image}\n" for image in IMAGES[2:]),
    }
    reading = read(tmp_path, files | LABELS)
    assert names_of(reading) == COMPLETE
    assert list(splits_of(reading).values()) == ["train", "train", "val", "val"]
    assert reading.rejections == []


def test_lists_next_to_a_tree_without_yaml_give_its_splits(tmp_path):
    files = {"train.txt": "x/images/0.jpg\n", "valid.txt": "x/images/1.jpg\n", "classes.txt": LINES}
    reading = read(tmp_path, TREE | files, PAIR)
    assert names_of(reading) == {"images/0.jpg": "apple", "images/1.jpg": "pear"}
    assert splits_of(reading) == {"images/0.jpg": "train", "images/1.jpg": "val"}


def test_a_list_that_leads_to_no_image_shows_its_first_line_and_the_nearest_image(tmp_path):
    files = {
        "data.yaml": f"train: train.txt\nval: images/val\n{NAMES}",
        "train.txt": "photos/img_00001.jpg\nphotos/img_00002.jpg\n",
    }
    images = ["images/val/0.jpg", "images/val/img_0001.jpg"]
    reading = read(tmp_path, files | {"labels/val/0.txt": ROW}, images)
    note = next(note for note in reading.notes if note.kind == "unmatched_list")
    assert note.message == (
        "train.txt: none of its 2 lines leads to an image; the first is 'photos/img_00001.jpg', "
        "the nearest image is images/val/img_0001.jpg"
    )


def test_labels_that_the_yaml_does_not_name_are_noted(tmp_path):
    files = {"data.yaml": YAML, "extra/labels/0.txt": ROW} | LABELS
    reading = read(tmp_path, files, [*IMAGES, "extra/images/0.jpg"])
    assert names_of(reading) == COMPLETE
    assert kinds_of(reading) == ["unlisted_images", "unlisted_labels"]


def test_the_folder_of_a_split_is_not_taken_for_the_folder_of_all_images(tmp_path):
    files = {"data.yaml": f"train: /x/train/images\nval: /x/valid/images\n{NAMES}"}
    reading = read(tmp_path, TREE | files, PAIR)
    assert set(splits_of(reading).values()) == {None}
    assert reading.note_counts == {"yaml_paths_ignored": 1}


def test_the_entries_of_one_yaml_do_not_lead_into_two_data_sets(tmp_path):
    files = {"data.yaml": f"train: /x/photos/train\nval: /x/photos/val\n{NAMES}"}
    files |= {"a/photos/train/0.txt": ROW, "b/photos/val/0.txt": ROW}
    message = refusal(tmp_path, files, ["a/photos/train/0.jpg", "b/photos/val/0.jpg"])
    assert "it may mean a/photos/train: write one of them there" in message


def test_two_yaml_files_that_lead_nowhere_do_not_name_the_same_labels(tmp_path):
    yaml = "train: my_photos\nnames: [{}]\n"
    files = {"a.yaml": yaml.format("apple, pear"), "b.yaml": yaml.format("dog, cat")}
    message = refusal(tmp_path, TREE | files, PAIR)
    assert "missing_folder (2)" in message


def test_an_image_of_another_split_is_not_taken_for_a_listed_one(tmp_path):
    files = {"data.yaml": f"train: val/list.txt\n{NAMES}", "val/list.txt": "data/train/0.jpg\n"}
    reading = read(tmp_path, files | {"val/0.txt": ROW}, ["val/0.jpg"])
    assert "val/0.jpg" not in names_of(reading)
    assert "unmatched_list" in kinds_of(reading)


def test_a_test_split_that_roboflow_names_and_does_not_have_is_only_noted(tmp_path):
    files = {
        "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        "nc: 1\nnames: ['cat']\n",
        "train/labels/a.txt": "0 .5 .5 .2 .2\n",
        "valid/labels/b.txt": "0 .5 .5 .2 .2\n",
    }
    images = ["train/images/a.jpg", "valid/images/b.jpg"]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert reading.rejections == []
    assert reading.note_counts == {"no_test_split": 1}
    assert list(boxes_of(reading)) == images
    files["data.yaml"] = files["data.yaml"].replace("../valid/images", "../gone/images")
    reading = read_sources(write_raw(tmp_path / "val", files, images))
    assert ("data.yaml", "missing_folder") in reasons_of(reading)
