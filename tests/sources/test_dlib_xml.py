import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw


def dlib(*images):
    """Returns a file as imglab writes it."""
    return (
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n"
        "<?xml-stylesheet type='text/xsl' href='image_metadata_stylesheet.xsl'?>\n"
        "<dataset>\n<name>imglab dataset</name>\n<comment>Created by imglab tool.</comment>\n"
        f"<images>\n{''.join(images)}</images>\n</dataset>"
    )


def image(*boxes, file="a.jpg", size=""):
    return f"  <image file='{file}'{size}>\n{''.join(boxes)}  </image>\n"


def box(content="", left=10, **more):
    attributes = {"top": 20, "left": left, "width": 30, "height": 40} | more
    written = " ".join(f"{name}='{value}'" for name, value in attributes.items())
    return f"    <box {written}>{content}</box>\n"


def part(name, x, y):
    return f"<part name='{name}' x='{x}' y='{y}'/>"


def read(tmp_path, content, path="faces.xml", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


LABEL = "<label>face</label>"


def test_boxes_with_labels_and_negatives_are_read(tmp_path):
    size = " width='640' height='480'"
    content = dlib(image(box(LABEL), box("<label>cat</label>"), size=size), image(file="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {
        "a.jpg": [("face", [10, 20, 40, 60]), ("cat", [10, 20, 40, 60])],
        "b.jpg": [],
    }
    assert reading.table.category_names == ("cat", "face")
    assert reading.table.declared_sizes.tolist() == [[480, 640], [0, 0]]
    assert reading.table.entries.tolist() == [1, 2]
    assert reading.rejections == []
    assert reading.notes == []


def test_parts_are_sorted_by_name_and_missing_ones_are_not_labelled(tmp_path):
    first = LABEL + part("10", 5, 6) + part("9", 3, 4)
    content = dlib(image(box(first), box(LABEL + part("9", 70, 8), left=50)))
    reading = read(tmp_path, content)
    assert reading.table.keypoint_names == ("9", "10")
    assert points_of(reading) == {
        "a.jpg": [[[3, 4, 2], [5, 6, 2]], [[70, 8, 2], [0, 0, 0]]],
    }


def test_ignored_and_difficult_boxes_are_flagged(tmp_path):
    boxes = [box(LABEL, left=i, **{name: 1}) for i, name in enumerate(("ignore", "difficult"))]
    boxes += [box(LABEL, left=5, pose=3, occluded=1, truncated=1)]
    flags = read(tmp_path, dlib(image(*boxes))).table.flags.tolist()
    assert flags == [Flag.IGNORED, Flag.DIFFICULT, Flag.NONE]


def test_boxes_without_any_label_become_objects_with_a_note_also_in_two_files(tmp_path):
    files = {
        "labels_train.xml": dlib(image(box())),
        "labels_test.xml": dlib(image(box(), file="b.jpg")),
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert [names[0][0] for names in boxes_of(reading).values()] == ["object", "object"]
    assert reading.note_counts["no_class_names"] == 2
    assert splits_of(reading)["b.jpg"] == "test"


@pytest.mark.parametrize(
    ("bad", "reason", "found"),
    [
        (box(), "malformed", "no label"),
        (box(LABEL, width=""), "malformed", "expected the numbers"),
        (box(LABEL, width="wide"), "malformed", "wide"),
        ("<box top='1' left='2' width='3'><label>face</label></box>", "malformed", "height"),
        (box(LABEL + part("1", 1, 2) + part("1", 3, 4)), "malformed", "different names"),
        (box(LABEL + part("", 1, 2)), "malformed", "different names"),
        (box(LABEL + part("1", "x", 2)), "malformed", "expected the numbers x, y"),
        (box(LABEL, detection_score=0.4), "prediction", "detection_score (0.4)"),
    ],
)
def test_an_unusable_box_costs_only_itself(tmp_path, bad, reason, found):
    content = dlib(image(bad, box(LABEL)), image(bad, file="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60])]}
    first = reading.rejections[0]
    assert first.reason == reason
    assert first.message.startswith("faces.xml: a.jpg: box 1: ")
    assert found in first.message
    assert reasons_of(reading)[2:] == [("b.jpg", "no_usable_annotation")]


def test_an_image_without_a_name_is_rejected(tmp_path):
    content = dlib("<image><box/></image>", image(box(LABEL)))
    reading = read(tmp_path, content)
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reading.rejections[0].message.startswith("faces.xml: image 1: ")


@pytest.mark.parametrize("end", ["", "<images>", "&undefined;</images></dataset>"])
def test_a_damaged_file_is_rejected_as_a_whole(tmp_path, end):
    content = dlib(image(box(LABEL))).partition("</images>")[0] + end
    with pytest.raises(SourceError, match=r"malformed \(1\): faces.xml: not a readable XML"):
        read(tmp_path, content)


def test_entities_are_never_expanded(tmp_path):
    bomb = '<!DOCTYPE dataset [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    content = dlib(image(box("<label>&b;</label>"))).replace("<dataset>", f"{bomb}<dataset>")
    with pytest.raises(SourceError, match="EntitiesForbidden"):
        read(tmp_path, content)


def test_other_files_with_a_dataset_are_not_found(tmp_path):
    with pytest.raises(SourceNotFoundError, match="imglab"):
        read(tmp_path, "<dataset><rows/></dataset>")


def test_the_search_for_the_root_takes_no_time_on_a_hostile_file(tmp_path):
    content = "<?a?>" * 3000 + " " * 1000
    with pytest.raises(SourceNotFoundError):
        read(tmp_path, content)
