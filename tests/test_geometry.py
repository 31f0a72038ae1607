import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules import Augmentation
from datamodules.geometry import PADDING, random_transforms, warp_boxes, warp_images, warp_points
from processing.datasets.batch import TensorList

SIZE = (64, 96)
DRAWS = st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=4, max_size=4)


def blocks(boxes):
    """Black images (B, 3, 64, 96), each with one white block that covers its box."""
    images = torch.zeros(len(boxes), 3, *SIZE)
    for image, (x1, y1, x2, y2) in zip(images, boxes, strict=True):
        image[:, y1:y2, x1:x2] = 1
    return images


def transforms(draws, **options):
    given_options = {"scale": 0.0, "rotate": 0.0, "translate": 0.0, **options}
    return random_transforms(torch.tensor([draws]).T, SIZE, **given_options)


@given(DRAWS, st.tuples(st.integers(10, 40), st.integers(8, 30)))
@settings(max_examples=60)
def test_a_drawn_block_stays_under_its_box(draws, corner):
    """Compared with the drawn pixels, never with an inverse of our own formulas."""
    x, y = corner
    matrix = transforms(draws, scale=0.5, translate=0.2)
    image = warp_images(blocks([(x, y, x + 30, y + 20)]), matrix)[0, 0]
    moved, (kept,) = warp_boxes([torch.tensor([[x, y, x + 30.0, y + 20.0]])], matrix, SIZE)
    rows, columns = np.nonzero((image > 0.5).numpy())
    if not kept.all():
        assert len(rows) < 0.42 * 30 * 20 * float(torch.linalg.det(matrix[0, :, :2])) + 40
        return
    (box,) = moved[0].tolist()
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.abs(np.subtract(box, found)).max() <= 1


@given(DRAWS)
@settings(max_examples=40)
def test_a_rotated_block_fills_its_box_and_points_stay_on_their_pixels(draws):
    matrix = transforms(draws, scale=0.3, rotate=40, translate=0.05)
    image = warp_images(blocks([(40, 24, 56, 40)]), matrix)[0, 0]
    ((box,),), _ = warp_boxes([torch.tensor([[40.0, 24, 56, 40]])], matrix, SIZE)
    rows, columns = np.nonzero((image > 0.5).numpy())
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.abs(np.subtract(box.tolist(), found)).max() <= 1.5
    centre = warp_points(torch.tensor([[[48.0, 32, 2]]]), matrix, SIZE)[0, 0]
    # The mean position of a soft spot: samples of a shrunk image skip parts of hard edges.
    y, x = np.indices(SIZE) + 0.5
    spot = torch.from_numpy(np.exp(-((x - 48) ** 2 + (y - 32) ** 2) / 32)).float()
    padding = warp_images(torch.zeros(1, 3, *SIZE), matrix)[0, 0]
    light = (warp_images(spot.repeat(1, 3, 1, 1), matrix)[0, 0] - padding).numpy()
    mean = [float((place * light).sum() / light.sum()) for place in (x, y)]
    assert centre[:2].tolist() == pytest.approx(mean, abs=0.03)
    assert centre[2] == 2


def test_settings_of_zero_change_nothing():
    images = torch.rand(2, 3, *SIZE)
    matrix = random_transforms(torch.rand(4, 2), SIZE, scale=0, rotate=0, translate=0)
    torch.testing.assert_close(warp_images(images, matrix), images, atol=1e-4, rtol=0)
    points = torch.rand(2, 5, 3) * 50 + 1
    torch.testing.assert_close(warp_points(points, matrix, SIZE), points)


def test_the_largest_draws_reach_the_largest_changes():
    (largest,) = transforms([1.0, 0.5, 0.5, 0.5], scale=0.5)
    (smallest,) = transforms([0.0, 0.5, 0.5, 0.5], scale=0.5)
    assert largest[0, 0] == pytest.approx(1.5)
    assert smallest[0, 0] == pytest.approx(1 / 1.5)
    (shifted,) = transforms([0.5, 0.5, 1.0, 0.0], translate=0.25)
    assert shifted[:, 2].tolist() == pytest.approx([24, -16])
    # 90 degrees clockwise, as y points downwards: right becomes down.
    (turned,) = transforms([0.5, 1.0, 0.5, 0.5], rotate=90)
    np.testing.assert_allclose(turned[:, :2], [[0, -1], [1, 0]], atol=1e-6)


def test_the_area_around_a_shifted_image_has_the_grey_of_letterboxes():
    image = warp_images(torch.ones(1, 3, *SIZE), transforms([0.5, 0.5, 1.0, 0.5], translate=0.5))
    assert image[0, :, :, :40].mean() == pytest.approx(PADDING, abs=1e-3)
    assert image[0, :, :, 60:].min() > 0.99


def test_boxes_that_leave_the_image_are_clipped_or_dropped_with_their_labels():
    augment = Augmentation(horizontal_flip=0, translate=1)
    grid = torch.tensor([[x, y, x + 10.0, y + 10.0] for x in range(0, 80, 10) for y in (0, 40)])
    few = torch.tensor([[0.0, 0, 96, 64], [40, 24, 50, 34]])
    boxes = TensorList([few, torch.zeros(0, 4), grid])
    labels = TensorList([torch.arange(len(one)) for one in boxes])
    counts = set()
    for epoch in range(20):
        batch = {"image": torch.rand(3, 3, *SIZE), "bboxes": boxes, "labels": labels}
        changed = augment(batch | {"index": torch.arange(3)}, seed=0, epoch=epoch)
        for found, kept in zip(changed["bboxes"], changed["labels"], strict=True):
            assert len(found) == len(kept)
            assert (found >= 0).all()
            assert (found <= torch.tensor([96, 64, 96, 64])).all()
            assert ((found[:, 2:] - found[:, :2]) >= 2).all()
            assert kept.tolist() == sorted(set(kept.tolist()))
        counts.add(len(changed["bboxes"][2]))
        assert len(changed["bboxes"][1]) == 0
    assert min(counts) < 8
    assert max(counts) > 8


def test_points_that_leave_the_image_are_no_longer_labelled_and_others_stay():
    matrix = transforms([0.5, 0.5, 1.0, 0.5], translate=0.5)
    points = torch.tensor([[[10.0, 10, 2], [90, 10, 1], [0, 0, 0]]])
    moved = warp_points(points, matrix, SIZE)
    assert moved.tolist() == [[[58, 10, 2], [0, 0, 0], [0, 0, 0]]]


def test_a_sample_is_changed_alike_in_any_batch_and_colours_keep_their_numbers():
    augment = Augmentation(brightness=0.2, scale=0.4, rotate=20, translate=0.1)
    images, index = torch.rand(4, 3, *SIZE), torch.arange(4)
    whole = augment({"image": images, "index": index}, seed=1, epoch=2)["image"]
    for i in range(4):
        alone = augment({"image": images[i : i + 1], "index": index[i : i + 1]}, seed=1, epoch=2)
        torch.testing.assert_close(alone["image"], whole[i : i + 1], atol=1e-5, rtol=0)
    other = augment({"image": images, "index": index}, seed=1, epoch=3)["image"]
    assert (other - whole).abs().mean() > 0.05
    assert whole.is_contiguous(memory_format=torch.channels_last)


def test_greyscale_takes_all_colours_and_saturation_some_of_them():
    images, index = torch.rand(40, 3, *SIZE), torch.arange(40)
    batch = {"image": images, "index": index}
    grey = Augmentation(0, greyscale=1)(batch, seed=0, epoch=0)["image"]
    torch.testing.assert_close(grey, images.mean(1, keepdim=True).expand(-1, 3, -1, -1))
    some = Augmentation(0, greyscale=0.5)(batch, seed=0, epoch=0)["image"]
    unchanged = (some - images).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 8 < unchanged.sum() < 32
    colourful = Augmentation(0, saturation=0.5)(batch, seed=0, epoch=0)["image"]
    assert 0 <= colourful.min() <= colourful.max() <= 1
    ratio = colourful.std(dim=1).mean(dim=(1, 2)) / images.std(dim=1).mean(dim=(1, 2))
    assert 0.5 <= ratio.min() < 0.8
    assert 1.1 < ratio.max() <= 1.5


def test_a_teachers_boxes_stay_and_its_images_move():
    augment = Augmentation(horizontal_flip=0, scale=0.4)
    boxes = torch.tensor([[100.0, 200, 300, 400]])
    batch = {"image": torch.rand(1, 3, *SIZE), "bboxes": boxes, "index": torch.tensor([5])}
    changed = augment(batch, seed=0, epoch=0)
    assert changed["bboxes"] is boxes
    assert not torch.equal(changed["image"], batch["image"])


@pytest.mark.parametrize(
    "setting",
    [
        {"scale": -0.1},
        {"rotate": 181},
        {"translate": 1.5},
        {"saturation": 2},
        {"greyscale": -1},
        {"translate": -1},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Augmentation(**setting)
