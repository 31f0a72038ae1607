"""Mirroring by default: only where it is known which keypoints change places."""

import numpy as np
import pytest
import torch

from datamodules import Augmentation, LazyNPZDataModule
from datamodules.keypoint_names import IBUG_68, is_unnamed
from datamodules.transforms import mirrored_order
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset


def write_csv(directory, points, names=None):
    """Photographs with `points` landmarks each, annotated as CSV."""
    from PIL import Image

    rng = np.random.default_rng(0)
    directory.mkdir()
    header = ",".join(f"part_{i}_x,part_{i}_y" for i in range(points))
    rows = ["image_name," + header]
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(
            directory / f"{i}.png"
        )
        numbers = rng.uniform(10, 80, 2 * points).round(1)
        rows.append(f"{i}.png," + ",".join(map(str, numbers)))
    (directory / "landmarks.csv").write_text("\n".join(rows))
    return DataProcessor(directory, directory / "npz", progress=False)


def augmentation_of(processor, **settings):
    """The augmentation that a datamodule makes of `settings`, once it knows its data."""
    augment = Augmentation(**settings)
    data = LazyNPZDataModule(task="landmarker", processor=processor, augment=augment)
    data.prepare_data()
    data.setup("fit")
    try:
        return data._augment
    finally:
        data.teardown("fit")


def test_68_unnamed_points_are_mirrored_as_those_of_300w(tmp_path, caplog):
    processor = write_csv(tmp_path / "raw", 68)
    with caplog.at_level("INFO", logger="datamodules"):
        found = augmentation_of(processor, horizontal_flip=None)
    assert found.horizontal_flip == 0.5
    assert found.mirrored_order == mirrored_order(IBUG_68)
    assert "as the points of 300-W" in caplog.text


def test_other_unnamed_points_are_not_mirrored(tmp_path):
    processor = write_csv(tmp_path / "raw", 5)
    assert augmentation_of(processor, horizontal_flip=None).horizontal_flip == 0
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    found = augmentation_of(processor, horizontal_flip=None, keypoint_names=names)
    assert (found.horizontal_flip, found.mirrored_order) == (0.5, [1, 0, 2, 4, 3])


def test_names_that_only_number_the_points_are_no_names():
    assert is_unnamed([])
    assert is_unnamed(["0", "1", "2"])
    assert is_unnamed(["p1", "p2", "p3"])
    assert not is_unnamed(["p2", "p1"])
    assert not is_unnamed(["nose", "left_eye"])
    assert not is_unnamed(["left_1", "eye"])


@pytest.mark.parametrize("names", [None, ["left", "right"], ["a", "b"]])
def test_without_a_probability_points_are_mirrored_only_by_names_with_sides(names):
    augment = Augmentation(horizontal_flip=None, keypoint_names=names)
    points = torch.tensor([[[1.0, 5, 2], [8, 5, 2]]]).expand(20, -1, -1)
    batch = {"image": torch.rand(20, 3, 10, 10), "index": torch.arange(20)}
    with_points = augment({**batch, "keypoints": points}, seed=0, epoch=0)
    assert torch.equal(with_points["keypoints"], points) == (names != ["left", "right"])
    without_points = augment(batch, seed=0, epoch=0)
    assert not torch.equal(without_points["image"], batch["image"])


@pytest.mark.parametrize("name", ["csv_faces", "pts_300w"])
def test_the_mean_of_real_faces_is_its_own_mirror_image(real_data, tmp_path, name):
    DataProcessor(real_data / name, tmp_path, progress=False).process_landmarker()
    shapes = []
    for path in sorted(tmp_path.glob("*_landmarker.npz")):
        dataset = LazyNPZDataset(path)
        shapes += [dataset[i]["keypoints"][:, :2] for i in range(len(dataset))]
    centred = [(s - s.mean(0)) / np.ptp(s, axis=0).max() for s in shapes]
    mean = np.mean(centred, axis=0)
    mirrored = (mean * [-1, 1])[mirrored_order(IBUG_68)]
    assert np.abs(mirrored - mean).max() < 0.15
    assert np.abs(mean * [-1, 1] - mean).max() > 0.8, "another order would not fit"
