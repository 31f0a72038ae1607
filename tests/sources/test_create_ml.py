import pytest

from processing.core.errors import SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, reasons_of, splits_of, write_raw


def box(label="cat", x=30, y=40, width=20, height=10, **more):
    """Returns one annotation; x and y are the centre."""
    place = {"x": x, "y": y, "width": width, "height": height}
    return {"label": label, "coordinates": place} | more


def read(tmp_path, content, path="_annotations.createml.json", images=("a.jpg",)):
    return read_sources(write_raw(tmp_path, {path: content}, images))


@pytest.mark.parametrize(
    ("image_key", "list_key"),
    [("image", "annotations"), ("imagefilename", "annotation"), ("imageFilename", "annotations")],
)
def test_x_and_y_are_the_centre_of_the_box(tmp_path, image_key, list_key):
    content = [{image_key: "a.jpg", list_key: [box(x=30.5, width=21)]}]
    reading = read(tmp_path, content)
    assert boxes_of(reading) == {"a.jpg": [("cat", [20, 35, 41, 45])]}
    assert reading.rejections == []
    assert reading.notes == []


def test_an_empty_list_is_a_negative_and_categories_are_sorted(tmp_path):
    content = [
        {"image": "a.jpg", "annotations": [box("dog"), box("cat", x=60)]},
        {"image": "b.jpg", "annotations": []},
    ]
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {
        "a.jpg": [("dog", [20, 35, 40, 45]), ("cat", [50, 35, 70, 45])],
        "b.jpg": [],
    }
    assert reading.table.category_names == ("cat", "dog")
    assert reading.table.entries.tolist() == [1, 2]


def test_the_split_is_the_name_of_the_folder(tmp_path):
    content = [{"image": "a.jpg", "annotations": [box()]}]
    files = {f"{name}/_annotations.createml.json": content for name in ("train", "valid")}
    reading = read_sources(write_raw(tmp_path, files, ["train/a.jpg", "valid/a.jpg"]))
    assert splits_of(reading) == {"train/a.jpg": "train", "valid/a.jpg": "val"}


@pytest.mark.parametrize(
    ("bad", "reason", "found"),
    [
        (box(""), "malformed", "name of a class"),
        (box(x="left"), "malformed", "x"),
        (box(x=None), "malformed", "x"),
        ({"label": "cat"}, "malformed", "coordinates"),
        ({"label": "cat", "coordinates": {"x": 1, "y": 2}}, "malformed", "width"),
        (box(confidence=0.8), "prediction", "confidence (0.8)"),
        (box(score=1), "prediction", "prediction"),
        ([], "malformed", "expected `object`"),
    ],
)
def test_an_unusable_annotation_costs_only_itself(tmp_path, bad, reason, found):
    content = [
        {"image": "a.jpg", "annotations": [bad, box()]},
        {"image": "b.jpg", "annotations": [bad]},
    ]
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert boxes_of(reading) == {"a.jpg": [("cat", [20, 35, 40, 45])]}
    first = reading.rejections[0]
    assert first.reason == reason
    assert first.message.startswith("_annotations.createml.json: a.jpg: annotation 1: ")
    assert found in first.message
    assert reasons_of(reading)[2:] == [("b.jpg", "no_usable_annotation")]


@pytest.mark.parametrize("bad", [{"annotations": []}, {"image": "b.jpg"}, {"image": 5}, 5])
def test_an_entry_without_image_or_list_is_rejected(tmp_path, bad):
    content = [{"image": "a.jpg", "annotations": [box()]}, bad]
    reading = read(tmp_path, content, images=["a.jpg", "b.jpg"])
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading) == [("_annotations.createml.json", "malformed")]
    assert ": [1]: " in reading.rejections[0].message


def test_lists_of_other_boxes_are_not_found(tmp_path):
    content = [{"image": "a.jpg", "annotations": [{"label": "cat", "bbox": [1, 2, 3, 4]}]}]
    with pytest.raises(SourceNotFoundError, match="Create ML"):
        read(tmp_path, content)


def test_a_file_of_many_images_may_begin_with_negatives(tmp_path):
    content = [{"image": f"{i:04}.jpg", "annotations": []} for i in range(1000)]
    content.append({"image": "a.jpg", "annotations": [box()]})
    images = [entry["image"] for entry in content]
    reading = read(tmp_path, content, images=images)
    assert len(reading.table) == 1001
    assert boxes_of(reading)["a.jpg"] == [("cat", [20, 35, 40, 45])]
