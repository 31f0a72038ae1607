import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
LANDMARKS = "image_name,part_0_x,part_0_y,part_1_x,part_1_y\n"


def read(tmp_path, text, path="boxes.csv", images=("a.jpg", "b.jpg"), files=None):
    return read_sources(write_raw(tmp_path, {path: text} | (files or {}), images))


def test_tensorflow_rows_of_one_image_become_one_row(tmp_path):
    rows = "b.jpg,60,50,dog,1,2,3,4\na.jpg,6,5,cat,0,0,1,1\nb.jpg,60,50,cat,5.5,6,7,8\n"
    reading = read(tmp_path, HEADER + rows)
    assert boxes_of(reading) == {
        "a.jpg": [("cat", [0, 0, 1, 1])],
        "b.jpg": [("dog", [1, 2, 3, 4]), ("cat", [5.5, 6, 7, 8])],
    }
    assert reading.table.category_names == ("cat", "dog")
    assert reading.table.declared_sizes.tolist() == [[5, 6], [50, 60]]
    assert reading.note_counts == {}


def test_columns_may_be_in_any_order_with_others_between_them(tmp_path):
    text = "id,XMax,ymin,xmin,ymax, class ,filename\n7,3,2,1,4,cat,a.jpg\n"
    reading = read(tmp_path, text)
    assert boxes_of(reading) == {"a.jpg": [("cat", [1, 2, 3, 4])]}
    assert reading.table.declared_sizes.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    "first", ["a.jpg,1,2,3,4,cat\nb.jpg,,,,,\n", "b.jpg,,,,,\na.jpg,1,2,3,4,cat"]
)
def test_retinanet_rows_need_no_header_and_have_negatives(tmp_path, first):
    assert boxes_of(read(tmp_path, first)) == {"a.jpg": [("cat", [1, 2, 3, 4])], "b.jpg": []}


def test_a_class_mapping_gives_the_order_of_the_categories(tmp_path):
    files = {"classes.csv": "dog,1\nzebra,0\ncat,2\n", "x/other.csv": "cat,0\n", "b.csv": "cat,0\n"}
    reading = read(tmp_path, "a.jpg,1,2,3,4,cat\na.jpg,1,2,3,4,dog\n", files=files)
    assert reading.table.category_names == ("zebra", "dog", "cat")
    assert reading.table.labels.tolist() == [2, 1]


def test_landmarks_are_visible_points_without_a_box(tmp_path):
    reading = read(tmp_path, LANDMARKS + "a.jpg,1,2.5,3,4\na.jpg,5,6,7,8\n")
    assert points_of(reading) == {"a.jpg": [[[1, 2.5, 2], [3, 4, 2]], [[5, 6, 2], [7, 8, 2]]]}
    assert boxes_of(reading) == {"a.jpg": [("object", None)] * 2}
    assert reading.table.flags.tolist() == [Flag.NO_BOX] * 2


def test_landmarks_are_ordered_by_number_not_by_column(tmp_path):
    text = "part_1_y,part_10_x,image_name,part_0_x,part_0_y,part_1_x,part_10_y\n1,2,a.jpg,3,4,5,6\n"
    assert points_of(read(tmp_path, text)) == {"a.jpg": [[[3, 4, 2], [5, 1, 2], [2, 6, 2]]]}


def test_a_byte_order_mark_windows_line_ends_and_quotes_are_read(tmp_path):
    text = '\ufeff"filename","class",xmin,ymin,xmax,ymax\r\n"a.jpg","cat, big",1,2,3,4\r\n\r\n'
    assert boxes_of(read(tmp_path, text)) == {"a.jpg": [("cat, big", [1, 2, 3, 4])]}


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ("a.jpg,6,5,cat,1,2,3,x", "'x'"),
        ("a.jpg,6,5,cat,1,2,3,", "expected a class and four numbers"),
        ("a.jpg,6,5,,1,2,3,4", "expected a class and four numbers"),
        ("a.jpg,6,5,cat,,,,", "expected a class and four numbers"),
        ("a.jpg,6,5,cat", "expected 8 cells, found 4"),
        (",6,5,cat,1,2,3,4", "not a file's name"),
    ],
)
def test_only_a_bad_line_is_rejected(tmp_path, bad, found):
    reading = read(tmp_path, f"{HEADER}a.jpg,6,5,cat,1,2,3,4\n\n{bad}\nb.jpg,6,5,cat,5,6,7,8\n")
    assert len(reading.table.boxes) == 2
    assert reasons_of(reading) == [("boxes.csv", "malformed")]
    assert "boxes.csv: line 4: " in reading.rejections[0].message
    assert found in reading.rejections[0].message


@pytest.mark.parametrize("bad", ["a.jpg,,nan,-1,-1", "a.jpg,1,2,3,x", "a.jpg,1,2,3"])
def test_landmarks_without_a_number_are_rejected(tmp_path, bad):
    reading = read(tmp_path, f"{LANDMARKS}{bad}\nb.jpg,1,2,3,4\n")
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("boxes.csv", "malformed"), ("a.jpg", "no_usable_annotation")]


def test_an_image_with_only_bad_lines_is_no_negative(tmp_path):
    text = "a.jpg,1,2,3,x,cat\na.jpg,,,,,\nb.jpg,1,2,3,x,cat\nb.jpg,1,2,3,4,cat\n"
    reading = read(tmp_path, text)
    assert boxes_of(reading) == {"b.jpg": [("cat", [1, 2, 3, 4])]}
    assert reasons_of(reading) == [
        ("boxes.csv", "malformed"),
        ("boxes.csv", "malformed"),
        ("a.jpg", "no_usable_annotation"),
    ]


def test_lines_that_declare_different_sizes_reject_the_image(tmp_path):
    rows = "a.jpg,100,80,cat,1,2,3,4\na.jpg,200,160,cat,5,6,7,8\nb.jpg,9,9,cat,1,2,3,4\n"
    reading = read(tmp_path, HEADER + rows)
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("a.jpg", "conflicting_sizes")]


def test_the_split_in_the_file_name_decides_between_images_of_one_name(tmp_path):
    images = ["images/test/a.jpg", "images/train/a.jpg"]
    files = {"test_labels.csv": "a.jpg,5,6,7,8,cat\n"}
    reading = read(tmp_path, "a.jpg,1,2,3,4,cat\n", "train_labels.csv", images, files)
    assert boxes_of(reading) == {
        images[0]: [("cat", [5, 6, 7, 8])],
        images[1]: [("cat", [1, 2, 3, 4])],
    }


def test_a_missing_image_is_not_replaced_by_one_of_its_basename(tmp_path):
    text = "a.jpg,1,2,3,4,cat\nb.jpg,1,2,3,4,cat\n"
    reading = read(tmp_path, text, images=["images/b.jpg", "other/a.jpg"])
    assert list(boxes_of(reading)) == ["images/a.jpg", "images/b.jpg"]


def test_impossible_boxes_are_left_to_the_repairs(tmp_path):
    reading = read(tmp_path, "a.jpg,9,9,3,nan,cat\na.jpg,-1,1e300,3,4,cat\n")
    assert len(reading.table.boxes) == 2
    assert reading.rejections == []


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("x/boxes.csv", ["x/a.jpg"]),
        ("x/boxes.csv", ["a.jpg"]),
        ("x/y/boxes.csv", ["a.jpg"]),
        ("data/boxes.csv", ["images/a.jpg"]),
        ("boxes.csv", ["photos/of/a.jpg"]),
    ],
)
def test_images_are_found_in_the_usual_places(tmp_path, path, images):
    reading = read(tmp_path, "a.jpg,1,2,3,4,cat\n", path, images)
    assert list(boxes_of(reading)) == images


def test_splits_are_in_the_file_names_or_folders(tmp_path):
    files = {"test.csv": "c.jpg,,,,,\n", "val/boxes.csv": "d.jpg,,,,,\n"}
    images = ["a.jpg", "c.jpg", "d.jpg"]
    reading = read(tmp_path, "a.jpg,,,,,\n", "train_labels.csv", images, files)
    assert list(splits_of(reading).values()) == ["train", "test", "val"]


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/x.jpg", "C:\\x.jpg"])
def test_a_path_that_leaves_the_raw_directory_is_rejected(tmp_path, path):
    reading = read(tmp_path, f"{path},1,2,3,4,cat\nb.jpg,1,2,3,4,cat\n")
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("boxes.csv", "outside_raw_dir")]


def test_another_encoding_is_malformed(tmp_path):
    with pytest.raises(SourceError, match=r"boxes\.csv: line 1: b'a\.jpg,.*' is not UTF-8"):
        read(tmp_path, b"a.jpg,1,2,3,\xe94,cat\n" + b"a.jpg,1,2,3,4,caf\xe9\n")


def test_a_line_in_another_encoding_spoils_no_other(tmp_path):
    reading = read(tmp_path, b"a.jpg,1,2,3,4,caf\xe9\nb.jpg,1,2,3,4,caf\xc3\xa9\n")
    assert boxes_of(reading) == {"b.jpg": [("café", [1, 2, 3, 4])]}
    assert reasons_of(reading) == [("boxes.csv", "malformed")]


def test_a_cell_without_end_is_malformed_and_earlier_lines_are_kept(tmp_path):
    reading = read(tmp_path, f'a.jpg,1,2,3,4,cat\nb.jpg,1,2,3,4,"{"x" * 200_000}')
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [("boxes.csv", "malformed")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "name,age\nx,1\n",
        "cat,0\n",
        "a.jpg,face,3,x,y,z\n",
        "frame,part_0_x,part_0_y\n1,2,3\n",
    ],
)
def test_tables_of_other_kinds_are_not_found(tmp_path, text):
    with pytest.raises(SourceNotFoundError, match="CSV: "):
        read(tmp_path, text)


def test_a_class_may_have_the_name_of_a_landmark_column(tmp_path):
    reading = read_sources(write_raw(tmp_path, {"x.csv": "a.jpg,1,2,3,4,image_name\n"}))
    assert boxes_of(reading) == {"a.jpg": [("image_name", [1, 2, 3, 4])]}
