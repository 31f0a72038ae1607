"""Messages about missing images say where they may be; paths of other machines are resolved."""

import pytest

from processing.core.errors import SourceNotFoundError
from processing.sources import read_sources
from processing.sources.paths import plain_path
from tests.raw_files import boxes_of, coco_box, coco_file, coco_image, reasons_of, write_raw


def read(tmp_path, name, images, path="annotations.json", **options):
    content = coco_file([coco_image(name=name)], [coco_box()])
    sources = [{"format": "coco", **options}] if options else None
    return read_sources(write_raw(tmp_path, {path: content}, images), sources)


@pytest.mark.parametrize(
    ("name", "image", "hint"),
    [
        ("images/IMG_1.JPG", "images/IMG_1.jpg", "images/IMG_1.jpg is there, the annotation says"),
        ("IMG_1.JPG", "images/IMG_1.jpg", "images/IMG_1.jpg is there"),
        ("u\u0308.jpg", "\u00fc.jpg", r"'\xfc.jpg' is there, the annotation says 'u\u0308.jpg'"),
        ("images/a.jpg", "images/a.png", "images/a.png is there, with another ending"),
    ],
)
def test_a_name_that_differs_a_little_is_hinted_at(tmp_path, name, image, hint):
    reading = read(tmp_path, name, [image])
    (text,) = reading.hints.values()
    assert hint in text


def test_a_name_in_several_folders_is_refused_with_all_of_them(tmp_path):
    images = ["data/train_images/z.jpg", "data/train_masks/z.jpg", "dataset/zostera/z.jpg"]
    reading = read(tmp_path, "z.jpg", images, "annotations/instances_default.json")
    assert list(boxes_of(reading)) == ["annotations/z.jpg"]
    hint = reading.hints["annotations/z.jpg"]
    assert all(image in hint for image in images)
    assert "'images': 'data/train_images'" in hint
    named = read_sources(tmp_path, [{"format": "coco", "images": "data/train_masks"}])
    assert list(boxes_of(named)) == ["data/train_masks/z.jpg"]


@pytest.mark.parametrize(
    "written",
    [
        "/content/drive/My Drive/set/train/images/a b.jpg",
        "C:\\Users\\me\\set\\train\\images\\a b.jpg",
        "..\\..\\media\\train\\images\\a b.jpg",
        "\\\\server\\share\\train\\images\\a b.jpg",
        "train/images/a%20b.jpg",
        "https://host/bucket/train/images/a%20b.jpg?token=1&x=/y.jpg",
        "file:///home/me/train/images/a%20b.jpg",
        "../../../train/images/a b.jpg",
    ],
)
def test_a_path_of_another_machine_is_resolved_by_its_longest_end(tmp_path, written):
    images = ["set/train/images/a b.jpg", "set/valid/images/a b.jpg", "other/images/a b.jpg"]
    reading = read(tmp_path, written, images)
    assert list(boxes_of(reading)) == ["set/train/images/a b.jpg"]
    assert reading.rejections == []


def test_the_nearest_of_several_equal_ends_is_taken(tmp_path):
    images = ["one/images/a.jpg", "two/images/a.jpg"]
    reading = read(tmp_path, "/content/images/a.jpg", images, "two/annotations/c.json")
    assert list(boxes_of(reading)) == ["two/images/a.jpg"]


def test_several_equal_ends_are_refused_and_listed(tmp_path):
    images = ["one/images/a.jpg", "two/images/a.jpg", "b.jpg"]
    content = coco_file(
        [coco_image(1, "/content/images/a.jpg"), coco_image(2, "b.jpg")], [coco_box(1), coco_box(2)]
    )
    reading = read_sources(write_raw(tmp_path, {"c.json": content}, images))
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("c.json", "ambiguous_image")]
    assert "one/images/a.jpg, two/images/a.jpg" in reading.rejections[0].message


def test_two_links_to_one_image_are_one_image(tmp_path):
    write_raw(tmp_path, images=["pool/a.jpg"])
    (tmp_path / "linked").symlink_to(tmp_path / "pool")
    reading = read(tmp_path, "/content/a.jpg", [])
    assert list(boxes_of(reading)) == ["pool/a.jpg"]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("C:\\a\\b.jpg", "/a/b.jpg"),
        ("https://h/a/b.jpg?x=1#y", "/a/b.jpg"),
        ("a%20b.jpg", "a b.jpg"),
    ],
)
def test_a_plain_path_has_nothing_of_another_machine(written, plain):
    assert plain_path(written) == plain


def test_a_name_with_a_percent_sign_that_exists_is_taken_as_written(tmp_path):
    reading = read(tmp_path, "a%20b.jpg", ["a%20b.jpg", "a b.jpg"])
    assert list(boxes_of(reading)) == ["a%20b.jpg"]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("x.json", '{"project": {}, "config": {}, "attribute": {}, "metadata": {}}', "a VIA 3 pro"),
        ("x.json", '[{"a": 1}]', "x.json is a list of objects with a"),
        ("x.json", '{"a"', "x.json is no valid JSON"),
        ("x.xml", "<?xml version='1.0'?><set/>", "x.xml has the root element set"),
        ("x.csv", "colour,size\nred,1\n", "x.csv begins with 'colour,size'"),
        ("a.txt", "a cat\n", "a.txt begins with 'a cat', next to an image of its name"),
        ("empty.csv", "", "empty.csv is empty"),
    ],
)
def test_a_message_that_nothing_was_found_shows_what_is_there(tmp_path, path, content, said):
    with pytest.raises(SourceNotFoundError) as caught:
        read_sources(write_raw(tmp_path, {path: content}, ["a.jpg"]))
    assert said in str(caught.value)


def test_a_link_that_git_stored_as_text_is_named(tmp_path):
    write_raw(tmp_path, {"set/images": "../pool/images"}, ["pool/images/a.jpg"])
    content = coco_file(annotations=[coco_box()])
    reading = read_sources(write_raw(tmp_path, {"c.json": content}))
    assert ("link_stored_as_text", "set/images") in [(n.kind, n.path) for n in reading.notes]
