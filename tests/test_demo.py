import json

import cv2
import numpy as np
import pytest

from processing.demo import render_demo, scene
from processing.demo.people import KEYPOINT_NAMES
from processing.demo.scene import render_scene


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory):
    raw_dir = tmp_path_factory.mktemp("demo") / "raw"
    render_demo(raw_dir, images=12, seed=3)
    return raw_dir


@pytest.fixture(scope="module")
def coco(demo_dir):
    return json.loads((demo_dir / "annotations" / "instances.json").read_text())


def test_every_listed_image_exists_with_its_size(demo_dir, coco):
    files = sorted(path.name for path in (demo_dir / "images").iterdir())
    assert files == [image["file_name"] for image in coco["images"]]
    assert len(files) == 12
    for image in coco["images"]:
        pixels = cv2.imread(str(demo_dir / "images" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert pixels.std() > 15


def test_boxes_lie_inside_their_images_and_contain_five_points(coco):
    sizes = {image["id"]: (image["width"], image["height"]) for image in coco["images"]}
    assert coco["categories"] == [{"id": 1, "name": "face", "keypoints": list(KEYPOINT_NAMES)}]
    assert len(coco["annotations"]) > 12
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"])
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        image_width, image_height = sizes[annotation["image_id"]]
        assert x >= 0
        assert y >= 0
        assert x + width <= image_width
        assert y + height <= image_height
        assert min(width, height) > 15
        points = np.reshape(annotation["keypoints"], (5, 3))
        assert ((points[:, :2] > [x, y]) & (points[:, :2] < [x + width, y + height])).all()
        assert (points[:, 2] == 2).all()


def test_left_means_the_persons_own_left(coco):
    for annotation in coco["annotations"]:
        left_eye, right_eye, nose, left_mouth, right_mouth = np.reshape(
            annotation["keypoints"], (5, 3)
        )
        assert left_eye[0] > right_eye[0]
        assert left_mouth[0] > right_mouth[0]
        assert left_eye[1] < left_mouth[1]
        assert right_eye[0] - 30 < nose[0] < left_eye[0] + 30


def test_keypoints_of_eyes_are_at_the_drawn_pupils():
    # The pupil is the darkest thing around an eye: its centroid must be the annotated point.
    offsets = []
    for index in range(30):
        pixels, boxes, points = render_scene(0, index)
        for box, face in zip(boxes, points, strict=True):
            radius = int((box[3] - box[1]) * 0.04)
            if radius < 3:
                continue
            for x, y, _ in face[:2]:
                left, top = int(x) - radius, int(y) - radius
                patch = pixels[top : top + 2 * radius + 1, left : left + 2 * radius + 1].mean(
                    axis=2
                )
                weights = np.clip(np.percentile(patch, 40) - patch, 0, None)
                rows, columns = np.indices(patch.shape) + 0.5
                centroid = np.array([(columns * weights).sum(), (rows * weights).sum()])
                centroid = centroid / weights.sum() + (left, top)
                offsets.append((centroid - (x, y)) / radius)
    assert len(offsets) > 20
    assert np.abs(np.median(offsets, axis=0)).max() < 0.2


def test_scenes_depend_only_on_seed_and_index(demo_dir, tmp_path):
    render_demo(tmp_path / "again", images=3, seed=3)
    render_demo(tmp_path / "other", images=3, seed=4)
    for name in ("000000.jpg", "000001.jpg", "000002.jpg"):
        same = (tmp_path / "again" / "images" / name).read_bytes()
        assert same == (demo_dir / "images" / name).read_bytes()
        assert same != (tmp_path / "other" / "images" / name).read_bytes()


def test_interrupted_rendering_leaves_no_files(tmp_path, monkeypatch):
    calls = []

    def fail_on_third(seed, index):
        calls.append(index)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render_scene(seed, index)

    monkeypatch.setattr(scene, "render_scene", fail_on_third)
    with pytest.raises(KeyboardInterrupt):
        render_demo(tmp_path / "raw", images=5)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_accepted(tmp_path):
    render_demo(tmp_path, images=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "images"]


def test_a_directory_with_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not empty: the demo"):
        render_demo(tmp_path, images=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_zero_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1, found 0"):
        render_demo(tmp_path / "raw", images=0)
    assert list(tmp_path.iterdir()) == []
