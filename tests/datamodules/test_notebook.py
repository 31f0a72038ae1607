"""The datamodule in a notebook: its splits, before and after `setup`."""

import json
import shutil

import numpy as np

from datamodules import LazyNPZDataModule
from tests.datasets.test_viewable import Page


def rows_of(datamodule):
    """Returns the text of each row of the table."""
    html = datamodule._repr_html_()
    Page(html)  # is well-formed
    body = html.partition("<tbody>")[2]
    return [Page(f"<table>{row}</tr></table>").text for row in body.split("</tr>")[:-1]]


def test_splits_are_shown_before_setup_and_while_they_are_open(processed_dir):
    datamodule = LazyNPZDataModule(data_dir=processed_dir)
    train, val, test = rows_of(datamodule)
    assert "train_detector.npz" in train
    assert "not open: setup() opens it" in train
    assert "64x64" in val
    assert "val is used" in test
    assert not datamodule.datasets
    datamodule.setup("fit")
    train, val, test = rows_of(datamodule)
    assert train.startswith(f"train{len(datamodule.datasets['train'])}")
    assert train.endswith("open")
    assert val.endswith("open")
    datamodule.teardown()
    assert "not open" in rows_of(datamodule)[0]


def test_many_categories_are_counted_and_the_first_ones_named(tmp_path):
    np.savez(
        tmp_path / "train_detector.npz",
        images=np.zeros((1, 8, 8, 3), np.uint8),
        bboxes=np.zeros((0, 4), np.float32),
        bboxes_offsets=np.zeros(2, np.int64),
        image_paths=np.array(["a.png"]),
        metadata=json.dumps({"category_names": [f"c{n}" for n in range(80)]}),
    )
    train, *_ = rows_of(LazyNPZDataModule(data_dir=tmp_path))
    assert "80 categories: c0, c1, c2, c3, c4, …" in train


def test_missing_and_damaged_files_and_urls_are_text(processed_dir, tmp_path):
    shutil.copy(processed_dir / "train_teacher.npz", tmp_path)
    (tmp_path / "val_teacher.npz").write_bytes(b"PK<b>")
    train, val, test = rows_of(LazyNPZDataModule(task="teacher", data_dir=tmp_path))
    assert "not open" in train
    assert "cannot be shown: NPZFormatError" in val
    assert test
    train, *_ = rows_of(LazyNPZDataModule(data_dir=tmp_path / "none"))
    assert "not there: prepare_data() makes it" in train
