"""Notes on splits that may mislead."""

import json
import shutil

import numpy as np
import pytest

from processing.core.annotations import SPLITS
from processing.data_processor import DataProcessor
from processing.run.split_notes import moved_since


def run(raw_dir, output_dir, task="process_all", train_split=0.8, **options):
    processor = DataProcessor(raw_dir, output_dir, image_size=16, progress=False, **options)
    return getattr(processor, task)(train_split)


def said(*arguments, **options):
    """The messages of the report's notes, by kind; checks that the list of notes has them too."""
    report = run(*arguments, **options)
    path = report.notes_path
    lines = [] if path is None else map(json.loads, path.read_text().splitlines())
    listed = {line["kind"]: line["message"] for line in lines}
    assert listed.keys() == report.notes.keys()
    assert {kind: note.message for kind, note in report.note_examples.items()} == listed
    assert all(f"{kind} {n}: " in str(report) for kind, n in report.notes.items())
    return listed


def test_of_a_sound_division_nothing_is_said(raw_dir, tmp_path, caplog):
    for _ in range(2):
        assert not said(raw_dir, tmp_path)
        assert not caplog.messages


@pytest.mark.parametrize("change", [{"seed": 1}, {"train_split": 0.5}])
def test_moved_since_that_are_divided_otherwise_are_named(raw_dir, tmp_path, change):
    assert not said(raw_dir, tmp_path, "process_detector")
    for _ in range(2):
        report = run(raw_dir, tmp_path, "process_landmarker", **change)
        message = report.note_examples["moved_since"].message
        assert "_detector.npz: " in message
        assert "make the detector's files again" in message
        assert "another split of landmarker" in message
    assert not said(raw_dir, tmp_path, **change)


def test_copies_of_a_photograph_are_noted_in_every_run(raw_dir, tmp_path, caplog):
    images = sorted((raw_dir / "images").glob("*.jpg"))
    for image in images[1:]:
        shutil.copy(images[0], image)
    for up_to_date in (False, True):
        report = run(raw_dir, tmp_path, "process_detector")
        assert report.up_to_date == up_to_date
        assert report.notes == {"copy_in_other_split": 5, "same_photograph": 23}
        text = str(report)
        assert "5 images outside train with the same content as one in train" in text
        assert "23 photographs lie more than once in images" in text
        assert not [m for m in caplog.messages if "same content" in m or "lie" in m], "said twice"
    assert said(raw_dir, tmp_path, "process_detector").keys() == report.notes.keys()


def test_one_copy_is_told_in_the_singular(raw_dir, tmp_path):
    images = sorted((raw_dir / "images").glob("*.jpg"))
    shutil.copy(images[0], images[1])
    message = said(raw_dir, tmp_path, "process_detector")["same_photograph"]
    assert message.startswith("1 photograph lies more than once in images;")


def test_groups_that_are_none_and_splits_that_are_empty_are_told(raw_dir, tmp_path):
    alone = said(raw_dir, tmp_path, "process_detector", group_by="nobody")
    assert "finds nothing in 24 of 24 paths, such as images/0000.jpg" in alone["ungrouped"]
    for nothing in ("", "x*", "(?:images)(x)?"):  # they match without a character
        alone = said(raw_dir, tmp_path, "process_detector", group_by=nothing)
        assert "finds nothing in 24 of 24 paths, such as images/0000.jpg" in alone["ungrouped"]
    empty = said(raw_dir, tmp_path, "process_detector", group_by="images")
    assert "none of 24 images is in this split" in empty["empty_split"]


@pytest.mark.parametrize("train_split", [0.0, 1.0])
def test_a_split_that_is_empty_on_demand_is_no_reason_for_a_note(raw_dir, tmp_path, train_split):
    assert not said(raw_dir, tmp_path, "process_detector", train_split=train_split)


@pytest.mark.parametrize("length", [5, 15, 16, 40, 300])
def test_paths_of_any_length_are_found_in_moved_since(raw_dir, tmp_path, length):
    """numpy's own search reads wrong memory for strings of more than 15 bytes (numpy#31533)."""
    folder = "f" * min(length, 200)
    (raw_dir / "images").rename(raw_dir / folder)
    run(raw_dir, tmp_path, "process_detector")
    stored = set(np.load(tmp_path / "val_detector.npz")["image_paths"].tolist())
    splits = np.full(24, SPLITS.index("train"), dtype=np.int8)
    paths = np.array([f"{folder}/{i:04d}.jpg" for i in range(24)], dtype=np.dtypes.StringDType())
    (note,) = moved_since(tmp_path, paths, splits, ["landmarker"])
    assert f"val_detector.npz: {len(stored)} of its {len(stored)} images are in" in note.message
    assert (note.kind, note.path, note.count) == ("moved_since", "val_detector.npz", len(stored))
