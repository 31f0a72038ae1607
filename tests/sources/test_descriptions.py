"""Several descriptions of one image: merged if exact, reduced if they agree, refused otherwise."""

import ast
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import Instance, TableRow, concatenate
from processing.core.annotations import table_from_rows as rows_to_table
from processing.core.errors import SourceError
from processing.sources import read_sources
from processing.sources.merging import merge_images
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    points_of,
    reasons_of,
    write_raw,
)

OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    "</bndbox></object>"
)


def voc(*objects):
    size = "<size><width>640</width><height>480</height></size>"
    written = "".join(OBJECT.format(*one) for one in objects)
    return f"<annotation>{size}{written}</annotation>"


def read(tmp_path, files, images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, files, images))


def test_a_table_made_from_voc_files_does_not_double_their_objects(tmp_path):
    files = {
        "a.xml": voc(("cat", 11, 21, 40, 60), ("dog", 101, 21, 140, 60)),
        "train_labels.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        "a.jpg,640,480,cat,11,21,40,60\na.jpg,640,480,dog,101,21,140,60\n",
    }
    reading = read(tmp_path, files)
    assert boxes_of(reading) == {"a.jpg": [("cat", [10, 20, 40, 60]), ("dog", [100, 20, 140, 60])]}
    assert reading.note_counts == {"same_objects": 1}
    assert "those of *.xml are used" in reading.notes[0].message
    assert "train_labels.csv" in reading.notes[0].message


def test_an_old_and_a_new_file_are_refused_with_both_names(tmp_path):
    files = {
        "new.json": coco_file([coco_image(1), coco_image(2, "b.jpg")], [coco_box(1), coco_box(2)]),
        "old.json": coco_file(
            [coco_image(1), coco_image(2, "b.jpg")],
            [coco_box(1, bbox=(10, 20, 50, 90)), coco_box(2)],
        ),
    }
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["b.jpg"]  # equal in both files
    assert reasons_of(reading) == [("a.jpg", "conflicting_annotations")]
    message = reading.rejections[0].message
    assert "new.json (1 object) and old.json (1 object)" in message
    assert "{'format': 'coco', 'path': 'new.json'}" in message


def test_naming_one_of_two_files_settles_the_conflict(tmp_path):
    files = {
        "new.json": coco_file(annotations=[coco_box()]),
        "old.json": coco_file(annotations=[coco_box(bbox=(10, 20, 50, 90))]),
    }
    write_raw(tmp_path, files, ["a.jpg"])
    with pytest.raises(SourceError, match="conflicting_annotations"):
        read_sources(tmp_path)
    reading = read_sources(tmp_path, [{"format": "coco", "path": "old.json"}])
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 60, 110])]}


def test_the_message_about_a_conflict_names_entries_that_settle_it(tmp_path):
    labelme = {
        "shapes": [{"label": "x", "points": [[60, 70], [90, 99]], "shape_type": "rectangle"}],
        "imagePath": "../a.jpg",
        "imageHeight": 480,
        "imageWidth": 640,
    }
    files = {
        "drawn here/a.json": json.dumps(labelme),
        "a.xml": voc(("x", 10, 20, 40, 60)),
    }
    root = write_raw(tmp_path, files, ["a.jpg"])
    with pytest.raises(SourceError) as caught:
        read_sources(root)
    message = str(caught.value)
    for entry in ({"format": "labelme", "path": "drawn here"}, {"format": "pascal_voc"}):
        assert str(entry) in message
        assert len(read_sources(root, [entry]).table) == 1
    assert "--source labelme 'path=drawn here'" in message
    assert "--source pascal_voc" in message


@pytest.mark.parametrize("annotations", [[], [coco_box(), coco_box(bbox=(100, 100, 9, 9))]])
def test_a_file_with_fewer_or_more_objects_of_the_same_category_disagrees(tmp_path, annotations):
    """The other image shows that both files use the category."""
    images = [coco_image(1), coco_image(2, "b.jpg")]
    files = {
        "x.json": coco_file(images, [coco_box(1), coco_box(2)]),
        "y.json": coco_file(images, [*annotations, coco_box(2)]),
    }
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reasons_of(reading) == [("a.jpg", "conflicting_annotations")]
    assert list(boxes_of(reading)) == ["b.jpg"]


def test_keypoints_and_instances_of_coco_complete_each_other(tmp_path):
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    instances = [coco_box(), coco_box(bbox=(1, 2, 30, 40), iscrowd=1), coco_box(1, 2)]
    people = [coco_box(keypoints=[1, 2, 2]), coco_box(bbox=(1, 2, 30, 40), iscrowd=1)]
    files = {
        "instances_train.json": coco_file(annotations=instances, categories=categories),
        "person_keypoints_train.json": coco_file(annotations=people, categories=categories[:1]),
    }
    reading = read(tmp_path, files)
    assert [name for name, _ in boxes_of(reading)["a.jpg"]] == ["person", "dog", "person"]
    assert sorted(map(len, points_of(reading)["a.jpg"])) == [0, 0, 1]
    assert reading.note_counts == {}
    assert reading.sets[0].details.startswith("2 of the objects are in person_keypoints_train.json")


def test_an_image_without_label_file_that_another_file_describes_is_not_called_empty(tmp_path):
    images = [coco_image(1, "a.jpg", width=100, height=100), coco_image(2, "b.jpg")]
    files = {
        "coco.json": coco_file(images, [coco_box(1), coco_box(2)]),
        "labels/a.txt": "0 0.25 0.4 0.3 0.4\n",
        "labels/classes.txt": "face\n",
    }
    reading = read(tmp_path, files, ["images/a.jpg", "images/b.jpg"])
    assert len(reading.table.boxes) == 2
    assert reading.note_counts == {"same_objects": 1}


def test_a_second_copy_of_points_is_noted(tmp_path):
    people = coco_file(annotations=[coco_box(keypoints=[1, 2, 2])])
    reading = read(tmp_path, {"one.json": people, "two.json": people})
    assert reading.note_counts == {"duplicate_image": 1, "duplicate_box": 1}


def test_another_file_with_the_same_boxes_describes_no_other_image_of_that_name(tmp_path):
    # The COCO file finds JPEGImages/a.jpg only by its name.
    files = {
        "coco.json": coco_file(annotations=[coco_box()]),
        "Annotations/a.xml": voc(("cat", 11, 21, 40, 60)),
    }
    with pytest.raises(SourceError, match=r"JPEGImages/a.jpg: described differently by"):
        read(tmp_path, files, ["JPEGImages/a.jpg"])


def test_an_older_file_that_declares_a_category_without_its_objects_disagrees(tmp_path):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    both = [coco_box(), coco_box(1, 2, bbox=(100, 100, 50, 50))]
    files = {
        "new.json": coco_file(annotations=both, categories=categories),
        "old.json": coco_file(annotations=both[:1], categories=categories),
        "x.csv": "b.jpg,1,2,30,40,cat\n",
    }
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reasons_of(reading) == [("a.jpg", "conflicting_annotations")]
    assert list(boxes_of(reading)) == ["b.jpg"]


def test_files_of_different_categories_complete_each_other(tmp_path):
    files = {
        "cats.csv": "a.jpg,1,2,30,40,cat\n",
        "dogs.csv": "a.jpg,100,100,130,140,dog\n",
    }
    reading = read(tmp_path, files)
    assert [name for name, _ in boxes_of(reading)["a.jpg"]] == ["cat", "dog"]
    assert reading.note_counts == {"merged_sets": 1}


def test_the_same_boxes_under_other_names_are_refused(tmp_path):
    files = {"one.csv": "a.jpg,1,2,30,40,cat\n", "two.csv": "a.jpg,1,2,30,41,pet\nb.jpg,,,,,\n"}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reasons_of(reading) == [("a.jpg", "conflicting_annotations")]


def test_two_yamls_with_other_names_over_one_folder_are_refused(tmp_path):
    files = {
        "one.yaml": "train: images\nval: images\nnames: [cat]\n",
        "two.yaml": "train: images\nval: images\nnames: [dog]\n",
        "labels/a.txt": "0 .5 .5 .25 .5\n",
        "labels/b.txt": "",
    }
    reading = read(tmp_path, files, ["images/a.jpg", "images/b.jpg"])
    assert reasons_of(reading) == [("images/a.jpg", "conflicting_annotations")]
    files["two.yaml"] = files["one.yaml"]
    reading = read(tmp_path / "same", files, ["images/a.jpg", "images/b.jpg"])
    assert [len(boxes) for boxes in boxes_of(reading).values()] == [1, 0]
    assert reading.note_counts["duplicate_image"] == 2


@pytest.mark.parametrize("declares_size", [True, False])
def test_fractions_and_pixels_of_the_same_objects_are_one_description(tmp_path, declares_size):
    size = {} if declares_size else {"width": None, "height": None}
    image = coco_image(name="images/a.jpg", **size)
    boxes = [(64, 48, 128, 96), (320, 240, 64, 48)]
    files = {
        "c.json": coco_file([image], [coco_box(bbox=box) for box in boxes]),
        "labels/a.txt": "0 .55 .55 .1 .1\n0 .2 .2 .2 .2\n",
        "labels/classes.txt": "face\n",
    }
    reading = read(tmp_path, files, ["images/a.jpg"])
    assert boxes_of(reading) == {
        "images/a.jpg": [("face", [64, 48, 192, 144]), ("face", [320, 240, 384, 288])]
    }
    assert reading.note_counts == {"same_objects": 1}


def test_fractions_of_other_objects_than_the_pixels_are_refused(tmp_path):
    files = {
        "c.json": coco_file(
            [coco_image(name="images/a.jpg"), coco_image(2, "images/b.jpg")],
            [coco_box(), coco_box(2)],
        ),
        "labels/a.txt": "0 .9 .9 .1 .1\n",
        "labels/classes.txt": "face\n",
    }
    reading = read(tmp_path, files, ["images/a.jpg", "images/b.jpg"])
    assert reasons_of(reading) == [("images/a.jpg", "conflicting_annotations")]
    # No label file says nothing about b.jpg, so the COCO file alone describes it.
    assert boxes_of(reading) == {"images/b.jpg": [("face", [10, 20, 40, 60])]}


def test_the_description_with_points_is_used(tmp_path):
    keypoints = [20, 30, 2, 40, 50, 1]
    files = {
        "a.json": coco_file(annotations=[coco_box(bbox=(10.4, 20, 30, 40))]),
        "b.json": coco_file(annotations=[coco_box(keypoints=keypoints)]),
    }
    reading = read(tmp_path, files)
    assert boxes_of(reading) == {"a.jpg": [("face", [10, 20, 40, 60])]}
    assert points_of(reading) == {"a.jpg": [[[20, 30, 2], [40, 50, 1]]]}
    assert "those of b.json are used" in reading.notes[0].message


def test_different_points_of_the_same_box_are_refused(tmp_path):
    files = {
        f"{i}.json": coco_file(annotations=[coco_box(keypoints=[20 + 9 * i, 30, 2])])
        for i in range(2)
    }
    files["x.csv"] = "b.jpg,,,,,\n"
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reasons_of(reading) == [("a.jpg", "conflicting_annotations")]


def test_a_split_that_only_the_unused_description_knows_still_counts(tmp_path):
    files = {
        "a.xml": voc(("cat", 11, 21, 40, 60)),
        "b.xml": voc(("cat", 11, 21, 40, 60)),
        "train.csv": "a.jpg,11,21,40,60,cat\n",
        "val.csv": "b.jpg,11,21,40,60,cat\n",
    }
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reading.table.splits.tolist() == [0, 1]


# Boxes so far apart that none can be taken for another.
objects = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), unique=True, max_size=6)


def described(cells, shift, path):
    boxes = [(40 * x + shift, 40 * y + shift, 40 * x + 30, 40 * y + 30) for x, y in cells]
    row = TableRow("a.jpg", [Instance(0, box) for box in boxes])
    # Another image shows that every set uses the category.
    other = TableRow("z.jpg", [Instance(0, (1, 1, 9, 9))])
    return rows_to_table([row, other], category_names=["c"], annotation_sets=[AnnotationSet(path)])


@given(objects, objects, st.sampled_from([0.0, 0.5, 1.0]))
def test_an_image_is_stored_as_one_of_its_descriptions_says_or_refused(cells, others, shift):
    tables = [described(cells, 0, "one"), described(others, shift, "two")]
    merged = merge_images(concatenate(tables))
    paths = merged.table.image_paths.tolist()
    if set(cells) == set(others):
        assert paths == ["a.jpg", "z.jpg"]
        found = merged.table.image(0).boxes
        expected = tables[0].image(0).boxes
        assert sorted(found.tolist()) == sorted(expected.tolist())
    else:
        assert paths == ["z.jpg"]
        assert [r.reason for r in merged.rejections] == ["conflicting_annotations"]


def test_the_order_of_boxes_does_not_matter():
    tables = [described([(0, 0), (1, 1)], 0, "one"), described([(1, 1), (0, 0)], 1, "two")]
    merged = merge_images(concatenate(tables))
    assert np.count_nonzero(merged.table.boxes[:, 0] > 1) == 1
    assert len(merged.table.boxes) == 3


def test_every_lost_object_of_two_descriptions_is_counted(tmp_path):
    """Read = stored + repeated, over all sets."""
    images = [coco_image(i, f"{i}.jpg") for i in range(4)]
    annotations = [coco_box(i, bbox=(10 * i, 20, 30, 40)) for i in range(4) for _ in range(2)]
    content = coco_file(images, annotations)
    files = {"x.json": content, "y.json": json.loads(json.dumps(content))}
    reading = read(tmp_path, files, [f"{i}.jpg" for i in range(4)])
    read_instances = sum(one.instances for one in reading.sets)
    assert read_instances == 16
    assert len(reading.table.labels) + reading.note_counts["duplicate_box"] == read_instances


def labelme(label, left):
    corners = [[left, 20], [left + 50, 90]]
    shapes = [{"label": label, "points": corners, "shape_type": "rectangle"}]
    return {"imagePath": "a.jpg", "imageData": None, "shapes": shapes}


@pytest.mark.parametrize(("left", "count"), [(10, 1), (10.4, 1)])
def test_a_copy_of_an_annotation_file_does_not_double_its_objects(tmp_path, left, count):
    files = {"a.json": labelme("cat", 10), "a (1).json": labelme("cat", left)}
    reading = read(tmp_path, files)
    assert len(boxes_of(reading)["a.jpg"]) == count
    (note,) = reading.notes
    assert "described by *.json and by another file there alike" in note.message


@pytest.mark.parametrize("other", [labelme("cat", 60), labelme("dog", 10)])
def test_an_edited_copy_of_an_annotation_file_is_refused_with_both_names(tmp_path, other):
    files = {"a.json": labelme("cat", 10), "a (1).json": other}
    files["b.json"] = labelme("cat", 10) | {"imagePath": "b.jpg"}
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["b.jpg"]
    (rejection,) = reading.rejections
    assert rejection.reason == "conflicting_annotations"
    assert "by a (1).json (1 object) and a.json (1 object); delete one" in rejection.message


@pytest.mark.parametrize("folder", ["old/", "old/deep/"])
def test_the_suggested_sources_of_folders_can_be_used(tmp_path, folder):
    files = {"new/a.json": labelme("cat", 10), f"{folder}a.json": labelme("cat", 60)}
    for path in files:
        files[path]["imagePath"] = "../a.jpg" if path.count("/") == 1 else "../../a.jpg"
    files["new/b.json"] = labelme("cat", 10) | {"imagePath": "../b.jpg"}
    raw = write_raw(tmp_path, files, ["a.jpg", "b.jpg"])
    (rejection,) = read_sources(raw).rejections
    entries = re.findall(r"\{.*?\}", rejection.message)
    assert len(entries) == 2
    for entry in entries:
        assert "a.jpg" in boxes_of(read_sources(raw, [ast.literal_eval(entry)]))


def test_numbers_of_classes_vanish_with_the_set_that_used_them(tmp_path):
    two = [coco_box(bbox=(10, 20, 30, 40)), coco_box(category_id=2, bbox=(100, 20, 50, 60))]
    categories = [{"id": i, "name": name} for i, name in enumerate(["face", "unused", "9"], 1)]
    files = {
        "a.json": coco_file(None, [two[0], two[1] | {"category_id": 3}], categories),
        "train.txt": "a.jpg 10,20,40,60,0 100,20,150,80,1\n",
    }
    reading = read(tmp_path, files)
    assert reading.table.category_names == ("face", "unused", "9")
    assert [name for name, _ in boxes_of(reading)["a.jpg"]] == ["face", "9"]


def test_numbers_of_classes_stay_as_long_as_one_object_has_them(tmp_path):
    files = {
        "a.json": coco_file(None, [coco_box(bbox=(10, 20, 30, 40))]),
        "train.txt": "a.jpg 10,20,40,60,0\nb.jpg 10,20,40,60,1\n",
    }
    reading = read(tmp_path, files, ["a.jpg", "b.jpg"])
    assert reading.table.category_names == ("face", "0", "1")
    assert [name for name, _ in boxes_of(reading)["b.jpg"]] == ["1"]
