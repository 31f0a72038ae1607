import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import Flag, Instance, TableRow, table_from_rows
from processing.core.coordinates import stored_to_upright
from processing.core.errors import SourceError, SourceNotFoundError
from processing.imaging.photo import ImageHeader
from processing.imaging.repairs import repair
from processing.sources import FORMATS, detect, read_sources
from processing.sources.merging import merge_images
from processing.sources.raw_directory import RawDirectory
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    points_of,
    reasons_of,
    splits_of,
    write_raw,
)

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 20}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "face"}],
}
XML = (
    "<annotation><size><width>{}</width><height>{}</height></size><object><name>face</name><bndbox>"
    "<xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax></bndbox></object></annotation>"
)
VOC = XML.format(20, 10)
APPLE = {"label": "cat", "coordinates": {"x": 2, "y": 2, "width": 2, "height": 2}}
PTS = "n_points: 1\n{\n3 4\n}\n"


def test_each_format_is_found_by_its_own_files(tmp_path):
    files = {
        "c/coco.json": COCO,
        "w/wider_face_split/wider_face_val_bbx_gt.txt": "x/a.jpg\n0\n",
        "v/Annotations/a.xml": VOC,
        "y/labels/a.txt": "0 .5 .5 .1 .1\n",
        "p/a.pts": PTS,
        "m/boxes.csv": "a.jpg,1,2,3,4,cat\n",
        "l/a.json": {"shapes": [], "imagePath": "a.jpg"},
        "g/via.json": {"a.jpg1": {"filename": "a.jpg", "regions": [], "file_attributes": {}}},
        "k/apple.json": [{"image": "a.jpg", "annotations": [APPLE]}],
        "t/cvat.xml": "<annotations><image name='a.jpg'></image></annotations>",
        "d/dlib.xml": "<dataset><images><image file='a.jpg'></image></images></dataset>",
        "e/list_bbox_celeba.txt": "1\nimage_id x_1 y_1 width height\na.jpg 1 2 3 4\n",
        "f/list_98pt_rect_attr_train.txt": f"{'1 2 ' * 98}1 2 3 4 0 0 0 0 0 0 a.jpg\n",
        "h/_annotations.txt": "a.jpg 1,2,3,4,cat\n",
        "r/label.txt": "# a.jpg\n1 2 3 4\n",
    }
    images = ["y/images/a.jpg", "p/a.jpg", "v/a.jpg", "e/img_celeba/a.jpg"]
    raw = RawDirectory(write_raw(tmp_path, files, images))
    found = {source.name: paths for source, paths in detect(raw)}
    paths = ["y/labels" if path == "y/labels/a.txt" else path for path in files]
    assert found == {name: [path] for name, path in zip(found, paths, strict=True)}
    assert list(found) == [source.name for source in FORMATS]
    assert len(read_sources(tmp_path).table) == len(files)


def test_annotations_of_one_image_in_several_formats_are_merged(tmp_path):
    files = {"coco.json": COCO, "a.xml": VOC, "a.pts": PTS, "boxes.csv": "b.jpg,1,2,3,4,cat\n"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert boxes_of(reading) == {
        "a.jpg": [("face", [1, 2, 4, 6]), ("face", None)],
        "b.jpg": [("cat", [1, 2, 3, 4])],
    }
    assert points_of(reading)["a.jpg"] == [[], [[2, 3, 2]]]
    assert reading.table.declared_sizes.tolist() == [[10, 20], [0, 0]]
    assert reading.table.category_names == ("face", "cat")
    assert reading.note_counts == {
        "duplicate_image": 1,
        "merged_sets": 1,
        "duplicate_box": 1,
        "unlisted_images": 1,
    }


def test_only_the_named_sources_are_read(tmp_path):
    write_raw(tmp_path, {"x/coco.json": COCO, "y/coco.json": COCO, "z.csv": "b.jpg,,,,,\n"})
    assert list(boxes_of(read_sources(tmp_path, ["csv_manifest"]))) == ["b.jpg"]
    everything = read_sources(tmp_path, ["coco", "csv_manifest"])
    assert list(boxes_of(everything)) == ["b.jpg", "x/a.jpg", "y/a.jpg"]
    for path in ("y", "y/", "y/coco.json", "./y", "y\\coco.json"):
        reading = read_sources(tmp_path, [{"format": "coco", "path": path}])
        assert list(boxes_of(reading)) == ["y/a.jpg"]


def test_a_folder_does_not_include_another_with_a_longer_name(tmp_path):
    write_raw(tmp_path, {"x/coco.json": COCO, "xy/coco.json": COCO})
    reading = read_sources(tmp_path, [{"format": "coco", "path": "x"}])
    assert list(boxes_of(reading)) == ["x/a.jpg"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            ["coko"],
            r"'coko': expected one of coco, wider_face, pascal_voc, yolo, ibug_pts, csv_man",
        ),
        ([{"path": "x"}], r"None: expected one of coco"),
        ([{"format": "coco", "coordinate_base": 1}], "coco: unknown key 'coordinate_base'.*path"),
        ([{"format": "pascal_voc", "base": 1}], r"'base', expected one of .*, coordinate_base"),
        ([{"format": "pascal_voc", "coordinate_base": 2}], "coordinate_base is 2, expected 0 or 1"),
        ([{"format": "coco", "path": "no"}], r"no: nothing found of the format coco.*json"),
        *(
            (
                [{"format": "coco", key: path}],
                rf"coco: {key}='.*' leads out of the raw directory: expected a path relative to it",
            )
            for key in ("path", "images")
            for path in ("/data/raw/coco.json", "..", "../raw", "x/../../raw", "..\\raw")
        ),
        (["pascal_voc"], r"nothing found of the format pascal_voc.*xml"),
    ],
)
def test_an_impossible_request_lists_the_possible_ones(tmp_path, sources, message):
    write_raw(tmp_path, {"coco.json": COCO})
    with pytest.raises(SourceError, match=message):
        read_sources(tmp_path, sources)


def test_a_wrong_request_is_noticed_before_the_directory_is_listed(tmp_path):
    with pytest.raises(SourceError, match="expected one of coco"):
        read_sources(tmp_path / "missing", ["coko"])


def test_a_missing_raw_directory_is_named(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"nowhere .*does not exist"):
        read_sources(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="is not a directory"):
        read_sources(tmp_path / "file")


def test_the_error_for_a_directory_without_annotations_lists_all_patterns(tmp_path):
    write_raw(tmp_path, {"x.txt": ""}, ["a.jpg", "b.PNG"])
    with pytest.raises(SourceNotFoundError, match="3 files, 2 of them images") as caught:
        read_sources(tmp_path)
    for source in FORMATS:
        assert source.pattern_description in str(caught.value)


def test_annotations_that_are_all_rejected_are_an_error_with_the_reasons(tmp_path):
    write_raw(tmp_path, {"a.pts": "", "b.pts": PTS}, ["a.jpg"])
    with pytest.raises(
        SourceError,
        match=r"3 rejected[^$]*a\.pts: expected [^$]*b\.pts: expected an[^$]*a\.jpg: all its ",
    ):
        read_sources(tmp_path)


def test_annotations_without_images_are_an_error(tmp_path):
    write_raw(tmp_path, {"coco.json": COCO | {"images": [], "annotations": []}})
    with pytest.raises(SourceError, match=r"coco\.json lists no image and no annotation"):
        read_sources(tmp_path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "coco.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(SourceError, match=r"refused coco\.json: a link to nothing"):
        read_sources(tmp_path)


def test_rows_are_sorted_by_path(tmp_path):
    names = ["b.jpg", "é.jpg", "B.jpg", "a/z.jpg", "a.jpg", "中.jpg"]
    write_raw(tmp_path, {"boxes.csv": "".join(f"{name},,,,,\n" for name in names)}, names)
    assert read_sources(tmp_path).table.image_paths.tolist() == sorted(names)


@pytest.mark.parametrize(
    ("named", "counted"),
    [
        (["train", "val", "test"], ["train", "val", "test"]),
        (["train", "val"], ["train", "val"]),
        (["train"], [None]),
        (["val"], [None]),
        (["val", "test"], [None, "test"]),
        (["test"], ["test"]),
    ],
)
def test_train_and_val_count_only_together(tmp_path, named, counted):
    files = {f"{split}.csv": f"{i}.jpg,,,,,\n" for i, split in enumerate(named)}
    assert list(splits_of(read_sources(write_raw(tmp_path, files))).values()) == counted


def test_an_image_of_two_splits_is_in_none(tmp_path):
    files = {"train.csv": "a.jpg,,,,,\nb.jpg,,,,,\n", "val.csv": "c.jpg,,,,,\nb.jpg,,,,,\n"}
    reading = read_sources(write_raw(tmp_path, files))
    assert splits_of(reading) == {"a.jpg": "train", "b.jpg": None, "c.jpg": "val"}
    assert reading.note_counts == {"ambiguous_split": 1, "duplicate_image": 1}


def test_a_split_that_only_one_source_knows_counts(tmp_path):
    files = {"train.csv": "a.jpg,,,,,\n", "val.csv": "c.jpg,,,,,\n", "x.csv": "a.jpg,1,2,3,4,q\n"}
    reading = read_sources(write_raw(tmp_path, files))
    assert splits_of(reading) == {"a.jpg": "train", "c.jpg": "val"}


def test_sources_that_declare_different_sizes_reject_the_image(tmp_path):
    files = {"coco.json": COCO, "a.xml": XML.format(10, 20), "b.xml": VOC}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("a.jpg", "conflicting_sizes")]


def test_pixels_win_over_fractions_of_the_same_image(tmp_path):
    files = {
        "coco.json": COCO,
        "labels/a.txt": "0 .125 .4 .15 .4\n",
        "labels/b.txt": "0 .5 .5 1 1\n",
        "labels/classes.txt": "face\n",
    }
    files["coco.json"] = json.loads(json.dumps(COCO).replace("a.jpg", "images/a.jpg"))
    reading = read_sources(write_raw(tmp_path, files, ["images/a.jpg", "images/b.jpg"]))
    assert boxes_of(reading) == {
        "images/a.jpg": [("face", [1, 2, 4, 6])],
        "images/b.jpg": [("face", [0, 0, 1, 1])],
    }
    assert reading.table.normalized.tolist() == [True, True]
    assert Flag.IN_PIXELS in Flag(int(reading.table.flags[0]))
    assert reading.note_counts == {"same_objects": 1}


def test_fractions_count_if_the_row_in_pixels_has_no_boxes(tmp_path):
    files = {"x.csv": "images/a.jpg,,,,,\n", "labels/a.txt": "0 .5 .5 1 1\n"}
    reading = read_sources(write_raw(tmp_path, files, ["images/a.jpg"]))
    assert boxes_of(reading) == {"images/a.jpg": [("0", [0, 0, 1, 1])]}
    assert reading.table.normalized.tolist() == [True]


def test_points_in_pixels_and_boxes_in_fractions_of_one_image_are_both_right(tmp_path):
    files = {
        "images/a.pts": "n_points: 2\n{\n6 6\n16 16\n}\n",
        "labels/a.txt": "0 .5 .5 .5 .5\n",
        "data.yaml": "train: images\nnames: [face]\n",
    }
    reading = read_sources(write_raw(tmp_path, files, ["images/a.png"]))
    instances, repairs = repair(
        reading.table.image(0),
        ImageHeader("PNG", 24, 20, orientation=1),
        min_box_size=1.0,
        keep_flagged=False,
    )
    assert sorted(map(repairs.outcome, range(2))) == ["kept", "no_box"]
    assert instances.boxes[instances.has_box].tolist() == [[6, 5, 18, 15]]
    assert sorted(points.tolist() for points in instances.points) == [
        [], [[5, 5, 2], [15, 15, 2]]
    ]  # fmt: skip


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_source_without_sizes_describes_the_upright_image_despite_another_source(
    tmp_path, orientation
):
    """The COCO file saw the image as it is stored, 40 pixels wide, the CSV file upright."""
    header = ImageHeader("JPEG", 40, 24, orientation=orientation)
    upright = stored_to_upright([2.0, 2, 12, 8], orientation, (24, 40)).tolist()
    image = coco_image(name="m.jpg", width=40, height=24)
    files = {
        "a.json": coco_file([image], [coco_box(bbox=(2, 2, 10, 6))]),
        "b.csv": f"m.jpg,{','.join(map(str, upright))},eyes\n",
    }
    reading = read_sources(write_raw(tmp_path, files, ["m.jpg"]))
    instances, _ = repair(reading.table.image(0), header, min_box_size=1.0, keep_flagged=False)
    assert {tuple(box) for box in instances.boxes.tolist()} == {tuple(upright)}


def test_an_image_without_usable_annotation_is_listed_despite_another_of_its_name(tmp_path):
    """A rejection of another image with the same name does not count as its own."""
    names = ["a/1.png", "b/1.png", "c/1.png", "good.png"]
    ids = [0, 0, 1, 2]  # the first two share an id, so their boxes cannot be told apart
    images = [coco_image(key, name) for key, name in zip(ids, names, strict=True)]
    listed = coco_file(images, [coco_box(1, bbox=["x", 1, 2, 3]), coco_box(2)])
    reading = read_sources(write_raw(tmp_path, {"coco.json": json.dumps(listed)}, names))
    assert list(boxes_of(reading)) == ["good.png"]
    assert ("c/1.png", "no_usable_annotation") in reasons_of(reading)


def test_a_folder_of_utf_16_files_is_found(tmp_path):
    xml = (
        "<annotation><object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    files = {f"{i}.xml": xml.encode("utf-16") for i in range(2)}
    reading = read_sources(write_raw(tmp_path, files, ["0.jpg", "1.jpg"]))
    assert boxes_of(reading) == {f"{i}.jpg": [("x", [0, 0, 9, 9])] for i in range(2)}


def test_a_yaml_that_names_no_images_is_listed(tmp_path):
    files = {"coco.json": COCO, "y/data.yaml": "train:\nval:\nnames: [face]\n"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert reasons_of(reading) == [("y/data.yaml", "malformed")]


def test_a_label_file_of_two_images_is_listed_once(tmp_path):
    files = {
        "coco.json": COCO,
        "y/data.yaml": "train: images\nnames: [face]\n",
        "y/labels/q.txt": "x\n",
    }
    images = ["a.jpg", "y/images/q.png", "y/images/q.jpg"]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert reasons_of(reading).count(("y/labels/q.txt", "malformed")) == 1


def test_hidden_files_are_not_read(tmp_path):
    raw = write_raw(tmp_path / "raw", {".x.json": COCO, ".git/x.json": COCO, "a.json": COCO})
    assert detect(RawDirectory(raw))[0][1] == ["a.json"]


def test_linked_folders_are_entered_unless_links_are_forbidden(tmp_path):
    write_raw(tmp_path / "outside", {"coco.json": COCO}, ["a.jpg"])
    raw = write_raw(tmp_path / "raw", {"x.txt": ""})
    (raw / "link").symlink_to(tmp_path / "outside")
    assert list(boxes_of(read_sources(raw))) == ["link/a.jpg"]
    with pytest.raises(SourceNotFoundError, match=r"link: a link to the folder .*/outside, not"):
        read_sources(raw, follow_links=False)
    with pytest.raises(SourceNotFoundError, match=r"link: a link to the folder .*/outside, not"):
        read_sources(raw, ["coco"], follow_links=False)


@pytest.mark.parametrize("target", [".", "..", "x", "../.."])
def test_links_that_lead_back_are_not_entered(tmp_path, target):
    raw = write_raw(tmp_path / "above/raw", {"x/coco.json": COCO}, ["x/a.jpg"])
    (raw / "x" / "loop").symlink_to(raw / target)
    reading = read_sources(raw)
    assert list(boxes_of(reading)) == ["x/a.jpg"]
    assert [note.path for note in reading.notes] == ["x/loop"]
    assert "never end" in reading.notes[0].message


def test_two_links_that_lead_to_each_other_are_entered_once(tmp_path):
    write_raw(tmp_path / "one", {"coco.json": COCO}, ["a.jpg"])
    write_raw(tmp_path / "two", images=["b.jpg"])
    (tmp_path / "one" / "two").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "one").symlink_to(tmp_path / "one")
    raw = write_raw(tmp_path / "raw")
    raw.mkdir()
    (raw / "one").symlink_to(tmp_path / "one")
    found = RawDirectory(raw)
    assert found.images == ["one/a.jpg", "one/two/b.jpg"]
    assert [path for path, _ in found.linked_folders] == ["one/two/one"]


def test_an_image_is_kept_if_one_source_of_two_can_be_used(tmp_path):
    files = {"coco.json": COCO, "boxes.csv": "a.jpg,1,2,3,x,cat\n"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg"]))
    assert boxes_of(reading) == {"a.jpg": [("face", [1, 2, 4, 6])]}
    assert reasons_of(reading) == [("boxes.csv", "malformed")]


def test_an_image_that_one_source_cannot_use_is_no_negative_of_another(tmp_path):
    files = {
        "coco.json": coco_file([coco_image(1, "c.jpg"), coco_image(2, "a.jpg")]),
        "boxes.csv": "a.jpg,1,2,3,x,cat\nb.jpg,,,,,\n",
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert boxes_of(reading) == {"b.jpg": [], "c.jpg": [("face", [10, 20, 40, 60])]}
    assert reasons_of(reading) == [("boxes.csv", "malformed"), ("a.jpg", "no_usable_annotation")]


def test_an_image_that_is_rejected_already_is_not_listed_again(tmp_path):
    sizes = "".join(f"a.jpg,,,,,,{side},9\n" for side in (8, 9))
    files = {
        "a.xml": VOC.replace("<xmin>2", "<xmin>x"),
        "boxes.csv": f"filename,class,xmin,ymin,xmax,ymax,width,height\n{sizes}b.jpg,,,,,,9,9\n",
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert reasons_of(reading) == [("a.xml", "malformed"), ("a.jpg", "conflicting_sizes")]
    assert "unlisted_images" not in reading.note_counts


def test_unrelated_data_sets_do_not_share_images(tmp_path):
    files = {
        "x/coco.json": COCO,
        "y/boxes.csv": "a.jpg,5,6,9,9,face\n",
        "z/annotations/coco.json": COCO,
    }
    reading = read_sources(write_raw(tmp_path, files, ["y/a.jpg"]))
    assert boxes_of(reading) == {"y/a.jpg": [("face", [5, 6, 9, 9])]}
    assert reasons_of(reading) == [
        ("x/coco.json", "missing_image"),
        ("z/annotations/coco.json", "missing_image"),
    ]


def test_whether_an_image_is_found_does_not_depend_on_other_annotation_files(tmp_path):
    files = {"x/coco.json": COCO, "y/boxes.csv": "images/a.jpg,1,2,4,6,face\n"}
    reading = read_sources(write_raw(tmp_path, files, ["y/images/a.jpg"]))
    assert boxes_of(reading) == {"y/images/a.jpg": [("face", [1, 2, 4, 6])]}
    assert reading.note_counts == {"duplicate_image": 1, "duplicate_box": 1}
    assert reading.rejections == []


def test_an_image_that_two_sources_search_for_and_describe_differently_is_refused(tmp_path):
    files = {
        "x/coco.json": COCO,
        "y/boxes.csv": "a.jpg,1,2,9,9,face\nb.jpg,1,2,3,4,face\n",
    }
    reading = read_sources(write_raw(tmp_path, files, ["photos/of/a.jpg", "photos/of/b.jpg"]))
    assert list(boxes_of(reading)) == ["photos/of/b.jpg"]
    assert reasons_of(reading) == [("photos/of/a.jpg", "conflicting_annotations")]


def test_files_whose_names_are_not_unicode_are_rejected(tmp_path):
    write_raw(tmp_path, {"coco.json": COCO}, ["a.jpg"])
    try:
        (tmp_path / "\udcff.jpg").touch()
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert reasons_of(read_sources(tmp_path)) == [("\\xff.jpg", "undecodable_name")]


def test_a_merged_instance_has_the_first_points_and_the_flags_of_all():
    box = (0, 0, 1, 1)
    row = TableRow(
        "a",
        [
            Instance(0, box, Flag.CROWD),
            Instance(0, (0, 0, 1, 2)),
            Instance(0, box, points=[[1, 2, 3]]),
            Instance(0, box, Flag.DIFFICULT, points=[[4, 5, 6]]),
            Instance(1, box),
        ],
    )
    merged = merge_images(
        table_from_rows([row], category_names=["a", "b"], annotation_sets=[AnnotationSet("x.csv")])
    )
    assert merged.table.boxes.tolist() == [[0, 0, 1, 2], [*box], [*box]]
    assert merged.table.labels.tolist() == [0, 0, 1]
    assert merged.table.flags.tolist() == [0, Flag.CROWD | Flag.DIFFICULT, 0]
    assert [points.tolist() for points in merged.table.points] == [[], [[1, 2, 3]], []]
    assert merged.note_counts == {"duplicate_box": 2}


def test_equal_point_sets_without_a_box_become_one():
    faces = [
        Instance(0, flags=Flag.NO_BOX, points=points)
        for points in ([[1, 2, 2]], [[1, 3, 2]], [[1, 2, 2]], [[1, 2, 2], [1, 3, 2]])
    ]
    merged = merge_images(table_from_rows([TableRow("a", faces)], category_names=["face"]))
    assert sorted(points.tolist() for points in merged.table.points) == [
        [[1, 2, 2]],
        [[1, 2, 2], [1, 3, 2]],
        [[1, 3, 2]],
    ]


def test_boxes_with_zero_and_negative_zero_are_equal():
    boxes = [Instance(0, (0.0, 0.0, 1, 1)), Instance(0, (-0.0, 0.0, 1, 1))]
    merged = merge_images(table_from_rows([TableRow("a", boxes)], category_names=["face"]))
    assert len(merged.table.boxes) == 1


def test_the_same_box_in_two_images_is_two():
    rows = [TableRow(path, [Instance(0, (0, 0, 1, 1))]) for path in "ab"]
    merged = merge_images(table_from_rows(rows, category_names=["face"]))
    assert len(merged.table.boxes) == 2


instances = st.builds(
    Instance,
    st.integers(0, 1),
    st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")])] * 4),
)
rows = st.builds(TableRow, st.sampled_from("abcd"), st.lists(instances, max_size=4))


@given(st.lists(st.lists(rows, max_size=6), min_size=1, max_size=3))
def test_merging_keeps_every_distinct_box_of_every_image_of_one_set_once(tables):
    all_rows = [row for rows in tables for row in rows]
    merged = merge_images(
        table_from_rows(
            all_rows, category_names=["x", "y"], annotation_sets=[AnnotationSet("x.csv")]
        )
    )
    expected = {}
    for row in all_rows:
        boxes = expected.setdefault(row.image_path, set())
        # NaN equals NaN as text; adding 0 turns -0 into 0.
        boxes.update((i.label, repr([x + 0.0 for x in i.box])) for i in row.instances)
    table = merged.table
    assert table.image_paths.tolist() == sorted(expected)
    for number, path in enumerate(table.image_paths.tolist()):
        image = table.image(number)
        found = [
            (label, repr([x + 0.0 for x in box]))
            for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)
        ]
        assert sorted(found) == sorted(expected[path])
    before = sum(len(row.instances) for row in all_rows)
    assert merged.note_counts["duplicate_box"] == before - len(table.boxes)


def test_merging_needs_no_rows():
    assert len(merge_images(table_from_rows([], category_names=[])).table) == 0
    assert np.array_equal(merge_images(table_from_rows([], category_names=[])).table.offsets, [0])
