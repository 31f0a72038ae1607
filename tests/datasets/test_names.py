"""Labels and keypoints of datasets that are used together must mean the same."""

import pytest

from processing.datasets.names import check_same_names
from processing.lazy_dataset import LazyNPZDataset


def test_a_file_of_another_writer_does_not_hide_that_two_others_differ(processed_dir):
    with LazyNPZDataset(processed_dir / "train_landmarker.npz") as dataset:
        ours = dataset.layout
    foreign = ours._replace(category_names=(), keypoint_names=None)
    other = ours._replace(keypoint_names=tuple(reversed(ours.keypoint_names)))
    check_same_names([("a", foreign), ("b", ours), ("c", ours), ("d", foreign)])
    with pytest.raises(ValueError, match=r"^c: cannot be used together with b, .*keypoint_names"):
        check_same_names([("a", foreign), ("b", ours), ("c", other)])
