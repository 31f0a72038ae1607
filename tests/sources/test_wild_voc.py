"""Pascal VOC data sets as tools and people really write them."""

import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw
from tests.sources.test_pascal_voc import thing, xml

CVAT = "<annotations><image name='a.jpg' width='9' height='9'></image></annotations>"
DLIB = "<?xml version='1.0'?><dataset><images><image file='a.jpg'></image></images></dataset>"
NESTED = ("cam1/f0", "cam1/f1", "cam2/f0", "cam2/f1")
MAIN = "ImageSets/Main"


def read(tmp_path, files, images, sources=None):
    return read_sources(write_raw(tmp_path, files, images), sources)


def read_names(tmp_path, names, lists, folder="Annotations", images="JPEGImages", content=None):
    files = {f"{folder}/{name}.xml": content or xml(thing()) for name in names}
    return read(tmp_path, files | lists, [f"{images}/{name}.jpg" for name in names])


def details_of(reading):
    return {found.path: found.details for found in reading.table.annotation_sets}


# Coordinates


@pytest.mark.parametrize("text", ["0", "20.5", "191.0", "2e1", "-0.5", " 7.0 "])
@pytest.mark.parametrize("side", [0, 3])
def test_a_zero_or_fraction_anywhere_makes_the_data_set_count_from_zero(tmp_path, text, side):
    corners = [5, 6, 195, 196]
    corners[side] = text
    files = {"Annotations/a.xml": xml(thing()), "Annotations/b.xml": xml(thing(box=corners))}
    reading = read(tmp_path, files, ["JPEGImages/a.jpg", "JPEGImages/b.jpg"])
    assert reading.table.boxes[0].tolist() == [1, 2, 30, 40]
    assert reading.table.boxes[1, side] == float(text)
    assert details_of(reading) == {
        "Annotations/*.xml": f"coordinates count from 0: Annotations/b.xml has {text.strip()}"
    }


@pytest.mark.parametrize("text", ["1", "nan", "inf", "-1", "007", "+3"])
def test_other_numbers_do_not_change_the_base(tmp_path, text):
    files = {"a.xml": xml(thing()), "b.xml": xml(thing(box=(text, 6, 195, 196)))}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reading.table.boxes[0].tolist() == [0, 1, 30, 40]
    assert details_of(reading)["*.xml"].startswith("coordinates count from 1")


@pytest.mark.parametrize("base", [0, 1])
def test_coordinate_base_wins(tmp_path, base):
    sources = [{"format": "pascal_voc", "coordinate_base": base}]
    reading = read(tmp_path, {"a.xml": xml(thing(box=(0.5, 2, 3, 4)))}, ["a.jpg"], sources)
    assert reading.table.boxes.tolist() == [[0.5 - base, 2 - base, 3, 4]]
    assert "coordinate_base" in details_of(reading)["*.xml"]


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("Annotations/cam1/", "Annotations/cam2/", True),
        ("Annotations/", "Annotations/cam2/", True),
        ("train/", "valid/", True),
        ("train/Annotations/", "valid/Annotations/", True),
        ("images/train/", "images/test/", True),
        ("VOC2007/Annotations/", "VOC2012/Annotations/", False),
        ("a/train/", "b/train/", False),
    ],
)
def test_folders_of_one_data_set_share_their_base(tmp_path, first, second, together):
    files = {f"{first}a.xml": xml(thing()), f"{second}b.xml": xml(thing(box=(0, 2, 3, 4)))}
    details = details_of(read(tmp_path, files, [f"{first}a.jpg", f"{second}b.jpg"]))
    assert details[f"{second}*.xml"].startswith("coordinates count from 0")
    assert details[f"{first}*.xml"].startswith(f"coordinates count from {0 if together else 1}")


def test_the_few_fractions_of_the_voc_challenge_do_not_count(tmp_path):
    source = "<source><database>The VOC2011 Database</database></source>"
    content = xml(thing(box=("45.7", 2, 30, 40))).replace("<filename>", f"{source}<filename>")
    files = {"Annotations/2011_003353.xml": content, "other/Annotations/mine.xml": content}
    images = ["JPEGImages/2011_003353.jpg", "other/JPEGImages/mine.jpg"]
    details = details_of(read(tmp_path, files, images))
    assert details["Annotations/*.xml"].startswith("coordinates count from 1")
    assert details["other/Annotations/*.xml"].startswith("coordinates count from 0")


# Objects and files


@pytest.mark.parametrize(
    ("more", "flags"),
    [
        ("<ignore>1</ignore>", Flag.IGNORED),
        ("<ignore>0</ignore>", 0),
        ("<difficult>true</difficult>", Flag.DIFFICULT),
        ("<difficult>Unspecified</difficult>", 0),
        ("<difficult>1</difficult><ignore>1</ignore>", Flag.DIFFICULT | Flag.IGNORED),
    ],
)
def test_ignore_and_difficult_are_flags(tmp_path, more, flags):
    reading = read(tmp_path, {"a.xml": xml(thing(more=more))}, ["a.jpg"])
    assert reading.table.flags.tolist() == [flags]


@pytest.mark.parametrize("key", ["score", "confidence"])
def test_an_object_with_a_score_is_a_prediction(tmp_path, key):
    predicted = thing("dog", more=f"<{key}>0.87</{key}>")
    files = {"a.xml": xml(thing(), predicted), "b.xml": xml(predicted)}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("cat", [0, 1, 30, 40])]}
    assert reasons_of(reading) == [
        ("a.xml", "prediction"),
        ("b.xml", "prediction"),
        ("b.jpg", "no_usable_annotation"),
    ]


@pytest.mark.parametrize("other", [CVAT, DLIB, CVAT[:40], DLIB[:60]])
def test_xml_files_of_cvat_and_dlib_are_neither_claimed_nor_rejected(tmp_path, other):
    files = {"a.xml": xml(thing()), "many.xml": other}
    reading = read(tmp_path, files, ["a.jpg"], ["pascal_voc"])
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reading.rejections == []
    with pytest.raises(SourceNotFoundError, match="nothing found of the format pascal_voc"):
        read(tmp_path / "only", {"many.xml": other}, ["a.jpg"], ["pascal_voc"])


# Layouts


@pytest.mark.parametrize(
    ("annotation", "image"),
    [
        ("Annotations/cam1/f0.xml", "JPEGImages/cam1/f0.jpg"),
        ("Annotations/a/b/f0.xml", "JPEGImages/a/b/f0.jpg"),
        ("data/ANNOTATIONS/f0.xml", "data/jpegimages/f0.jpg"),
        ("data/annotations/f0.xml", "data/Images/f0.jpg"),
        ("data/xml/f0.xml", "data/img/f0.png"),
        ("labels/train/f0.xml", "images/train/f0.jpg"),
        ("train/annotations/f0.xml", "train/images/f0.jpg"),
        ("annotations/train/f0.xml", "images/f0.jpg"),
        ("annotations/xmls/f0.xml", "images/f0.jpg"),
        ("annotations/f0.xml", "images/train/f0.jpg"),
        ("set/f0.xml", "set/images/f0.jpg"),
        ("set/xml/f0.xml", "set/f0.jpg"),
        ("marks/cam1/f0.xml", "pictures_of_2020/cam1/f0.jpg"),
    ],
)
def test_usual_and_mirrored_folders_are_found(tmp_path, annotation, image):
    files = {annotation: xml(thing(), filename="cam1/f0.jpg")}
    assert list(boxes_of(read(tmp_path, files, [image]))) == [image]


@pytest.mark.parametrize("images", ["JPEGImages", "pictures_of_2020"])
def test_equal_names_in_subfolders_stay_apart(tmp_path, images):
    files = {
        f"Annotations/{name}.xml": xml(thing(name.replace("/", "-")), filename=f"{name}.jpg")
        for name in NESTED
    }
    reading = read(tmp_path, files, [f"{images}/{name}.jpg" for name in NESTED])
    found = {path: boxes[0][0] for path, boxes in boxes_of(reading).items()}
    assert found == {f"{images}/{name}.jpg": name.replace("/", "-") for name in NESTED}


def test_a_missing_image_of_a_subfolder_is_not_taken_from_another(tmp_path):
    files = {f"Annotations/{name}.xml": xml(thing()) for name in NESTED}
    images = [f"JPEGImages/{name}.jpg" for name in NESTED if name != "cam2/f0"]
    reading = read(tmp_path, files, [*images, "JPEGImages/f0.jpg"])
    assert "JPEGImages/cam2/f0.jpg" in boxes_of(reading)
    assert "JPEGImages/f0.jpg" not in boxes_of(reading)


def test_a_flat_image_that_two_subfolders_describe_differently_belongs_to_neither(tmp_path):
    files = {
        "Annotations/cam1/f0.xml": xml(thing("cat")),
        "Annotations/cam2/f0.xml": xml(thing("dog")),
        "x/b.xml": xml(thing()),
    }
    reading = read(tmp_path, files, ["JPEGImages/f0.jpg", "x/b.jpg"])
    assert list(boxes_of(reading)) == ["x/b.jpg"]
    assert reasons_of(reading) == [
        ("Annotations/cam1/f0.xml", "ambiguous_image"),
        ("Annotations/cam2/f0.xml", "ambiguous_image"),
    ]
    assert "may be JPEGImages/f0.jpg, but Annotations/cam2/f0.xml" in reading.rejections[0].message


def test_copies_of_an_annotation_in_two_folders_both_have_its_image(tmp_path):
    names = ("annotations/c0", "annotations/train/c0")
    reading = read(tmp_path, {f"{n}.xml": xml(thing()) for n in names}, ["images/c0.jpg"])
    assert boxes_of(reading) == {"images/c0.jpg": [("cat", [0, 1, 30, 40])]}
    assert reading.rejections == []


def test_only_the_folder_that_the_user_names_is_searched(tmp_path):
    files = {"Annotations/a.xml": xml(thing())}
    sources = [{"format": "pascal_voc", "images": "big"}]
    reading = read(tmp_path, files, ["JPEGImages/a.jpg", "big/x/a.jpg"], sources)
    assert list(boxes_of(reading)) == ["big/x/a.jpg"]


def test_a_filename_of_another_machine_is_found_by_its_last_part(tmp_path):
    files = {"Annotations/1.xml": xml(thing(), filename="C:\\data\\JPEGImages\\pic.jpg")}
    assert list(boxes_of(read(tmp_path, files, ["JPEGImages/pic.jpg"]))) == ["JPEGImages/pic.jpg"]


# Splits


@pytest.mark.parametrize(
    "pattern",
    [
        "{}",
        "{} 1",
        "{}  -1",
        "{}.jpg",
        "{}.png",
        "{}.jpg 0",
        "JPEGImages/{}.jpg",
        "data/VOCdevkit/JPEGImages/{}.jpg",
        "C:\\VOC\\JPEGImages\\{}.jpg",
        "/content/JPEGImages/{}",
        "./JPEGImages/{}.jpg ./Annotations/{}.xml",
        "Annotations/{}.xml",
    ],
)
def test_lines_of_split_lists_are_matched_by_the_end_of_their_path(tmp_path, pattern):
    lists = {
        f"{MAIN}/train.txt": "".join(pattern.format(n, n) + "\n" for n in NESTED[:2]),
        f"{MAIN}/val.txt": "".join(pattern.format(n, n) + "\r\n" for n in NESTED[2:]),
    }
    reading = read_names(tmp_path, NESTED, lists)
    assert list(splits_of(reading).values()) == ["train", "train", "val", "val"]
    assert reading.notes == []


@pytest.mark.parametrize("prefix", ["", "data/other/", "old_images/", "../JPEGImages/"])
def test_lists_of_a_flat_folder_may_have_any_prefix(tmp_path, prefix):
    lists = {f"{MAIN}/train.txt": f"{prefix}f0\n", f"{MAIN}/val.txt": f"{prefix}f1\n"}
    assert list(splits_of(read_names(tmp_path, ["f0", "f1"], lists)).values()) == ["train", "val"]


def test_names_with_spaces_that_end_like_flags_are_names(tmp_path):
    lists = {f"{MAIN}/train.txt": "cat 1\n", f"{MAIN}/val.txt": "cat 0 -1\n"}
    reading = read_names(tmp_path, ["cat 1", "cat 0"], lists)
    assert splits_of(reading) == {"JPEGImages/cat 0.jpg": "val", "JPEGImages/cat 1.jpg": "train"}


@pytest.mark.parametrize("place", ["imagesets/main", "ImageSets", "IMAGESETS/Main"])
@pytest.mark.parametrize("val", ["val", "VAL", "valid"])
def test_lists_are_found_in_any_case_and_without_main(tmp_path, place, val):
    lists = {f"{place}/train.txt": "f0\n", f"{place}/{val}.txt": "f1\n"}
    assert list(splits_of(read_names(tmp_path, ["f0", "f1"], lists)).values()) == ["train", "val"]


def test_lists_next_to_the_annotations_are_found(tmp_path):
    lists = {
        "train.txt": "./JPEGImages/f0.jpg ./Annotations/f0.xml\n",
        "val.txt": "./JPEGImages/f1.jpg ./Annotations/f1.xml\n",
    }
    reading = read_names(tmp_path, ["f0", "f1"], lists)
    assert list(splits_of(reading).values()) == ["train", "val"]
    assert reading.notes == []


def test_lists_of_other_images_next_to_the_annotations_are_ignored(tmp_path):
    reading = read_names(tmp_path, ["f0", "f1"], {"train.txt": "g0\ng1\n", "val.txt": "g2\n"})
    assert list(splits_of(reading).values()) == [None, None]
    assert reading.notes == []


def test_the_list_of_a_subfolder_does_not_divide_another(tmp_path):
    lists = {f"{MAIN}/train.txt": "cam1/f0\ncam3/f1\n", f"{MAIN}/val.txt": "cam2/f1\n"}
    reading = read_names(tmp_path, ("cam1/f0", "cam2/f1"), lists)
    assert list(splits_of(reading).values()) == ["train", "val"]
    (note,) = reading.notes
    assert (note.kind, note.count) == ("split_lines_without_images", 1)
    assert "1 of its 2 lines name no annotated image; the first is 'cam3/f1'" in note.message


def test_a_list_that_names_no_image_is_noted_with_its_first_line_and_the_nearest_image(tmp_path):
    lists = {f"{MAIN}/train.txt": "frame_0001\nframe_0002\n", f"{MAIN}/val.txt": "x\n"}
    reading = read_names(tmp_path, ["frame-0001", "other"], lists)
    assert list(splits_of(reading).values()) == [None, None]
    assert [note.kind for note in reading.notes] == ["split_list_without_images"] * 2
    message = reading.notes[0].message
    assert "none of its 2 lines" in message
    assert "'frame_0001'; the nearest image is JPEGImages/frame-0001.jpg" in message


def test_a_list_that_names_no_image_leaves_the_split_to_the_folders(tmp_path):
    names = ["train/a", "valid/b"]
    reading = read_names(tmp_path, names, {f"{MAIN}/train.txt": "x\n"})
    assert list(splits_of(reading).values()) == ["train", "val"]
    assert reading.note_counts == {"split_list_without_images": 1}


@pytest.mark.parametrize("name", ["default", "trainval", "person_train", "train_person"])
def test_other_lists_divide_nothing(tmp_path, name):
    reading = read_names(tmp_path, ["train/a", "valid/b"], {f"{MAIN}/{name}.txt": "train/a\n"})
    assert list(splits_of(reading).values()) == ["train", "val"]
    assert reading.notes == []


def test_the_folders_of_the_images_are_splits_too(tmp_path):
    files = {f"annotations/{name}.xml": xml(thing()) for name in "ab"}
    reading = read(tmp_path, files, ["images/train/a.jpg", "images/val/b.jpg"])
    assert list(splits_of(reading).values()) == ["train", "val"]


def test_lists_of_two_data_sets_divide_only_their_own(tmp_path):
    files, images = {}, []
    for year, first in (("2007", "train"), ("2012", "val")):
        second = "val" if first == "train" else "train"
        files |= {f"VOC{year}/Annotations/{name}.xml": xml(thing()) for name in "ab"}
        files |= {f"VOC{year}/{MAIN}/{first}.txt": "a\n", f"VOC{year}/{MAIN}/{second}.txt": "b\n"}
        images += [f"VOC{year}/JPEGImages/{name}.jpg" for name in "ab"]
    assert list(splits_of(read(tmp_path, files, images)).values()) == [
        *("train", "val"),
        *("val", "train"),
    ]
