"""Data whose labels or keypoints mean different things is never read as one."""

import json

import numpy as np
import pytest

from processing.core.errors import NPZFormatError
from processing.datasets.names import check_same_names
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset, open_dataset

EYES = ["left eye", "right eye", "nose"]
SWAPPED = ["right eye", "left eye", "nose"]


def write(path, *, points=3, **metadata):
    """Writes a landmark file; without metadata as another program would."""
    members = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "keypoints": np.zeros((2, points, 3), np.float32),
        "image_paths": np.array(["a.jpg", "b.jpg"]),
    }
    if metadata:
        members["metadata"] = np.array(json.dumps({"format_version": 1, **metadata}))
    np.savez(path, **members)
    return path


def named(path, names, **options):
    return write(path, keypoint_names=names, category_names=["face"], **options)


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (SWAPPED, "'right eye', 'left eye', 'nose' here, 'left eye', 'right eye', 'nose' there"),
        (["left eye", "right eye", "chin"], "'chin' here, 'nose' there, from position 2 on"),
        ([], "no names here, 'left eye', 'right eye', 'nose' there"),
        (["left eye", "right eye"], "no more names here, 'nose' there"),
    ],
)
def test_files_with_other_keypoints_are_refused_and_both_named(tmp_path, names, difference):
    paths = named(tmp_path / "first.npz", EYES), named(tmp_path / "second.npz", names)
    with pytest.raises(ValueError, match=r"second\.npz.*first\.npz.*keypoint_names") as caught:
        open_dataset(paths)
    assert difference in str(caught.value)
    assert "the same names in the same order" in str(caught.value)
    with pytest.raises(ValueError, match=r"second\.npz.*first\.npz.*keypoint_names"):
        CombinedLazyDataset([LazyNPZDataset(path) for path in paths])
    with pytest.raises(ValueError, match=r"first\.npz.*second\.npz.*keypoint_names"):
        open_dataset(paths[::-1])


@pytest.mark.parametrize("names", [EYES, []])
def test_files_with_the_same_keypoints_are_read_as_one(tmp_path, names):
    paths = named(tmp_path / "first.npz", names), named(tmp_path / "second.npz", names)
    with open_dataset(paths) as dataset:
        assert len(dataset) == 4
        assert dataset.layout.keypoint_names == tuple(names)


def test_files_of_other_writers_are_read_as_one(tmp_path):
    with open_dataset([write(tmp_path / "a.npz"), write(tmp_path / "b.npz")]) as dataset:
        assert len(dataset) == 4
        assert dataset.layout.keypoint_names is None


@pytest.mark.parametrize("nested", [False, True])
def test_a_file_of_another_writer_between_them_does_not_hide_a_difference(tmp_path, nested):
    plain = LazyNPZDataset(write(tmp_path / "plain.npz"))
    eyes, swapped = (
        LazyNPZDataset(write(tmp_path / name, keypoint_names=names))
        for name, names in (("eyes.npz", EYES), ("swapped.npz", SWAPPED))
    )
    assert len(CombinedLazyDataset([plain, eyes])) == 4
    parts = [CombinedLazyDataset([plain, eyes]), swapped] if nested else [plain, eyes, swapped]
    expected = r"swapped\.npz.*keypoint_names" if nested else r"swapped\.npz.*eyes\.npz"
    with pytest.raises(ValueError, match=expected):
        CombinedLazyDataset(parts)


@pytest.mark.parametrize("names", ["ba", ["b", "a"], ["a"], ["a", "b", "c"]])
def test_files_with_other_categories_are_refused_and_both_named(tmp_path, names):
    first = write(tmp_path / "first.npz", category_names=["a", "b"])
    second = write(tmp_path / "second.npz", category_names=list(names))
    with pytest.raises(ValueError, match=r"second\.npz.*first\.npz.*category_names differ"):
        open_dataset([first, second])


def test_a_long_list_of_names_is_shown_from_its_first_difference(tmp_path):
    names = [f"part {i}" for i in range(98)]
    other = [*names[:60], names[61], names[60], *names[62:]]
    paths = [named(tmp_path / f"{i}.npz", each, points=98) for i, each in enumerate((names, other))]
    with pytest.raises(ValueError, match=r"'part 61', 'part 60', .* from position 60 on") as caught:
        open_dataset(paths)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("names", ["abc", [1, 2, 3], 5, {"a": 1}])
def test_names_of_another_kind_are_a_format_error(tmp_path, names):
    with pytest.raises(NPZFormatError, match="keypoint_names: a list of names is expected"):
        LazyNPZDataset(write(tmp_path / "a.npz", keypoint_names=names))


def test_a_file_of_another_writer_does_not_hide_that_two_others_differ(processed_dir):
    with LazyNPZDataset(processed_dir / "train_landmarker.npz") as dataset:
        ours = dataset.layout
    foreign = ours._replace(category_names=(), keypoint_names=None)
    other = ours._replace(keypoint_names=tuple(reversed(ours.keypoint_names)))
    check_same_names([("a", foreign), ("b", ours), ("c", ours), ("d", foreign)])
    with pytest.raises(ValueError, match=r"^c: cannot be used together with b, .*keypoint_names"):
        check_same_names([("a", foreign), ("b", ours), ("c", other)])
