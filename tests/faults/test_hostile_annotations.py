"""Hostile annotations beside good ones: each with its verdict, and nothing good lost."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.faults.annotation_files import coco_cases
from tests.faults.annotation_lines import (
    csv_cases,
    pts_cases,
    voc_cases,
    wider_cases,
    yolo_cases,
)
from tests.faults.processed import Processed, no_sync

__all__ = ["no_sync"]  # a fixture

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


def write(raw, case):
    folder = raw / "images" if case.format == "yolo" else raw
    folder.mkdir(parents=True)
    for name in ("good.png", "bad.png"):
        Image.fromarray(PIXELS).save(folder / name)
    for path, content in case.files.items():
        (raw / path).parent.mkdir(exist_ok=True)
        (raw / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return raw


def stored(processed, task, member):
    """By image name, the values of all its rows."""
    if not any(file.path.name == f"train_{task}.npz" for file in processed.report.files):
        return {}
    rows = processed.rows(task)
    return {
        path.removeprefix("images/"): [row[member] for row in listed]
        for path, listed in rows.items()
    }


CASES = [
    *(coco_cases() + yolo_cases() + wider_cases()),
    *(csv_cases() + pts_cases() + voc_cases()),
]


def test_there_are_many_cases_and_none_twice():
    assert len(set(map(str, CASES))) == len(CASES) >= 80


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize(
    "cases",
    [pytest.param(CASES[::3], id="some"), pytest.param(CASES, marks=pytest.mark.long, id="all")],
)
def test_every_hostile_annotation_comes_to_its_verdict_and_no_good_one_is_lost(
    tmp_path, tally, cases
):
    tally.points = len(cases)

    def check(case):
        number = cases.index(case)
        raw = write(tmp_path / f"raw{number}", case)
        processed = Processed(raw, tmp_path / f"out{number}")
        boxes = stored(processed, "detector", "bboxes")
        points = stored(processed, "landmarker", "keypoints")
        if boxes:
            np.testing.assert_allclose(boxes["good.png"], [case.good], atol=1e-4)
            rows = processed.rows("detector")
            images = [row["image"] for listed in rows.values() for row in listed]
            assert all((image == PIXELS).all() for image in images)
        else:
            source = back_to_source(processed, "good.png")
            np.testing.assert_allclose(source, case.good, atol=1e-3)
        if case.boxes is None:
            assert "bad.png" not in boxes
        else:
            (found,) = boxes["bad.png"]
            np.testing.assert_allclose(found, np.reshape(case.boxes, (-1, 4)), atol=1e-4)
        if case.points is None:
            assert "bad.png" not in points
        else:
            (found,) = back_to_source(processed, "bad.png")
            np.testing.assert_allclose(found, case.points, atol=1e-3)
        listed = [
            (path, reason)
            for path, verdicts in processed.rejected.items()
            for _, reason, _ in verdicts
        ]
        assert sorted(listed) == sorted(case.rejected)
        messages = "\n".join(v[2] for verdicts in processed.rejected.values() for v in verdicts)
        assert " at 0x" not in messages, "an address differs from run to run"
        if case.rejected:
            assert re.search(case.says, messages), messages
        counts = processed.counts("detector" if boxes else "landmarker")
        assert counts.repairs == case.repairs
        assert case.notes.items() <= processed.report.notes.items()
        if any(path.endswith("bad.png") for path, _ in listed):
            assert "unlisted_images" not in processed.report.notes, "it is listed already"
        stages = [v[0] for verdicts in processed.rejected.values() for v in verdicts]
        assert processed.report.has_rejections == any(stage != "rules" for stage in stages)
        if case.rejected:
            return "detected"
        return "recovered" if case.repairs else "unaffected"

    tally.each(cases, check)


def back_to_source(processed, name):
    """The landmarks of an image's rows, in pixels of the source."""
    found = []
    for row in processed.rows("landmarker")[name]:
        x1, y1, x2, y2 = row["rect"].astype(float)
        points = row["keypoints"].astype(float)
        points[:, :2] = points[:, :2] * [(x2 - x1) / 24, (y2 - y1) / 24] + [x1, y1]
        found.append(points)
    return found
