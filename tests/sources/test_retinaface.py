import pytest

from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

# The first rows of the published file for training.
MARCH = "449 330 122 149 488.906 373.643 0.0 542.089 376.442 0.0 515.031 412.83 0.0 485.174 425.893 0.0 538.357 431.491 0.0 0.82"  # noqa: E501 - as published
PARADE = "361 98 263 339 424.143 251.656 0.0 547.134 232.571 1.0 494.121 325.875 0.0 453.83 368.286 0.0 561.978 342.839 0.0 0.89"  # noqa: E501 - as published
UNLABELLED = " ".join(["78 221 7 8", *["-1.0 -1.0 -1.0"] * 5, "0.2"])
TRAIN = "train/label.txt"
A, B = "0--Parade/a.jpg", "0--Parade/b.jpg"
MARCH_BOX = ("face", [449, 330, 571, 479])


def read(tmp_path, text, path=TRAIN, images=(f"train/images/{A}", f"train/images/{B}")):
    return read_sources(write_raw(tmp_path, {path: text}, images))


def test_rows_become_boxes_with_five_points(tmp_path):
    reading = read(tmp_path, f"# {A}\n{MARCH}\n# {B}\n{PARADE}\n{UNLABELLED}\n")
    assert boxes_of(reading) == {
        f"train/images/{A}": [MARCH_BOX],
        f"train/images/{B}": [("face", [361, 98, 624, 437]), ("face", [78, 221, 85, 229])],
    }
    first, second = points_of(reading).values()
    assert [len(found) for found in (*first, *second)] == [5, 5, 0]
    assert first[0][0] == pytest.approx([488.906, 373.643, 2])
    # The second eye is hidden.
    assert [visibility for _, _, visibility in second[0]] == [2, 1, 2, 2, 2]
    assert reading.table.annotation_sets[0].keypoint_names == reading.table.keypoint_names
    assert reading.table.keypoint_names[2] == "nose"
    assert reading.table.entries.tolist() == [2, 4, 5]
    assert reading.rejections == []


def test_a_point_at_minus_one_is_not_labelled_and_the_others_are_kept(tmp_path):
    row = MARCH.replace("542.089 376.442 0.0", "-1.0 -1.0 -1.0")
    ((face,),) = points_of(read(tmp_path, f"# {A}\n{row}\n")).values()
    assert face[1] == [0, 0, 0]
    assert [visibility for _, _, visibility in face] == [2, 0, 2, 2, 2]


def test_lists_for_validation_have_boxes_only(tmp_path):
    images = [f"val/images/{A}", f"val/images/{B}"]
    reading = read(tmp_path, f"# {A}\n449 330 122 149\n# {B}\n", "val/label.txt", images)
    assert boxes_of(reading) == {images[0]: [MARCH_BOX], images[1]: []}
    assert len(reading.table.points.values) == 0


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("train/label.txt", f"train/images/{A}"),
        ("train/label.txt", f"train/{A}"),
        ("label.txt", f"images/{A}"),
        ("retinaface/train/label.txt", f"WIDER_train/images/{A}"),
        ("retinaface/train/label.txt", f"retinaface/WIDER_train/images/{A}"),
    ],
)
def test_images_are_found_in_the_usual_folders(tmp_path, label, image):
    assert list(boxes_of(read(tmp_path, f"# {A}\n{MARCH}\n", label, [image]))) == [image]


def test_folders_are_splits(tmp_path):
    files = {f"{split}/label.txt": f"# {A}\n{MARCH}\n" for split in ("train", "val")}
    images = [f"{split}/images/{A}" for split in ("train", "val")]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert list(splits_of(reading).values()) == ["train", "val"]


@pytest.mark.parametrize(
    "bad",
    [
        "1 2 3",
        "1 2 x 4",
        MARCH.removesuffix(" 0.82").rpartition(" ")[0],
        f"{MARCH} 7",
        MARCH.replace("373.643 0.0", "373.643 0.5"),
        b"\xff 2 3 4",
    ],
)
def test_only_a_bad_row_is_rejected(tmp_path, bad):
    row = bad if isinstance(bad, bytes) else bad.encode()
    text = f"# {A}\n".encode() + row + f"\n{MARCH}\n# {B}\n".encode() + row + b"\n"
    reading = read(tmp_path, text)
    assert boxes_of(reading) == {f"train/images/{A}": [MARCH_BOX]}
    assert reasons_of(reading) == [
        (TRAIN, "malformed"),
        (TRAIN, "malformed"),
        (f"train/images/{B}", "no_usable_annotation"),
    ]
    assert "label.txt: line 2: " in reading.rejections[0].message


@pytest.mark.parametrize("bad", ["# damage", f"# {A} 1024 768"])
def test_a_bad_image_line_is_rejected_with_its_rows(tmp_path, bad):
    reading = read(tmp_path, f"# {B}\n{MARCH}\n{bad}\n{PARADE}\n")
    assert boxes_of(reading) == {f"train/images/{B}": [MARCH_BOX]}
    assert reasons_of(reading) == [(TRAIN, "malformed")]
    assert "expected the name of an image after #" in reading.rejections[0].message


def test_a_path_that_leaves_the_raw_directory_is_rejected(tmp_path):
    reading = read(tmp_path, f"# ../../../gone.jpg\n{PARADE}\n# {B}\n{MARCH}\n")
    assert boxes_of(reading) == {f"train/images/{B}": [MARCH_BOX]}
    assert reasons_of(reading) == [(TRAIN, "outside_raw_dir")]


def test_a_list_for_the_test_split_without_faces_is_no_list_of_negatives(tmp_path):
    files = {TRAIN: f"# {A}\n{MARCH}\n", "test/label.txt": f"# {A}\n# {B}\n"}
    images = [f"{split}/images/{name}" for split in ("train", "test") for name in (A, B)]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert list(boxes_of(reading)) == [f"train/images/{A}"]
    assert reading.note_counts["unlabelled_images"] == 2


def test_another_list_without_faces_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"label\.txt names 2 images and has no face at all"):
        read(tmp_path, f"# {A}\n# {B}\n")


@pytest.mark.parametrize("text", ["# a.jpg\nis nice\n", "1 2 3 4\n"])
def test_other_text_files_are_not_found(tmp_path, text):
    with pytest.raises(SourceNotFoundError, match="RetinaFace"):
        read(tmp_path, text, "notes.txt", ["x.jpg"])
