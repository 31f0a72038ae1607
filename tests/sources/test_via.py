import json

import pytest

from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

RECT = {"name": "rect", "x": 20, "y": 30, "width": 80, "height": 60}
POLYGON = {"name": "polygon", "all_points_x": [110, 150, 140], "all_points_y": [40, 50, 90]}


def region(shape=RECT, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def image(*regions, name="a.jpg", **more):
    own = {"filename": name, "size": 6974, "regions": list(regions), "file_attributes": {}}
    return own | more


def export(*images):
    return {f"{one['filename']}{one['size']}": one for one in images}


def project(*images, folder=""):
    """Returns a project as VIA 2.0.10 saves it."""
    core = {"buffer_size": "18", "filepath": {}, "default_filepath": folder}
    return {
        "_via_settings": {"ui": {}, "core": core, "project": {"name": "p"}},
        "_via_img_metadata": export(*images),
        "_via_attributes": {"region": {}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(export(*images)),
    }


def read(tmp_path, content, path="via.json", images=("a.jpg",), sources=None):
    return read_sources(write_raw(tmp_path, {path: content}, images), sources)


@pytest.mark.parametrize("form", [export, project])
@pytest.mark.parametrize("as_objects", [False, True])
def test_boxes_are_read_from_exports_and_projects_of_both_versions(tmp_path, form, as_objects):
    one = image(region(Class="plate"), region(POLYGON, Class="car"))
    if as_objects:  # VIA 1
        one |= {"regions": {str(i): own for i, own in enumerate(one["regions"])}}
        one |= {"fileref": "", "base64_img_data": ""}
    reading = read(tmp_path, form(one))
    assert boxes_of(reading) == {
        "a.jpg": [("plate", [20, 30, 100, 90]), ("car", [110, 40, 150, 90])]
    }
    assert reading.table.category_names == ("car", "plate")
    assert reading.table.entries.tolist() == [1, 2]
    assert reading.rejections == []
    assert reading.notes == []


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (RECT | {"x": "20", "width": 80.5}, [20, 30, 100.5, 90]),
        ({"name": "circle", "cx": 50, "cy": 60, "r": 5.5}, [44.5, 54.5, 55.5, 65.5]),
        ({"name": "ellipse", "cx": 50, "cy": 60, "rx": 10, "ry": 4}, [40, 56, 60, 64]),
        (
            {"name": "ellipse", "cx": 50, "cy": 60, "rx": 10, "ry": 4, "theta": 1.5707963267948966},
            [46, 50, 54, 70],
        ),
        (POLYGON | {"name": "polyline"}, [110, 40, 150, 90]),
    ],
)
def test_a_shape_counts_with_its_bounding_box(tmp_path, shape, box):
    assert boxes_of(read(tmp_path, export(image(region(shape, type="x"))))) == {
        "a.jpg": [("x", box)]
    }


def test_an_image_without_regions_is_a_negative(tmp_path):
    content = export(image(region(label="cat")), image(name="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading)["b.jpg"] == []


@pytest.mark.parametrize(
    ("attributes", "chosen"),
    [
        ({"plate_kind": "x"}, "x"),
        ({"plate_kind": "x", "quality": ""}, "x"),
        ({"quality": "good", "Label": "x"}, "x"),
        ({"type": "good", "object_class": "x"}, "x"),
        ({"colour": "red", "type": "x"}, "x"),
        ({"class": 7}, "7"),
        ({"class": {"x": True, "y": False}}, "x"),
        ({"class": {"x": True}}, "x"),
    ],
)
def test_the_attribute_with_the_class_is_found(tmp_path, attributes, chosen):
    reading = read(tmp_path, export(image(region(**attributes))))
    assert boxes_of(reading) == {"a.jpg": [(chosen, [20, 30, 100, 90])]}
    several = len([value for value in attributes.values() if value]) > 1
    assert reading.note_counts == ({"class_attribute": 1} if several else {})


@pytest.mark.parametrize(
    "attributes",
    [{"colour": "red", "form": "round"}, {"class": "x", "label": "y"}, {"type": "x", "name": "y"}],
)
def test_several_possible_attributes_are_refused_until_one_is_named(tmp_path, attributes):
    content = export(image(region(**attributes)))
    first = next(iter(attributes))
    with pytest.raises(SourceError, match="unknown which one is the class"):
        read(tmp_path, content)
    source = {"format": "via", "class_attribute": first}
    reading = read(tmp_path, content, sources=[source])
    assert boxes_of(reading) == {"a.jpg": [(attributes[first], [20, 30, 100, 90])]}
    with pytest.raises(SourceError, match="class_attribute is 'x y', but the regions have"):
        read(tmp_path, content, sources=[source | {"class_attribute": "x y"}])


def test_a_transcription_is_no_class(tmp_path):
    regions = [region(RECT | {"x": i}, text=f"word {i}") for i in range(30)]
    with pytest.raises(SourceError, match="its regions have the attributes text"):
        read(tmp_path, export(image(*regions)))


def test_values_that_never_repeat_are_no_classes(tmp_path):
    regions = [region(plate=f"AB {i}") for i in range(4)]
    with pytest.raises(SourceError, match="ambiguous_class"):
        read(tmp_path, export(image(*regions)))
    repeated = [*regions, region(plate="AB 0")]
    assert len(boxes_of(read(tmp_path, export(image(*repeated))))["a.jpg"]) == 4


def test_regions_without_any_class_become_objects_with_a_note(tmp_path):
    reading = read(tmp_path, export(image(region(), region(POLYGON))))
    assert [name for name, _ in boxes_of(reading)["a.jpg"]] == ["object", "object"]
    assert reading.note_counts == {"no_class_names": 2}


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (region(), "no value for 'label'"),
        (region(label=""), "no value for 'label'"),
        (region(label={"x": True, "y": True}), "expected one option of 'label', found x, y"),
        (region(label={"x": False}), "found none"),
        (region({"name": "rect", "x": 1, "y": 2, "width": 3}, label="x"), "expected the numbers"),
        (region(RECT | {"x": None}, label="x"), "expected the numbers"),
        (region(RECT | {"x": "left"}, label="x"), "x"),
        (region(RECT | {"name": "star"}, label="x"), "'star'"),
        (region(POLYGON | {"all_points_x": [1, 2]}, label="x"), "as many x as y"),
        (region(label="x") | {"score": 0.5}, "prediction"),
        ({"region_attributes": {}}, "shape_attributes"),
        (5, "expected `object`"),
    ],
)
def test_an_unusable_region_costs_only_itself(tmp_path, bad, found):
    content = export(image(bad, region(label="cat")), image(bad, name="b.jpg"))
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("cat", [20, 30, 100, 90])]}
    messages = [rejection.message for rejection in reading.rejections]
    assert messages[0].startswith("via.json: a.jpg: region 1: ")
    assert found in messages[0]
    assert messages[1].startswith("via.json: b.jpg: region 1: ")
    assert ("b.jpg", "no_usable_annotation") in reasons_of(reading)


def test_a_list_of_images_is_read(tmp_path):
    reading = read(tmp_path, [image(region(label="cat")), image(region()) | {"filename": 5}])
    assert boxes_of(reading) == {"a.jpg": [("cat", [20, 30, 100, 90])]}
    assert reading.rejections[0].message.startswith("via.json: [1]: ")


def test_an_entry_that_is_no_image_is_rejected(tmp_path):
    content = export(image(region(label="cat"))) | {"x": {"regions": []}, "y": 5}
    content["z"] = image(name="b.jpg") | {"regions": 5}
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["a.jpg"]
    places = [rejection.message.split(": ")[1] for rejection in reading.rejections]
    assert places[:3] == ["x", "y", "b.jpg"]
    assert reasons_of(reading)[3:] == [("b.jpg", "no_usable_annotation")]


@pytest.mark.parametrize("where", ["", "train/"])
def test_points_of_one_image_are_one_object(tmp_path, where):
    regions = [
        region({"name": "point", "cx": x, "cy": 5}, part=name) for name, x in (("r", 9), ("l", 3))
    ]
    reading = read(tmp_path, project(image(*regions)), f"{where}p.json", [f"{where}a.jpg"])
    assert points_of(reading) == {f"{where}a.jpg": [[[3, 5, 2], [9, 5, 2]]]}
    assert reading.table.keypoint_names == ("l", "r")


def test_the_folder_of_the_project_is_searched(tmp_path):
    content = project(image(region(label="cat")), folder="./pictures/")
    reading = read(tmp_path, content, images=["pictures/a.jpg", "old/a.jpg"])
    assert list(boxes_of(reading)) == ["pictures/a.jpg"]


def test_the_split_is_the_name_of_the_folder(tmp_path):
    files = {f"{name}/via_region_data.json": export(image(region())) for name in ("train", "val")}
    reading = read_sources(write_raw(tmp_path, files, ["train/a.jpg", "val/a.jpg"]))
    assert splits_of(reading) == {"train/a.jpg": "train", "val/a.jpg": "val"}


def test_a_project_of_version_3_is_refused_by_name(tmp_path):
    content = {
        "project": {"pid": "x", "data_format_version": "3.1.1"},
        "config": {},
        "attribute": {},
        "file": {},
        "metadata": {},
        "view": {},
    }
    with pytest.raises(SourceError, match=r"unsupported.*a project of VIA 3, which is not read"):
        read(tmp_path, content)


def test_a_file_with_nan_or_in_utf_16_is_read(tmp_path):
    text = json.dumps(export(image(region(label="cat"), region(RECT | {"x": float("nan")}))))
    reading = read(tmp_path / "x", text)
    assert len(boxes_of(reading)["a.jpg"]) == 1
    reading = read(tmp_path / "y", text.encode("utf-16"))
    assert len(boxes_of(reading)["a.jpg"]) == 1


def test_names_of_other_scripts_are_kept_and_half_characters_are_refused(tmp_path):
    text = json.dumps(export(image(region(label="狗"), region(POLYGON, label="\ud800"))))
    reading = read(tmp_path, text)
    assert boxes_of(reading) == {"a.jpg": [("狗", [20, 30, 100, 90])]}
    assert reasons_of(reading) == [("via.json", "malformed")]
