import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw

TRAIN = "wider_face_split/wider_face_train_bbx_gt.txt"
VAL = "wider_face_split/wider_face_val_bbx_gt.txt"
REST = " 0 0 0 0 0 0"
"""The attributes of a face that has none."""
VAL_IMAGE = "WIDER_val/images/x/a.jpg"


def read(tmp_path, text, path=TRAIN, images=("WIDER_train/images/0--Parade/a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: text}, images))


def test_rows_become_boxes_with_their_attributes(tmp_path):
    text = "0--Parade/a.jpg\n2\n10 20 30 40 1 0 0 0 2 0 \n1 2 3 4 0 0 0 1 0 0 \n"
    reading = read(tmp_path, text)
    path = "WIDER_train/images/0--Parade/a.jpg"
    assert boxes_of(reading) == {path: [("face", [10, 20, 40, 60]), ("face", [1, 2, 4, 6])]}
    assert reading.table.flags.tolist() == [Flag.NONE, Flag.INVALID]
    assert reading.rejections == []


def test_boxes_without_extent_are_kept_as_written(tmp_path):
    reading = read(tmp_path, "0--Parade/a.jpg\n1\n10 20 0 0 0 0 0 0 0 0\n")
    assert reading.table.boxes.tolist() == [[10, 20, 10, 20]]


@pytest.mark.parametrize("zeros", ["0 0 0 0 0 0 0 0 0 0 \n", ""])
def test_an_image_without_faces_is_a_negative_with_or_without_its_row_of_zeros(tmp_path, zeros):
    text = f"0--Parade/a.jpg\n0\n{zeros}b.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"
    reading = read(tmp_path, text)
    assert [len(boxes) for boxes in boxes_of(reading).values()] == [0, 1]
    assert reading.rejections == []


def test_windows_line_ends_are_read(tmp_path):
    reading = read(tmp_path, f"0--Parade/a.jpg\r\n1\r\n1 2 3 4{REST}\r\n\r\n")
    assert reading.table.boxes.tolist() == [[1, 2, 4, 6]]


def test_names_with_spaces_are_read(tmp_path):
    path = "WIDER_train/images/0--Parade/a b 1.jpg"
    reading = read(tmp_path, f"0--Parade/a b 1.jpg\n1\n1 2 3 4{REST}\n", images=[path])
    assert list(boxes_of(reading)) == [path]


@pytest.mark.parametrize("rows", [f"1 2 3 4{REST}\n", f"1 2 3 4{REST}\n" * 3, ""])
def test_an_entry_with_a_wrong_count_is_rejected_and_the_next_one_read(tmp_path, rows):
    reading = read(tmp_path, f"0--Parade/a.jpg\n2\n{rows}b.jpg\n1\n5 6 7 8{REST}\n")
    assert reading.table.boxes.tolist() == [[5, 6, 12, 14]]
    image = "WIDER_train/images/0--Parade/a.jpg"
    assert reasons_of(reading) == [(TRAIN, "malformed"), (image, "no_usable_annotation")]
    assert f"line 1: 0--Parade/a.jpg: a count of 2, but {rows.count('1')} rows" in (
        reading.rejections[0].message
    )


@pytest.mark.parametrize("row", [f"1 2 x 4{REST}", "1 2 3", "1 2 3 4", f"2 3 4{REST}"])
@pytest.mark.parametrize("first", [True, False])
def test_an_image_with_a_bad_row_is_rejected_with_all_its_faces(tmp_path, row, first):
    rows = [row, f"5 6 7 8{REST}"] if first else [f"5 6 7 8{REST}", row]
    reading = read(tmp_path, "\n".join(["0--Parade/a.jpg", "2", *rows, "b.jpg", "0", ""]))
    assert list(boxes_of(reading)) == ["WIDER_train/images/b.jpg"]
    image = "WIDER_train/images/0--Parade/a.jpg"
    assert reasons_of(reading) == [(TRAIN, "malformed"), (image, "no_usable_annotation")]
    message = reading.rejections[0].message
    assert f"line {3 if first else 4}: expected 10 numbers, x y w h blur" in message


def test_each_file_is_a_split(tmp_path):
    files = {TRAIN: "x/a.jpg\n0\n", VAL: "x/a.jpg\n0\n"}
    images = ["WIDER_train/images/x/a.jpg", "WIDER_val/images/x/a.jpg"]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert splits_of(reading) == {images[0]: "train", images[1]: "val"}


def test_unpublished_test_annotations_do_not_make_negatives(tmp_path):
    files = {
        TRAIN: f"0--Parade/a.jpg\n1\n1 2 3 4{REST}\n",
        "wider_face_split/wider_face_test_filelist.txt": "x/t.jpg\n",
    }
    images = ["WIDER_train/images/0--Parade/a.jpg", "WIDER_test/images/x/t.jpg"]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert list(boxes_of(reading)) == images[:1]
    assert reading.note_counts == {"unlisted_images": 1}


def test_a_path_that_leaves_the_raw_directory_is_rejected(tmp_path):
    reading = read(tmp_path, "../../../gone.jpg\n0\nb.jpg\n0\n")
    assert reasons_of(reading) == [(TRAIN, "outside_raw_dir")]
    assert len(reading.table) == 1


def test_text_in_another_encoding_is_malformed(tmp_path):
    with pytest.raises(SourceError, match=r"train_bbx_gt.txt: line 1: b'.*' is not UTF-8"):
        read(tmp_path, b"\xff\xff0\x00")


def test_a_line_in_another_encoding_spoils_only_its_entry(tmp_path):
    row = f"1 2 3 4{REST}\n".encode()
    written = b"caf\xe9.jpg\n1\n" + row + b"b.jpg\n1\n" + row + b"0--Parade/a.jpg\n2\n\xe9" + row
    reading = read(tmp_path, written + row)
    assert boxes_of(reading) == {"WIDER_train/images/b.jpg": [("face", [1, 2, 4, 6])]}
    image = "WIDER_train/images/0--Parade/a.jpg"
    assert reasons_of(reading) == [
        (TRAIN, "malformed"),
        (TRAIN, "malformed"),
        (image, "no_usable_annotation"),
    ]
    assert all("is not UTF-8" in rejection.message for rejection in reading.rejections[:2])


def test_an_image_with_only_a_bad_row_is_no_negative(tmp_path):
    reading = read(tmp_path, "0--Parade/a.jpg\n1\n1 2 x 4\nb.jpg\n0\n")
    assert list(boxes_of(reading)) == ["WIDER_train/images/b.jpg"]
    assert reasons_of(reading) == [
        (TRAIN, "malformed"),
        ("WIDER_train/images/0--Parade/a.jpg", "no_usable_annotation"),
    ]


@pytest.mark.parametrize("there", [[], ["WIDER_train/images/x/b.jpg"]])
def test_a_missing_image_is_not_replaced_by_one_of_another_split(tmp_path, there):
    files = {TRAIN: f"x/a.jpg\n1\n1 2 3 4{REST}\nx/b.jpg\n0\n", VAL: f"x/a.jpg\n1\n5 6 7 8{REST}\n"}
    found = boxes_of(read_sources(write_raw(tmp_path, files, [VAL_IMAGE, *there])))
    assert found[VAL_IMAGE] == [("face", [5, 6, 12, 14])]
    assert len(found) == 3
