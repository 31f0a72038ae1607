import math

import numpy as np
import pytest

from processing.data_processor import DataProcessor
from processing.demo import render_demo
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from training.verdict import TrainingFacts, facts_of, is_good, verdict

ENOUGH = {"cat": 500, "dog": 400}


def facts(task="detector", samples=600, steps=2000, boxes=ENOUGH, median_side=40.0):
    return TrainingFacts(task, samples, steps, boxes, median_side)


@pytest.mark.parametrize(("metric", "score"), [("AP@0.5", 0.7), ("NME", 0.02), ("PSNR", 24.0)])
def test_a_good_score_needs_no_words(metric, score):
    assert is_good(metric, score)
    assert verdict(metric, score, facts(samples=3, boxes={"cat": 3})) == ""


@pytest.mark.parametrize(("metric", "score"), [("AP@0.5", 0.1), ("NME", 0.2), ("PSNR", 7.0)])
def test_a_bad_score_with_enough_data_points_to_the_pictures(metric, score):
    task = {"AP@0.5": "detector", "NME": "landmarker", "PSNR": "teacher"}[metric]
    line = verdict(metric, score, facts(task))
    assert "predictions.png" in line
    assert "curves.png" in line


def test_few_photographs_for_many_categories_are_too_few():
    boxes = {str(i): i for i in range(80)}
    line = verdict("AP@0.5", 0.0, facts(samples=33, boxes=boxes))
    assert line.startswith("33 photographs for 80 categories: too few to learn from scratch")
    assert "at least 100 boxes of each category (half of them have 39 or fewer)" in line


def test_few_boxes_of_one_category_are_too_few():
    line = verdict("AP@0.5", 0.2, facts(samples=36, boxes={"raccoon": 37}))
    assert line.startswith("36 photographs with 37 boxes: too few to learn from scratch")
    assert "1 photograph with 1 box:" in verdict("AP@0.5", 0.2, facts(samples=1, boxes={"a": 1}))


@pytest.mark.parametrize(("task", "metric", "score"), [
    ("landmarker", "NME", 0.3), ("teacher", "PSNR", 9.0),
])  # fmt: skip
def test_few_crops_are_too_few(task, metric, score):
    line = verdict(metric, score, facts(task, samples=26, boxes={}))
    assert line.startswith("26 crops: too few to learn from scratch; collect at least 100")


def test_few_steps_come_before_all_other_reasons():
    line = verdict("AP@0.5", 0.0, facts(samples=3, steps=2, boxes={"cat": 3}))
    assert line.startswith("2 steps: too few")
    assert "trainer.max_epochs" in line
    assert "photograph" not in line


def test_tiny_boxes_and_missing_boxes_are_named():
    assert "datamodule.processor.image_size" in verdict("AP@0.5", 0.1, facts(median_side=4.0))
    assert "no boxes" in verdict("AP@0.5", 0.1, facts(boxes={"cat": 0}, median_side=math.nan))


def test_scores_that_are_not_known_get_no_verdict():
    assert verdict("AP@0.5", math.nan, facts()) == ""
    assert verdict("accuracy", 0.0, facts()) == ""


@pytest.mark.parametrize("combined", [False, True])
def test_the_facts_are_counted_in_the_files(tmp_path, combined):
    render_demo(tmp_path / "raw", images=12)
    DataProcessor(tmp_path / "raw", tmp_path / "npz", progress=False).process_detector()
    file = LazyNPZDataset(tmp_path / "npz" / "train_detector.npz")
    dataset = CombinedLazyDataset([file, file]) if combined else file
    found = facts_of(dataset, "detector", steps=7)
    boxes = [box for sample in dataset for box in sample["bboxes"]]
    assert found.samples == len(dataset)
    assert found.steps == 7
    assert sum(found.boxes.values()) == len(boxes) > 0
    assert list(found.boxes) == list(dataset.category_names or ["object"])
    assert found.median_side == np.median([min(b[2] - b[0], b[3] - b[1]) for b in boxes])
    assert facts_of(dataset, "teacher", 1) == TrainingFacts("teacher", len(dataset), 1)
