import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datamodules.transforms import Augmentation, mirrored_order, to_float
from processing.datasets.batch import TensorList

NAMES = ["left_eye", "right_eye", "nose"]
FLIP = Augmentation(horizontal_flip=1.0, keypoint_names=NAMES)


def batch_of(n=8, *, height=6, width=10, seed=0):
    rng = np.random.default_rng(seed)
    boxes = TensorList(
        torch.tensor(
            np.sort(rng.uniform(0, 6, (k, 2, 2)), axis=1).reshape(k, 4), dtype=torch.float32
        )
        for k in rng.integers(0, 4, n)
    )
    return {
        "image": torch.tensor(rng.random((n, 3, height, width)), dtype=torch.float32),
        "bboxes": boxes,
        "keypoints": torch.tensor(rng.uniform(1, 6, (n, 3, 3)), dtype=torch.float32),
        "index": torch.arange(n),
        "image_path": [f"{i}.jpg" for i in range(n)],
    }


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, TensorList):
            assert len(value) == len(right[key])
            assert all(torch.equal(a, b) for a, b in zip(value, right[key], strict=True)), key
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, right[key]), key
        else:
            assert value == right[key]


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3, st.just(3))))
def test_to_float_moves_channels_first_and_keeps_every_value(images):
    floats = to_float(torch.from_numpy(images))
    assert floats.dtype == torch.float32
    np.testing.assert_array_equal(
        floats.numpy(), images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    )


def test_to_float_gives_channels_last_memory():
    floats = to_float(torch.zeros(2, 8, 9, 3, dtype=torch.uint8))
    assert floats.shape == (2, 3, 8, 9)
    assert floats.is_contiguous(memory_format=torch.channels_last)


def test_mirroring_keeps_channels_last_memory():
    batch = batch_of() | {"image": to_float(torch.zeros(8, 6, 10, 3, dtype=torch.uint8))}
    augment = Augmentation(0.5, 0.1, 0.1, NAMES)
    image = augment(batch, seed=0, epoch=0)["image"]
    assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [TensorList, list])
def test_a_mirrored_box_covers_the_mirrored_pixels(kind):
    image = torch.zeros(1, 1, 8, 12)
    image[0, 0, 2:5, 1:4] = 1
    boxes = kind([torch.tensor([[1.0, 2.0, 4.0, 5.0]])])
    flipped = FLIP({"image": image, "bboxes": boxes, "index": torch.tensor([0])}, seed=0, epoch=0)
    x1, y1, x2, y2 = flipped["bboxes"][0][0].int().tolist()
    assert flipped["image"].sum() == 9
    assert flipped["image"][0, 0, y1:y2, x1:x2].sum() == 9


def test_a_mirrored_point_stays_on_its_pixel_and_takes_the_opposite_name():
    image = torch.zeros(1, 1, 8, 12)
    image[0, 0, 3, 2] = 1  # the left eye, whose centre is at 2.5, 3.5
    points = torch.tensor([[[2.5, 3.5, 2.0], [9.5, 3.5, 1.0], [6.0, 5.0, 2.0]]])
    flipped = FLIP(
        {"image": image, "keypoints": points, "index": torch.tensor([0])}, seed=0, epoch=0
    )
    left, right, nose = flipped["keypoints"][0].tolist()
    assert flipped["image"][0, 0, int(right[1]), int(right[0])] == 1
    assert right == [9.5, 3.5, 2.0]
    assert left == [2.5, 3.5, 1.0]
    assert nose == [6.0, 5.0, 2.0]


def test_points_that_are_not_labelled_keep_their_coordinates():
    points = torch.tensor([[[0.0, 0.0, 0.0], [4.0, 3.0, 2.0], [6.0, 5.0, 2.0]]])
    batch = {"image": torch.zeros(1, 1, 8, 12), "keypoints": points, "index": torch.tensor([0])}
    assert FLIP(batch, seed=0, epoch=0)["keypoints"][0, 1].tolist() == [0.0, 0.0, 0.0]


def test_mirroring_twice_gives_the_batch_back():
    batch = batch_of()
    twice = FLIP(FLIP(batch, seed=0, epoch=0), seed=0, epoch=0)
    torch.testing.assert_close(twice["image"], batch["image"], rtol=0, atol=0)
    torch.testing.assert_close(twice["keypoints"], batch["keypoints"])
    for back, box in zip(twice["bboxes"], batch["bboxes"], strict=True):
        torch.testing.assert_close(back, box)


def test_a_teachers_boxes_stay_in_the_source_image():
    batch = batch_of() | {"bboxes": torch.rand(8, 4)}
    flipped = FLIP(batch, seed=0, epoch=0)
    assert flipped["bboxes"] is batch["bboxes"]
    assert torch.equal(flipped["image"], batch["image"].flip(-1))


def test_batches_without_any_box_are_mirrored():
    batch = batch_of() | {"bboxes": TensorList(torch.empty(0, 4) for _ in range(8))}
    assert [tuple(b.shape) for b in FLIP(batch, seed=0, epoch=0)["bboxes"]] == [(0, 4)] * 8


def test_the_batch_given_is_unchanged():
    batch = batch_of()
    before = copy.deepcopy(batch)
    Augmentation(0.5, 0.3, 0.3, NAMES)(batch, seed=1, epoch=1)
    assert_same(batch, before)


@pytest.mark.parametrize(
    "parts", [[range(8)], [range(3), range(3, 8)], [[7, 0], [3, 5, 1], [2, 4, 6]]]
)
def test_a_sample_is_changed_alike_in_any_batch(parts):
    augment = Augmentation(0.5, 0.3, 0.3, NAMES)
    batch = batch_of()
    whole = augment(batch, seed=5, epoch=2)
    for part in parts:
        rows = list(part)
        piece = {
            "image": batch["image"][rows],
            "bboxes": TensorList(batch["bboxes"][i] for i in rows),
            "keypoints": batch["keypoints"][rows],
            "index": batch["index"][rows],
        }
        changed = augment(piece, seed=5, epoch=2)
        assert torch.equal(changed["image"], whole["image"][rows])
        assert torch.equal(changed["keypoints"], whole["keypoints"][rows])
        for box, i in zip(changed["bboxes"], rows, strict=True):
            assert torch.equal(box, whole["bboxes"][i])


def test_augmentation_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    Augmentation(0.5, 0.3, 0.3, NAMES)(batch_of(), seed=0, epoch=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_epoch_and_index_each_change_the_numbers():
    n = 2000
    batch = {"image": torch.full((n, 1, 1, 1), 0.5), "index": torch.arange(n)}
    augment = Augmentation(0.0, brightness=0.5)
    shifts = [
        augment(batch | {"index": batch["index"] + first}, seed=s, epoch=e)["image"].flatten() - 0.5
        for s, e, first in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1 << 40))
    ]
    for shift in shifts:
        # Uniform in ±0.5: standard error of the mean 0.0065, of the second moment 0.0017.
        assert abs(shift.mean()) < 0.03
        assert abs(shift.square().mean() - 1 / 12) < 0.008
        assert shift.unique().numel() > 0.99 * n
        assert abs(np.corrcoef(shift[:-1], shift[1:])[0, 1]) < 0.1
    assert np.abs(np.corrcoef(torch.stack(shifts)) - np.eye(4)).max() < 0.1


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_samples_are_mirrored_as_often_as_asked(probability):
    n = 4000
    image = torch.tensor([0.0, 1.0]).expand(n, 1, 1, 2)
    batch = {"image": image, "index": torch.arange(n)}
    mirrored = Augmentation(probability)(batch, seed=0, epoch=0)["image"][:, 0, 0, 0]
    assert abs(float(mirrored.mean()) - probability) < (0.03 if 0 < probability < 1 else 1e-9)


def test_brightness_and_contrast_stay_between_black_and_white():
    image = Augmentation(0.0, 0.9, 0.9)(batch_of(64), seed=0, epoch=0)["image"]
    assert image.min() >= 0
    assert image.max() <= 1


def test_contrast_turns_around_mid_grey():
    batch = {"image": torch.full((64, 3, 2, 2), 0.5), "index": torch.arange(64)}
    torch.testing.assert_close(
        Augmentation(0.0, contrast=0.8)(batch, seed=0, epoch=0)["image"], batch["image"]
    )


@pytest.mark.parametrize(
    "names",
    [
        ["left_eye", "right_eye", "nose"],
        ["LeftEye", "RightEye", "Nose"],
        ["eye.L", "eye.R", "nose_tip"],
        ["lefteye", "righteye", "nose"],
    ],
)
def test_opposite_sides_change_places(names):
    assert mirrored_order(names) == [1, 0, 2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the data has none"),
        (["left_eye", "nose"], r"\['left_eye'\] have a side, but no opposite"),
        (["part_0", "part_1"], "do not tell left from right"),
    ],
)
def test_names_that_cannot_be_mirrored_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        mirrored_order(names)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"horizontal_flip": 1.5}, r"horizontal_flip must be in \[0, 1\], got 1.5"),
        ({"horizontal_flip": float("nan")}, "horizontal_flip"),
        ({"brightness": -0.1}, "brightness must be at least 0, got -0.1"),
        ({"contrast": float("nan")}, "contrast must be at least 0, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**setting)
