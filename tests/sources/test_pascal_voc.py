import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw


def thing(name="cat", box=(1, 2, 30, 40), more=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def xml(*objects, filename="else.jpg", size=(50, 60)):
    declared = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{declared}{''.join(objects)}</annotation>"


def read(tmp_path, files, images=("JPEGImages/a.jpg",)):
    return read_sources(write_raw(tmp_path, files, images))


def test_boxes_are_counted_from_one_and_include_their_last_pixel(tmp_path):
    reading = read(tmp_path, {"Annotations/a.xml": xml(thing(), thing("ant", (2, 1, 2, 2)))})
    assert boxes_of(reading) == {
        "JPEGImages/a.jpg": [("cat", [0, 1, 30, 40]), ("ant", [1, 0, 2, 2])]
    }
    assert reading.table.category_names == ("ant", "cat")
    assert reading.table.declared_sizes.tolist() == [[50, 60]]


def test_coordinate_base_zero_takes_boxes_as_written(tmp_path):
    write_raw(tmp_path, {"Annotations/a.xml": xml(thing())}, ["JPEGImages/a.jpg"])
    reading = read_sources(tmp_path, [{"format": "pascal_voc", "coordinate_base": 0}])
    assert reading.table.boxes.tolist() == [[1, 2, 30, 40]]


def test_difficult_is_flagged(tmp_path):
    objects = [
        thing(more=f"<difficult>{flag}</difficult>", box=(1, 1, 9, 9 + flag)) for flag in (0, 1)
    ]
    reading = read(tmp_path, {"a.xml": xml(*objects, thing())}, ["a.jpg"])
    assert reading.table.flags.tolist() == [0, Flag.DIFFICULT, 0]


def test_parts_of_an_object_are_not_its_box(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>5</xmin></bndbox></part>"
    reading = read(tmp_path, {"a.xml": xml(thing(more=part))}, ["a.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("cat", [0, 1, 30, 40])]}


def test_an_image_without_objects_is_a_negative(tmp_path):
    assert boxes_of(read(tmp_path, {"a.xml": xml()}, ["a.jpg"])) == {"a.jpg": []}


@pytest.mark.parametrize(
    ("annotation", "images", "expected"),
    [
        ("Annotations/a.xml", ["JPEGImages/a.jpg", "JPEGImages/else.jpg"], "JPEGImages/a.jpg"),
        ("V/Annotations/a.xml", ["JPEGImages/a.jpg", "V/JPEGImages/a.png"], "V/JPEGImages/a.png"),
        ("x/a.xml", ["x/a.jpg", "y/a.jpg"], "x/a.jpg"),
        ("annotations/a.xml", ["images/a.jpg", "other/a.jpg"], "images/a.jpg"),
        ("annotations/deep/a.xml", ["photos/deep/a.JPEG"], "photos/deep/a.JPEG"),
        ("x/a.xml", ["x/else.jpg"], "x/else.jpg"),
        ("Annotations/a.xml", ["JPEGImages/else.jpg"], "JPEGImages/else.jpg"),
        ("Annotations/a.xml", ["JPEGImages/b.jpg"], "JPEGImages/a.jpg"),
        ("a.b.xml", ["a.b.jpg", "a.jpg"], "a.b.jpg"),
    ],
)
def test_the_image_has_the_name_of_the_xml_or_the_filename(tmp_path, annotation, images, expected):
    assert list(boxes_of(read(tmp_path, {annotation: xml(thing())}, images))) == [expected]


def test_image_sets_are_splits_and_lists_of_one_class_are_not(tmp_path):
    names = ["t", "v", "e", "both", "none"]
    main = "VOC/ImageSets/Main"
    files = {f"VOC/Annotations/{name}.xml": xml() for name in names} | {
        f"{main}/train.txt": "t\nboth\n",
        f"{main}/val.txt": "v.jpg\r\nboth\r\n\r\n",
        f"{main}/trainval.txt": "t\nv\nboth\nnone\n",
        f"{main}/test.txt": "e",
        f"{main}/cat_train.txt": "none 1\n",
    }
    reading = read(tmp_path, files, [f"VOC/JPEGImages/{name}.jpg" for name in names])
    splits = {path.split("/")[-1][:-4]: split for path, split in splits_of(reading).items()}
    assert splits == {"t": "train", "v": "val", "e": "test", "both": None, "none": None}
    assert reading.note_counts == {"ambiguous_split": 1}


def test_without_image_sets_the_folders_are_splits(tmp_path):
    names = ["train/a", "valid/b", "test/c"]
    reading = read(tmp_path, {f"{n}.xml": xml() for n in names}, [f"{n}.jpg" for n in names])
    assert splits_of(reading) == {
        "train/a.jpg": "train",
        "valid/b.jpg": "val",
        "test/c.jpg": "test",
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<annotation>",
        xml(thing())[:-3],
        "<html></html>",
        b"\x00\x01\x02",
        '<?xml version="1.0" encoding="no-such"?><annotation/>',
        '<!DOCTYPE a [<!ENTITY b "b">]><annotation>&b;</annotation>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>',
    ],
)
def test_only_a_damaged_or_hostile_file_and_its_image_are_rejected(tmp_path, content):
    files = {"a.xml": xml(thing()), "b.xml": content}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [("b.xml", "malformed"), ("b.jpg", "no_usable_annotation")]


@pytest.mark.parametrize(
    "bad",
    [
        thing(box=(1, 2, 3, "x")),
        thing(box=(1, 2, 3, "")),
        thing(name=" "),
        "<object><name>cat</name></object>",
        "<object></object>",
    ],
)
def test_only_a_bad_object_is_rejected(tmp_path, bad):
    reading = read(tmp_path, {"a.xml": xml(thing(), bad, thing("dog"))}, ["a.jpg"])
    assert [name for name, _ in boxes_of(reading)["a.jpg"]] == ["cat", "dog"]
    assert reasons_of(reading) == [("a.xml", "malformed")]
    assert "object 2" in reading.rejections[0].message


@pytest.mark.parametrize("size", [(0, 0), (0, 5), ("", ""), ("x", 3)])
def test_an_impossible_size_counts_as_not_declared(tmp_path, size):
    reading = read(tmp_path, {"a.xml": xml(size=size)}, ["a.jpg"])
    assert reading.table.declared_sizes.tolist() == [[0, 0]]


def test_impossible_boxes_are_left_to_the_repairs(tmp_path):
    reading = read(tmp_path, {"a.xml": xml(thing(box=(9, 9, -3, 10**300)))}, ["a.jpg"])
    assert reading.table.boxes.tolist() == [[8, 8, -3, float("inf")]]


@pytest.mark.parametrize("filename", ["../../x.jpg", "/etc/x.jpg", "C:\\x.jpg"])
def test_a_filename_that_leaves_the_raw_directory_is_rejected(tmp_path, filename):
    files = {"a.xml": xml(filename=filename), "b.xml": xml()}
    assert reasons_of(read(tmp_path, files, ["b.jpg"])) == [("a.xml", "outside_raw_dir")]


@pytest.mark.parametrize("filename", ["", "b.jpg", "else.jpg", "a"])
def test_a_missing_image_is_not_replaced_by_one_of_another_file_or_folder(tmp_path, filename):
    files = {"x/a.xml": xml(thing(), filename=filename), "x/b.xml": xml(filename="")}
    reading = read(tmp_path, files, ["x/b.jpg", "y/a.jpg"])
    assert boxes_of(reading) == {"x/a.jpg": [("cat", [0, 1, 30, 40])], "x/b.jpg": []}


def test_an_image_that_two_files_name_belongs_to_neither(tmp_path):
    files = {name: xml(thing(), filename="else.jpg") for name in ("a.xml", "b.xml")}
    assert list(boxes_of(read(tmp_path, files, ["else.jpg"]))) == ["a.jpg", "b.jpg"]


def test_the_image_of_a_damaged_file_is_not_given_to_another(tmp_path):
    files = {"a.xml": "<annotation>", "b.xml": xml(thing(), filename="a.jpg")}
    assert list(boxes_of(read(tmp_path, files, ["a.jpg"]))) == ["b.jpg"]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_filename_decides_between_endings(tmp_path, suffix):
    files = {"Annotations/1.xml": xml(filename=f"1{suffix}")}
    reading = read(tmp_path, files, ["JPEGImages/1.jpg", "JPEGImages/1.png"])
    assert list(boxes_of(reading)) == [f"JPEGImages/1{suffix}"]


def test_an_image_with_only_bad_objects_is_no_negative(tmp_path):
    files = {"a.xml": xml(thing(name="")), "b.xml": xml()}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"b.jpg": []}
    assert reasons_of(reading) == [("a.xml", "malformed"), ("a.jpg", "no_usable_annotation")]


def test_other_xml_is_not_found(tmp_path):
    with pytest.raises(SourceNotFoundError, match="Pascal VOC"):
        read(tmp_path, {"pom.xml": "<project></project>"})


def test_only_a_line_in_another_encoding_is_rejected_from_an_image_set(tmp_path):
    main = "V/ImageSets/Main"
    files = {f"V/Annotations/{name}.xml": xml() for name in "ab"}
    files |= {f"{main}/train.txt": b"\xff\xff\na\n", f"{main}/val.txt": "b\n"}
    reading = read(tmp_path, files, [f"V/JPEGImages/{name}.jpg" for name in "ab"])
    assert splits_of(reading) == {"V/JPEGImages/a.jpg": "train", "V/JPEGImages/b.jpg": "val"}
    assert reasons_of(reading) == [(f"{main}/train.txt", "malformed")]
