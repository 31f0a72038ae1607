import tracemalloc

import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import cvat_xml, read_sources
from processing.sources.raw_directory import RawDirectory
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw


def cvat(*images):
    """Returns a file as CVAT writes it."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        "  <meta><task><id>1</id><name>t</name><labels><label><name>cat</name></label></labels>"
        f"</task></meta>\n{''.join(images)}</annotations>\n"
    )


def image(*shapes, name="a.jpg", **more):
    attributes = {"id": 0, "name": name} | more | {"width": 640, "height": 480}
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"  <image {written}>\n{''.join(shapes)}  </image>\n"


def shape(tag, label="cat", content="", **more):
    attributes = {"label": label, "source": "manual", "occluded": 0} | more | {"z_order": 0}
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"    <{tag} {written}>{content}</{tag}>\n"


def box(label="cat", xtl="10.50", **more):
    return shape("box", label, xtl=xtl, ytl="20.00", xbr="30.00", ybr="50.00", **more)


def element(label, points="", outside=0, occluded=0):
    return (
        f'<points label="{label}" source="manual" outside="{outside}" occluded="{occluded}" '
        f'points="{points}"></points>'
    )


def read(tmp_path, content, path="annotations.xml", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (box(), [10.5, 20, 30, 50]),
        (shape("polygon", points="10.00,20.00;30.00,25.50;20.00,60.00"), [10, 20, 30, 60]),
        (shape("ellipse", cx="50", cy="60", rx="10", ry="4"), [40, 56, 60, 64]),
        (shape("ellipse", cx="50", cy="60", rx="10", ry="4", rotation="90.00"), [46, 50, 54, 70]),
        (shape("mask", rle="1, 2", left="10", top="20", width="3", height="4"), [10, 20, 13, 24]),
    ],
)
def test_a_shape_counts_with_its_bounding_box(tmp_path, written, expected):
    reading = read(tmp_path, cvat(image(written)))
    assert boxes_of(reading) == {"a.jpg": [("cat", expected)]}
    assert reading.table.declared_sizes.tolist() == [[480, 640]]
    assert reading.table.entries.tolist() == [1]
    assert reading.rejections == []
    assert reading.notes == []


def test_a_rotated_box_counts_with_the_box_around_it_and_a_note(tmp_path):
    reading = read(tmp_path, cvat(image(box(xtl="10", rotation="90.00"))))
    assert boxes_of(reading) == {"a.jpg": [("cat", [5, 25, 35, 45])]}
    assert reading.note_counts == {"rotated_box": 1}


def test_an_image_without_shapes_is_a_negative_and_tags_are_skipped(tmp_path):
    content = cvat(image(box("dog"), box()), image(shape("tag"), name="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading)["b.jpg"] == []
    assert reading.table.category_names == ("cat", "dog")


def test_subsets_are_splits_and_names_have_folders(tmp_path):
    images = [
        image(box(), name="x/a.jpg", subset="Train", task_id=1),
        image(box(), name="x/b.jpg", subset="Validation", task_id=2),
        image(box(), name="x/c.jpg", subset="default", task_id=3),
    ]
    names = ["images/x/a.jpg", "images/x/b.jpg", "images/x/c.jpg"]
    reading = read(tmp_path, cvat(*images), images=names)
    assert list(splits_of(reading).items()) == list(zip(names, ["train", "val", None], strict=True))
    assert "subsets Train 1" in reading.table.annotation_sets[0].details


def test_images_of_a_project_lie_in_the_folders_of_their_subsets(tmp_path):
    images = [image(box(label), subset=label) for label in ("Train", "Validation")]
    names = ["images/Train/a.jpg", "images/Validation/a.jpg"]
    reading = read(tmp_path, cvat(*images), images=names)
    assert {path: found[0][0] for path, found in boxes_of(reading).items()} == {
        names[0]: "Train",
        names[1]: "Validation",
    }
    assert reading.rejections == []


def test_a_skeleton_is_one_object_with_named_points(tmp_path):
    points = element("10", "5.00,6.00", occluded=1) + element("9", "3.50,4.00")
    skeleton = shape("skeleton", "person", points + element("1", "0.00,0.00", outside=1))
    reading = read(tmp_path, cvat(image(skeleton)))
    assert boxes_of(reading) == {"a.jpg": [("person", None)]}
    assert reading.table.keypoint_names == ("1", "9", "10")
    assert points_of(reading) == {"a.jpg": [[[0, 0, 0], [3.5, 4, 2], [5, 6, 1]]]}
    assert reading.table.flags.tolist() == [Flag.NO_BOX]


@pytest.mark.parametrize(
    ("label", "group", "joined"),
    [("cat", 0, True), ("person", 0, False), ("person", 3, True)],
)
def test_a_skeleton_belongs_to_the_box_of_its_group_or_category(tmp_path, label, group, joined):
    more = {"group_id": group} if group else {}
    skeleton = shape("skeleton", label, element("l", "12,25") + element("r", "20,25"), **more)
    reading = read(tmp_path, cvat(image(box(**more), skeleton)))
    points = [[12, 25, 2], [20, 25, 2]]
    expected = [points] if joined else [[], points]
    assert points_of(reading) == {"a.jpg": expected}


def test_points_of_one_shape_are_one_object(tmp_path):
    shapes = [shape("points", "face", points="1,2;3,4;5,6"), box()]
    reading = read(tmp_path, cvat(image(*shapes)))
    assert points_of(reading) == {"a.jpg": [[], [[1, 2, 2], [3, 4, 2], [5, 6, 2]]]}
    assert reading.table.keypoint_names == ()


def test_single_points_are_named_by_their_label(tmp_path):
    shapes = [shape("points", "r", points="3,4", occluded=1), shape("points", "l", points="1,2")]
    reading = read(tmp_path, cvat(image(*shapes)))
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2], [3, 4, 1]]]}
    assert reading.table.keypoint_names == ("l", "r")


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (shape("polyline", points="1,2;3,4"), "a polyline has no box"),
        (shape("cuboid", xtl1="1"), "a cuboid has no box"),
        (box(""), "expected a label"),
        (box(xtl="left"), "expected the numbers xtl"),
        (shape("polygon", points="1,2;3"), "expected points as x,y;x,y"),
        (shape("polygon", points="1,2;3,4"), "at least 3 points"),
        (shape("ellipse", cx="1", cy="2", rx="-3", ry="4"), "positive radii"),
        (shape("skeleton", content=element("l", "1,2", outside=1)), "all are outside"),
        (shape("skeleton", content=element("l", "1,2") * 2), "different labels"),
        (shape("skeleton", content=element("l", "1,2;3,4")), "expected one point 'l'"),
        (box(score="0.7"), "prediction"),
    ],
)
def test_an_unusable_shape_costs_only_itself(tmp_path, bad, found):
    content = cvat(image(bad, box()), image(bad, name="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("cat", [10.5, 20, 30, 50])]}
    first = reading.rejections[0]
    assert first.message.startswith("annotations.xml: a.jpg: shape 1: ")
    assert found in first.message
    assert reasons_of(reading)[2:] == [("b.jpg", "no_usable_annotation")]


def test_tracks_of_a_video_are_refused_by_name(tmp_path):
    track = '<track id="0" label="cat"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    with pytest.raises(SourceError, match=r"unsupported \(1\).*tracks of a video"):
        read(tmp_path, cvat(track))


def test_a_file_next_to_pascal_voc_is_not_taken_for_it(tmp_path):
    voc = (
        "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax>"
        "<ymax>4</ymax></bndbox></object></annotation>"
    )
    files = {"annotations.xml": cvat(image(box())), "voc/b.xml": voc}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "voc/b.jpg"]))
    assert reading.rejections == []
    assert [one.format for one in reading.table.annotation_sets] == ["pascal_voc", "cvat_xml"]


def test_other_files_with_annotations_are_not_found(tmp_path):
    with pytest.raises(SourceNotFoundError, match="CVAT"):
        read(tmp_path, "<annotations><note/></annotations>")


def test_a_file_cut_short_is_rejected_as_a_whole(tmp_path):
    content = cvat(image(box()), image(box(), name="b.jpg")).partition("b.jpg")[0]
    with pytest.raises(SourceError, match="interrupted"):
        read(tmp_path, content)


def test_the_elements_of_earlier_images_are_freed(tmp_path):
    polygon = shape("polygon", points="1,2;3,4;5,6;" * 500 + "7,8")

    def peak(count):
        images = [image(polygon, name=f"{i}.jpg") for i in range(count)]
        raw = RawDirectory(write_raw(tmp_path / str(count), {"x.xml": cvat(*images)}))
        tracemalloc.start()
        cvat_xml.read_file(raw, "x.xml")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # 120 more images have 720 kB of polygons.
    assert peak(150) - peak(30) < 360_000


@pytest.mark.parametrize("rotation", ["inf", "nan", "-inf"])
@pytest.mark.parametrize("tag", ["box", "ellipse"])
def test_a_rotation_that_is_no_angle_costs_only_its_shape(tmp_path, tag, rotation):
    ellipse = shape("ellipse", cx="50", cy="60", rx="10", ry="4", rotation=rotation)
    bad = box(rotation=rotation) if tag == "box" else ellipse
    reading = read(tmp_path, cvat(image(bad, box())))
    assert boxes_of(reading) == {"a.jpg": [("cat", [10.5, 20, 30, 50])]}
    assert reasons_of(reading) == [("annotations.xml", "malformed")]
