import pytest

from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

ROW = "0 0.5 0.5 0.25 0.5\n"
CORNERS = [0.375, 0.25, 0.625, 0.75]
YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
TRAIN, VAL = "images/train/a.jpg", "images/val/b.jpg"
LABELS = {"labels/train/a.txt": ROW, "labels/val/b.txt": ROW}


def read(tmp_path, files, images=(TRAIN, VAL)):
    return read_sources(write_raw(tmp_path, files, images))


def read_rows(tmp_path, text, yaml="train: images\nnames: [cat, dog]\n"):
    files = {"data.yaml": yaml, "labels/a.txt": text}
    return read(tmp_path, files, ["images/a.jpg"])


def test_centres_and_sizes_become_corners_in_fractions(tmp_path):
    reading = read(tmp_path, {"data.yaml": YAML} | LABELS)
    assert boxes_of(reading) == {TRAIN: [("cat", CORNERS)], VAL: [("cat", CORNERS)]}
    assert splits_of(reading) == {TRAIN: "train", VAL: "val"}
    assert reading.table.normalized.all()
    assert reading.table.declared_sizes.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_image_without_rows_is_a_negative(tmp_path, text):
    files = {"data.yaml": YAML, "labels/train/a.txt": ROW, "labels/val/b.txt": text}
    assert boxes_of(read(tmp_path, files))[VAL] == []


@pytest.mark.parametrize(
    ("yaml", "names"),
    [
        ("names: [cat, dog]", ("cat", "dog")),
        ("names:\n  0: cat\n  1: dog", ("cat", "dog")),
        ("names:\n  1: dog\n  0: cat", ("cat", "dog")),
        ("names: {'1': dog, '0': cat}", ("cat", "dog")),
        ("nc: 2", ("0", "1")),
        ("nc: 2\nnames: [1, 2]", ("1", "2")),
    ],
)
def test_names_are_a_list_or_a_mapping_or_numbers(tmp_path, yaml, names):
    reading = read_rows(tmp_path, "1 .5 .5 .1 .1\n", f"train: images\n{yaml}\n")
    assert reading.table.category_names == names
    assert reading.table.labels.tolist() == [1]


def test_class_ids_with_gaps_are_numbered_without_them(tmp_path):
    reading = read_rows(tmp_path, "7 .5 .5 .1 .1\n", "train: images\nnames: {7: dog, 2: cat}\n")
    assert reading.table.category_names == ("cat", "dog")
    assert reading.table.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("prefix", "yaml"),
    [
        ("", YAML),
        ("", "path: ../datasets/elsewhere\n" + YAML),
        ("", "path: /home/somebody/data\n" + YAML),
        ("", "path: .\ntrain: [images/train]\nval: [images/val/]\nnames: [cat]\n"),
        ("", "path: images\ntrain: train\nval: val\nnames: [cat]\n"),
        ("", "train: ../images/train\nval: ../images/val\nnames: [cat]\n"),
        ("sub/", YAML),
        ("sub/", "path: sub\n" + YAML),
        ("", "train: .\\images\\train\nval: ./images/val\nnames: [cat]\n"),
    ],
)
def test_folders_are_found_relative_to_path_or_to_the_yaml(tmp_path, prefix, yaml):
    files = {"data.yaml": yaml} | LABELS
    reading = read(
        tmp_path,
        {prefix + path: text for path, text in files.items()},
        [prefix + TRAIN, prefix + VAL],
    )
    assert splits_of(reading) == {prefix + TRAIN: "train", prefix + VAL: "val"}
    assert len(reading.table.boxes) == 2
    assert reading.rejections == []


def test_path_may_lead_from_a_folder_of_settings_to_the_data(tmp_path):
    reading = read(tmp_path, {"conf/data.yaml": "path: ..\n" + YAML} | LABELS)
    assert splits_of(reading) == {TRAIN: "train", VAL: "val"}
    assert reading.table.category_names == ("cat", "dog")


def test_roboflow_folders_are_found(tmp_path):
    yaml = (
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['cat']"
    )
    images = ["train/images/a.jpg", "valid/images/b.jpg"]
    files = {"data.yaml": yaml, "train/labels/a.txt": ROW, "valid/labels/b.txt": ROW}
    reading = read(tmp_path, files, images)
    assert splits_of(reading) == {images[0]: "train", images[1]: "val"}
    assert len(reading.table.boxes) == 2
    assert reading.rejections == []
    assert reading.note_counts == {"no_test_split": 1}
    assert "test: '../test/images'" in reading.notes[0].message


def test_lists_of_images_are_followed(tmp_path):
    files = {
        "data.yaml": "train: train.txt\nval: lists/val.txt\nnames: [cat]\n",
        "train.txt": b"caf\xe9.jpg\r\n./images/train/a.jpg\r\n\r\n",
        "lists/val.txt": f"{tmp_path}/{VAL}\n../../../x.jpg\n",
    }
    reading = read(tmp_path, files | LABELS)
    assert splits_of(reading) == {TRAIN: "train", VAL: "val"}
    assert reasons_of(reading) == [("train.txt", "malformed"), ("lists/val.txt", "outside_raw_dir")]
    assert r"line 1: b'caf\xe9.jpg' is not UTF-8" in reading.rejections[0].message
    assert "line 2" in reading.rejections[1].message


def test_a_folder_in_place_of_labels_makes_no_negative(tmp_path):
    (tmp_path / "labels/train/a.txt").mkdir(parents=True)
    reading = read(tmp_path, {"data.yaml": YAML, "labels/val/b.txt": ROW})
    assert list(boxes_of(reading)) == [VAL]
    assert reasons_of(reading) == [
        ("labels/train/a.txt", "not_a_file"),
        (TRAIN, "no_usable_annotation"),
    ]


def test_a_class_name_in_another_encoding_loses_no_box(tmp_path):
    files = {"labels/train/a.txt": ROW, "labels/classes.txt": b"caf\xe9\ndog\n"}
    reading = read(tmp_path, files, [TRAIN])
    assert boxes_of(reading) == {TRAIN: [(r"caf\xe9", CORNERS)]}
    assert reasons_of(reading) == [("labels/classes.txt", "malformed")]


def test_an_image_in_several_splits_is_in_none(tmp_path):
    yaml = "train: [images/train, images/val]\nval: images/val\nnames: [cat]\n"
    reading = read(tmp_path, {"data.yaml": yaml} | LABELS)
    assert splits_of(reading)[VAL] is None
    assert len(reading.table.boxes) == 2
    assert reading.note_counts == {"ambiguous_split": 1}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),
        ("images/my_images/a.jpg", "labels/my_images/a.txt"),
        ("images/a.b.jpg", "labels/a.b.txt"),
        ("images/a.jpg", "images/a.txt"),
    ],
)
def test_labels_are_in_the_mirrored_folder_or_next_to_the_image(tmp_path, image, label):
    files = {"data.yaml": "train: images\nnames: [cat]\n", label: ROW}
    assert boxes_of(read(tmp_path, files, [image])) == {image: [("cat", CORNERS)]}


def test_without_a_yaml_folders_are_splits_and_categories_are_numbers(tmp_path):
    images = [TRAIN, VAL, "images/train/negative.jpg"]
    files = {"labels/train/a.txt": "2 .5 .5 .25 .5\n", "labels/val/b.txt": ROW}
    reading = read(tmp_path, files, images)
    assert boxes_of(reading) == {TRAIN: [("2", CORNERS)], VAL: [("0", CORNERS)], images[2]: []}
    assert reading.table.category_names == ("0", "1", "2")
    assert list(splits_of(reading).values()) == ["train", "train", "val"]


@pytest.mark.parametrize("path", ["classes.txt", "labels/classes.txt"])
def test_without_a_yaml_classes_txt_names_the_categories(tmp_path, path):
    files = {path: "traffic light\ncat\n"} | LABELS
    reading = read(tmp_path, files)
    assert reading.table.category_names == ("traffic light", "cat")


def test_several_labels_folders_without_a_yaml_are_one_data_set(tmp_path):
    files = {"train/labels/a.txt": ROW, "valid/labels/b.txt": "1 .5 .5 .25 .5\n"}
    reading = read(tmp_path, files, ["train/images/a.jpg", "valid/images/b.jpg"])
    assert list(splits_of(reading).values()) == ["train", "val"]
    assert [boxes[0][0] for boxes in boxes_of(reading).values()] == ["0", "1"]


def test_pose_rows_have_points_of_three_numbers(tmp_path):
    yaml = "train: images\nnames: [cat]\nkpt_shape: [2, 3]\n"
    text = "0 .5 .5 .25 .5 .125 .25 2 .5 .75 1\n0 .5 .5 .5 .5\n0 .5 .5 1 1 0 0 0 0 0 0\n"
    reading = read_rows(tmp_path, text, yaml)
    assert points_of(reading) == {"images/a.jpg": [[[0.125, 0.25, 2], [0.5, 0.75, 1]], [], []]}
    assert len(reading.table.boxes) == 3


def test_points_of_two_numbers_are_visible_unless_they_are_zero(tmp_path):
    yaml = "train: images\nnames: [cat]\nkpt_shape: [2, 2]\n"
    reading = read_rows(tmp_path, "0 .5 .5 .25 .5 .125 .25 0 0\n", yaml)
    assert points_of(reading) == {"images/a.jpg": [[[0.125, 0.25, 2], [0, 0, 0]]]}


def test_an_undeclared_pose_is_known_by_its_number_of_columns(tmp_path):
    reading = read_rows(tmp_path, "0 .5 .5 .25 .5 .125 .25 2\n")
    assert points_of(reading) == {"images/a.jpg": [[[0.125, 0.25, 2]]]}
    assert boxes_of(reading) == {"images/a.jpg": [("cat", CORNERS)]}


def test_polygons_become_their_bounding_box(tmp_path):
    reading = read_rows(tmp_path, "1 .25 .5 .75 .125 .5 .625\n")
    assert boxes_of(reading) == {"images/a.jpg": [("dog", [0.25, 0.125, 0.75, 0.625])]}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("0 .5 .5 .5", "malformed"),
        ("0 .5 .5 .5 x", "malformed"),
        ("0.5 .5 .5 .5 .5", "malformed"),
        ("nan .5 .5 .5 .5", "malformed"),
        ("inf .5 .5 .5 .5", "malformed"),
        ("-1 .5 .5 .5 .5", "malformed"),
        ("1000000000 .5 .5 .5 .5", "malformed"),
        ("0 .5 .5 .5 .5 .9", "malformed"),
        ("2 .5 .5 .5 .5", "unknown_category"),
    ],
)
def test_only_a_bad_row_is_rejected(tmp_path, bad, reason):
    reading = read_rows(tmp_path, f"{ROW}{bad}\n1 .5 .5 .5 .5\n")
    assert reading.table.labels.tolist() == [0, 1]
    assert reasons_of(reading) == [("labels/a.txt", reason)]
    assert "line 2" in reading.rejections[0].message


def test_a_pose_row_of_another_shape_is_rejected(tmp_path):
    yaml = "train: images\nnames: [cat]\nkpt_shape: [2, 3]\n"
    reading = read_rows(tmp_path, ROW + "0 .5 .5 .5 .5 .1 .1 2\n", yaml)
    assert reasons_of(reading) == [("labels/a.txt", "malformed")]
    assert (
        "expected 2 points of 3 numbers or nothing, found 3 numbers"
        in reading.rejections[0].message
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 .5 .5 nan .5", "malformed"),
        ("0 .5 .5 inf .5", "malformed"),
        ("0 .5 .5 -.1 .5", "malformed"),
        ("0 .5 .5 -1 1e300", "malformed"),
        ("0 100 50 40 40", "not_fractions"),
        ("0 .5 .5 1.002 .5", "not_fractions"),
        ("0 -.5 .5 .1 .5", "not_fractions"),
    ],
)
def test_boxes_that_are_no_fractions_are_rejected(tmp_path, row, reason):
    reading = read_rows(tmp_path, f"{ROW}{row}\n")
    assert boxes_of(reading) == {"images/a.jpg": [("cat", CORNERS)]}
    assert reasons_of(reading) == [("labels/a.txt", reason)]


@pytest.mark.parametrize(
    "yaml",
    [
        "train: [images\nnames: [cat]\n",
        "train: images\nnames: cat: dog\n",
        "train: images\nnames: {x: cat}\n",
        "train: images\nnc: many\n",
        "a: &a [x, x]\nb: &b [*a, *a]\ntrain: images\nnames: [*b]\n",
        "train: images\nnames: [cat]\nkpt_shape: [17]\n",
        "train: images\nnames: [cat]\nkpt_shape: [17, 4]\n",
        "train: !!python/object/apply:os.system [true]\nnames: [cat]\n",
    ],
)
def test_a_damaged_or_hostile_yaml_is_malformed(tmp_path, yaml):
    with pytest.raises(SourceError, match=r"data\.yaml"):
        read_rows(tmp_path, ROW, yaml)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../../../etc", "missing_folder"),
        ("x/../../etc", "outside_raw_dir"),
        ("/etc", "outside_raw_dir"),
        ("5", "missing_folder"),
        ("{x: y}", "malformed"),
        ("C:\\data", "outside_raw_dir"),
    ],
)
def test_an_entry_that_leaves_the_raw_directory_is_rejected(tmp_path, entry, reason):
    yaml = f"train: images/train\nval: {entry}\nnames: [cat]\n"
    reading = read(tmp_path, {"data.yaml": yaml} | LABELS)
    assert list(boxes_of(reading)) == [TRAIN]
    assert reasons_of(reading) == [("data.yaml", reason)]


def test_labels_in_another_encoding_are_rejected_and_the_rest_kept(tmp_path):
    files = {"data.yaml": YAML} | LABELS | {"labels/val/b.txt": b"\xff\xfe0"}
    reading = read(tmp_path, files)
    assert reasons_of(reading) == [("labels/val/b.txt", "malformed"), (VAL, "no_usable_annotation")]
    assert boxes_of(reading) == {TRAIN: [("cat", CORNERS)]}


@pytest.mark.parametrize(
    ("row", "reason", "found"),
    [
        ("0,.5,.5,.5,.5", "malformed", "separated by spaces, found '0,.5,.5,.5,.5'"),
        ("0 .5 .5 .5 .5 .9", "malformed", "found 1 number; a confidence"),
        ("7 .5 .5 .5 .5", "unknown_category", "class id 7"),
    ],
)
def test_an_image_with_only_bad_rows_is_no_negative(tmp_path, row, reason, found):
    reading = read(tmp_path, {"data.yaml": YAML} | LABELS | {"labels/val/b.txt": row})
    assert boxes_of(reading) == {TRAIN: [("cat", CORNERS)]}
    assert reasons_of(reading) == [("labels/val/b.txt", reason), (VAL, "no_usable_annotation")]
    assert found in reading.rejections[0].message


@pytest.mark.parametrize("present", [["train/x/0.jpg", "train/x/1.jpg"], ["train/x/1.jpg"]])
def test_a_missing_image_of_a_list_is_not_replaced_by_one_of_another_list(tmp_path, present):
    files = {
        "data.yaml": "train: train.txt\nval: val.txt\nnames: [cat]\n",
        "train.txt": "./train/x/1.jpg\n",
        "val.txt": "./val/x/0.jpg\n./val/x/1.jpg\n",
        "train/x/1.txt": ROW,
    }
    reading = read(tmp_path, files, present)
    assert list(boxes_of(reading)) == ["train/x/1.jpg", "val/x/0.jpg", "val/x/1.jpg"]
    notes = [note.message for note in reading.notes if note.kind == "unmatched_list"]
    assert notes == [
        "val.txt: none of its 2 lines leads to an image; the first is './val/x/0.jpg', the nearest "
        f"image is {present[0]}"
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"docker.yaml": "services: {}\n"},
        {"labels/train/a.txt": "Car 0.0 0 1 2 3 4 5\n"},
        {"notes/a.txt": "5 landmarks\n1 2 3 4 5\n"},
    ],
)
def test_other_yaml_and_text_files_are_not_found(tmp_path, files):
    with pytest.raises(SourceNotFoundError, match=r"YOLO: data\.yaml"):
        read(tmp_path, files)


@pytest.mark.parametrize("shape", ["[0, 3]", "[-1, 3]", "[2.5, 3]", "[x, 3]", "3"])
def test_a_keypoint_shape_without_points_is_refused(tmp_path, shape):
    """With such a shape, every row that is longer than a box would be malformed."""
    yaml = f"train: images\nnames: [cat]\nkpt_shape: {shape}\n"
    with pytest.raises(SourceError, match=r"data\.yaml: kpt_shape is .*, expected \[K, 2\] or "):
        read_rows(tmp_path, ROW, yaml)


def test_a_list_of_images_that_links_out_of_the_directory_is_not_opened_without_links(tmp_path):
    (tmp_path / "passwords").write_text("secret\n")
    raw = write_raw(tmp_path / "raw", {"data.yaml": YAML.replace("images/val", "val.lst")} | LABELS)
    write_raw(raw, images=[TRAIN])
    (raw / "val.lst").symlink_to(tmp_path / "passwords")
    reading = read_sources(raw, follow_links=False)
    assert reasons_of(reading)[0] == ("data.yaml", "outside_raw_dir")
    assert not any("secret" in rejection.message for rejection in reading.rejections)
