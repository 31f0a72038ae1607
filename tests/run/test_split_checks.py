"""Warnings about splits that may mislead."""

import logging
import shutil

import numpy as np
import pytest

from processing.core.annotations import SPLITS
from processing.data_processor import DataProcessor
from processing.run.splits import moved_since


def said(caplog, raw_dir, output_dir, task="process_all", train_split=0.8, **options):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        processor = DataProcessor(raw_dir, output_dir, image_size=16, progress=False, **options)
        getattr(processor, task)(train_split)
    return [m for m in caplog.messages if "not of these data and options" not in m]


def test_of_a_sound_division_nothing_is_said(raw_dir, tmp_path, caplog):
    for _ in range(2):
        assert not said(caplog, raw_dir, tmp_path)


@pytest.mark.parametrize("change", [{"seed": 1}, {"train_split": 0.5}])
def test_files_of_other_tasks_that_are_divided_otherwise_are_named(
    raw_dir, tmp_path, caplog, change
):
    assert not said(caplog, raw_dir, tmp_path, "process_detector")
    messages = said(caplog, raw_dir, tmp_path, "process_landmarker", **change)
    assert any(
        "train_detector.npz: " in m and "make the detector's files again" in m for m in messages
    )
    assert any("another split of landmarker" in m for m in messages)
    assert not said(caplog, raw_dir, tmp_path, **change)


def test_copies_of_a_photograph_in_two_splits_are_counted(raw_dir, tmp_path, caplog):
    images = sorted((raw_dir / "images").glob("*.jpg"))
    for image in images[1:]:
        shutil.copy(images[0], image)
    for _ in range(2):  # the second finds all up to date, and says it as well
        messages = said(caplog, raw_dir, tmp_path, "process_detector")
        assert any(
            "5 images outside train have the same content as one in train" in m for m in messages
        ), messages


def test_groups_that_are_none_and_splits_that_are_empty_are_told(raw_dir, tmp_path, caplog):
    (alone,) = said(caplog, raw_dir, tmp_path, "process_detector", group_by="nobody")
    assert "group_by='nobody' finds nothing in 24 of 24 paths, such as images/0000.jpg" in alone
    (empty,) = said(caplog, raw_dir, tmp_path, "process_detector", group_by="images")
    assert "none of 24 images is in this split" in empty


@pytest.mark.parametrize("train_split", [0.0, 1.0])
def test_a_split_that_is_empty_on_demand_is_no_reason_for_a_warning(
    raw_dir, tmp_path, caplog, train_split
):
    assert not said(caplog, raw_dir, tmp_path, "process_detector", train_split=train_split)


@pytest.mark.parametrize("length", [5, 15, 16, 40, 300])
def test_paths_of_any_length_are_found_in_files_of_other_tasks(tmp_path, length):
    """numpy's own search reads wrong memory for strings of more than 15 bytes (numpy#31533)."""
    paths = sorted(f"{i:0{length}}" for i in range(20))
    np.savez(tmp_path / "val_detector.npz", image_paths=np.array(paths[5:10]))
    splits = np.array([SPLITS.index("train")] * 8 + [SPLITS.index("val")] * 12, dtype=np.int8)
    table = np.array(paths, dtype=np.dtypes.StringDType())
    (message,) = moved_since(tmp_path, table, splits, ["landmarker"])
    assert "val_detector.npz: 3 images are in another split of landmarker" in message
