"""Each real data set through the whole pipeline: stored, undone by `to_source`, and compared."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from processing.data_processor import DataProcessor
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from tests.sources.test_real_annotations import BOX_SHIFT, POINT_SHIFT, SETS

pytestmark = pytest.mark.parametrize("name", SETS)


@pytest.fixture(scope="module")
def processed(real_data, tmp_path_factory):
    """Processes a set once; the datasets of one task, both splits together."""
    done = {}

    def datasets(name, task):
        if name not in done:
            output_dir = tmp_path_factory.mktemp(name)
            report = DataProcessor(real_data / name, output_dir).process_all()
            assert not report.has_rejections
            done[name] = output_dir, report
        output_dir, report = done[name]
        paths = [file.path for file in report.files if file.path.stem.endswith(task)]
        return [LazyNPZDataset(path) for path in paths], report

    return datasets


def truth_of(real_data, name):
    return json.loads((real_data / "truth" / f"{name}.json").read_text())["per_image"]


def test_detector_boxes_undo_to_the_truth_within_a_pixel(real_data, processed, name):
    truth = truth_of(real_data, name)
    datasets, report = processed(name, "detector")
    stored, far = {}, 0
    for dataset in datasets:
        for i in range(len(dataset)):
            path = str(dataset.image_paths[i])
            stored[path] = boxes = dataset.to_source(i, dataset[i]["bboxes"])
            width, height = truth[path]["size"]
            for first in truth[path]["first_boxes_xyxy"]:
                box = np.clip(first + BOX_SHIFT.get(name, np.zeros(4)), 0, [width, height] * 2)
                far += np.abs(boxes - box).max(axis=1).min(initial=np.inf) > 0.01
    if not datasets:
        assert "detector" in report.skipped_tasks
        return
    dropped = sum_of_repairs(report)
    assert set(stored) == set(truth)
    assert sum(map(len, stored.values())) == sum(i["n_boxes"] for i in truth.values()) - dropped
    assert far <= dropped, "a box that was not dropped is elsewhere"


def sum_of_repairs(report):
    """Boxes dropped, of the detector's files."""
    dropped = Counter()
    for file in report.files:
        if file.path.stem.endswith("detector"):
            dropped.update(file.repairs)
    del dropped["clipped"]
    return sum(dropped.values())


def test_landmarks_undo_to_the_truth_within_a_pixel(real_data, processed, name):
    truth = truth_of(real_data, name)
    datasets, report = processed(name, "landmarker")
    first_of_image = {}
    for dataset in datasets:
        for i in range(len(dataset)):
            points = dataset.to_source(i, dataset[i]["keypoints"])
            first_of_image.setdefault(str(dataset.image_paths[i]), points)
    if not datasets:
        assert "landmarker" in report.skipped_tasks
        return
    assert set(first_of_image) == set(truth)
    for path, points in first_of_image.items():
        expected = np.array(truth[path]["first_points"])[:, :2] + POINT_SHIFT.get(name, 0)
        np.testing.assert_allclose(points[:, :2], expected, atol=0.01)


def test_stored_pixels_show_the_source_where_the_boxes_say(real_data, processed, name):
    """Mean colours of stored boxes and of the same boxes in the photograph, read by Pillow."""
    datasets, report = processed(name, "detector")
    if not datasets:
        assert "detector" in report.skipped_tasks
        return
    dataset = CombinedLazyDataset(datasets)
    compared = 0
    for i in range(min(len(dataset), 12)):
        sample = dataset[i]
        with Image.open(real_data / name / sample["image_path"]) as opened:
            photo = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(float)
        part, row = (
            (datasets[0], i) if i < len(datasets[0]) else (datasets[1], i - len(datasets[0]))
        )
        for box in sample["bboxes"]:
            x1, y1, x2, y2 = np.round(box).astype(int)
            if min(x2 - x1, y2 - y1) < 12:
                continue
            sx1, sy1, sx2, sy2 = np.round(part.to_source(row, [x1, y1, x2, y2])).astype(int)
            stored = sample["image"][y1:y2, x1:x2].mean(axis=(0, 1))
            source = photo[max(sy1, 0) : sy2, max(sx1, 0) : sx2].mean(axis=(0, 1))
            np.testing.assert_allclose(stored, source, atol=4)
            compared += 1
    assert compared
