"""Random boxes and points of hostile magnitudes: stored ones are valid, and all are counted."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from tests.faults.image_files import orientation
from tests.faults.processed import Processed, no_sync

__all__ = ["no_sync"]  # a fixture

STORED = (24, 40)  # height, width; different, so that neither can stand for the other
SIZES = ((24, 16), (7, 64), (33, 33), (1, 1), (2, 500), (640, 3))
BOXES = 25
"""Per image; a run has 80 images."""

HOSTILE = (
    *(math.nan, math.inf, -math.inf, 1e308, -1e308, 1e39, -1e39, 3.4e38, -3.4e38),
    *(1e-310, -1e-310, 1e-45, 1e-7, -0.0, 0.0, 0.5, 1.0, -1.0, 2.0**24, 2.0**31, -(2.0**63)),
)
MINIMA = (0.0, 1e-30, 0.5, 1.0, 3.0)


def coordinates(rng, sides):
    """x, y, width, height: most near the image, some at its very edges, some hostile."""
    near = rng.uniform(-0.3, 1.3, 4) * np.tile(sides, 2)
    on_edge = np.tile(sides, 2) * rng.integers(0, 2, 4)
    hostile = rng.choice(HOSTILE, 4)
    kinds = rng.choice(3, 4, p=[0.9, 0.05, 0.05]) if rng.random() < 0.6 else rng.choice(3, 4)
    return np.choose(kinds, [near, on_edge, hostile]).tolist()


def draw(rng, fractions):
    """Images: name, stored size, orientation, whether sound, boxes, points of every third box."""
    images = []
    for i in range(80):
        height, width = SIZES[i % len(SIZES)]
        turn = 1 + i // len(SIZES) % 8
        upright = (width, height) if turn < 5 else (height, width)
        sides = (1, 1) if fractions else upright
        boxes = [coordinates(rng, sides) for _ in range(BOXES)]
        points = [coordinates(rng, sides)[:2] for _ in range(2 * BOXES)]
        images.append((f"images/{i:03d}.png", (height, width), turn, i % 10 != 9, boxes, points))
    return images


def write_images(raw, images):
    (raw / "images").mkdir(parents=True)
    for name, (height, width), turn, sound, _, _ in images:
        noise = np.zeros((height, width, 3), np.uint8)
        Image.fromarray(noise).save(raw / name, exif=orientation(turn))
        if not sound:
            (raw / name).write_bytes(b"no image")


def write_coco(raw, images):
    annotations = []
    for number, (_, _, _, _, boxes, points) in enumerate(images):
        for i, box in enumerate(boxes):
            annotation = {"image_id": number, "category_id": 1, "bbox": box}
            if i % 3 == 0:
                annotation["keypoints"] = [*points[2 * i], 2, *points[2 * i + 1], 1]
            annotations.append(annotation)
    content = {
        "images": [{"id": i, "file_name": image[0]} for i, image in enumerate(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (raw / "a.json").write_text(json.dumps(content))


def write_yolo(raw, images):
    (raw / "labels").mkdir()
    (raw / "data.yaml").write_text("train: images\nnames: [thing]\nkpt_shape: [2, 3]\n")
    for name, _, _, _, boxes, points in images:
        rows = []
        for i, box in enumerate(boxes):
            pair = [*points[2 * i], 2, *points[2 * i + 1], 1] if i % 3 == 0 else []
            rows.append(" ".join(map(repr, [0, *box, *pair])))
        label = raw / name.replace("images", "labels").replace("png", "txt")
        label.write_text("\n".join(rows))


WRITERS = {"coco": write_coco, "yolo": write_yolo}


def assert_inside(boxes, width, height):
    boxes = np.asarray(boxes)
    assert boxes.dtype == np.float32
    assert np.isfinite(boxes).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()


def check_stored(processed):
    """Asserts that all stored values are finite and in range."""
    for rows in processed.rows("detector").values():
        assert_inside(rows[0]["bboxes"], STORED[1], STORED[0])
    for rows in processed.rows("teacher").values():
        for row in rows:
            height, width = row["size"]
            assert_inside(row["bboxes"][None], width, height)
    for rows in processed.rows("landmarker").values():
        for row in rows:
            assert np.isfinite(row["keypoints"]).all()
            assert np.isfinite(row["rect"]).all()


def check_counts(processed, images):
    """Asserts that every written box is stored, or counted with the reason why it is not."""
    sound = [image for image in images if image[3]]
    notes = processed.report.notes.get("duplicate_box", 0)
    # Boxes that cannot mean what their format says are refused before any image is read.
    refused = dict(processed.report.rejected_annotations)
    refused.pop("no_usable_annotation", None)  # of images, not of boxes
    notes += sum(refused.values())
    for task in ("detector", "teacher"):
        counts = processed.counts(task)
        clipped = counts.repairs.get("clipped", 0)
        rejected = counts.instances_rejected
        assert counts.instances_read == len(images) * BOXES - notes
        assert 0 < clipped <= counts.instances_read
        damaged = len(images) - len(sound)
        assert counts.rejected["not_an_image"] <= damaged
        without_boxes = counts.rejected.get("no_usable_annotation", 0) + counts.left_out_by_rules
        assert rejected >= damaged * BOXES - notes
        assert rejected <= (damaged + without_boxes) * BOXES
        assert counts.empty_images == 0, "every image had boxes"
    boxes = sum(len(rows[0]["bboxes"]) for rows in processed.rows("detector").values())
    assert boxes == processed.counts("detector").instances_stored
    for task in ("detector", "landmarker", "teacher"):
        counts = processed.counts(task)
        dropped = sum(counts.dropped.values())
        accounted = counts.instances_stored + counts.instances_rejected + dropped
        assert counts.instances_read == accounted
        assert sum(counts.categories.values()) == counts.instances_stored
        listed = processed.output_dir / f"train_{task}.dropped.jsonl"
        lines = listed.read_text().splitlines() if listed.exists() else []
        assert len(lines) == dropped + counts.repairs.get("unlabelled_points", 0)


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.long)])
def test_every_stored_box_is_inside_its_image_and_none_is_lost(tmp_path, tally, rounds):
    tally.seed = 20 + rounds
    # Over several rounds, each minimum meets both formats.
    runs = {
        f"{i} {minimum} {('coco', 'yolo')[(i + position) % 2]}": minimum
        for i in range(rounds)
        for position, minimum in enumerate(MINIMA)
    }
    tally.points = len(runs) * 80 * BOXES

    def check(case):
        number, source = list(runs).index(case), case.split()[-1]
        raw = tmp_path / f"raw{number}"
        images = draw(np.random.default_rng([tally.seed, number]), source == "yolo")
        write_images(raw, images)
        WRITERS[source](raw, images)
        processed = Processed(
            raw, tmp_path / f"out{number}", image_size=STORED, min_box_size=runs[case]
        )
        check_stored(processed)
        check_counts(processed, images)
        return "recovered"

    assert len(runs) * 80 * BOXES >= 10_000
    tally.each(runs, check)
