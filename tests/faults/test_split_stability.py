"""Which split an image is in: it stays there when data is added, with its group, for every task."""

import hashlib
import json
import random
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from datamodules import LazyNPZDataModule
from processing.core.annotations import SPLITS, UNASSIGNED
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.run.splits import assign_splits
from tests.conftest import write_coco

SEED = 20261123
TRAIN = SPLITS.index("train")
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95)


class Growth(NamedTuple):
    """A data set that a tenth is added to."""

    images: int
    train_split: float
    seed: int

    def __str__(self):
        return f"{self.images} images, {self.train_split:.0%} of them train, seed {self.seed}"

    def splits(self, images):
        paths = [f"{'new/' if i >= self.images else ''}{i:06d}.jpg" for i in range(images)]
        return split(paths, train_split=self.train_split, seed=self.seed)


def split(paths, **options):
    return assign_splits(paths, np.full(len(paths), UNASSIGNED, np.int8), **options)


def stays_where_it_was(case):
    """The share is met to the image, before and after; so a border moves, and little."""
    n, added = case.images, case.images // 10
    before, after = case.splits(n), case.splits(n + added)
    for splits in (before, after):
        assert abs((splits == TRAIN).sum() - case.train_split * len(splits)) <= 0.5
    moved = before != after[:n]
    # All in one direction: as many as chance put more of the new images on one side than its share.
    assert len(set(before[moved].tolist())) <= 1
    surplus = (after[n:] == TRAIN).sum() - case.train_split * added
    assert moved.sum() <= abs(surplus) + 1
    if n >= 10_000:
        assert moved.mean() <= 0.01
    return "recovered" if moved.any() else "unaffected"


def growths(sizes, seeds):
    return [Growth(n, share, seed) for n in sizes for share in SHARES for seed in range(seeds)]


def test_a_tenth_more_data_moves_less_than_a_hundredth(tally):
    cases = growths((1_000, 10_000), 2)
    tally.points, tally.seed = len(cases), 0
    tally.each(cases, stays_where_it_was)


@pytest.mark.long
def test_a_tenth_more_data_moves_less_than_a_hundredth_at_every_size(tally):
    cases = [*growths((20, 100, 1_000, 10_000), 100), *growths((100_000,), 10)]
    tally.points, tally.seed = len(cases), 0
    tally.each(cases, stays_where_it_was)


def test_on_average_less_than_a_hundredth_moves_of_small_sets_too():
    moved = []
    for case in growths((200, 1_000), 10):
        before, after = case.splits(case.images), case.splits(case.images + case.images // 10)
        moved.append((before != after[: case.images]).mean())
    assert np.mean(moved) < 0.01
    assert np.max(moved) < 0.03


def test_groups_stay_together_before_and_after_data_is_added(tally):
    def stay_together(seed):
        drawn = random.Random(seed)
        people = [drawn.randrange(40) for _ in range(drawn.randrange(20, 400))]
        people += [drawn.randrange(44) for _ in range(len(people) // 10)]
        paths = [f"person{person}/{i}.jpg" for i, person in enumerate(people)]
        share = drawn.choice(SHARES)
        for n in (len(paths) * 10 // 11, len(paths)):
            order = drawn.sample(range(n), n)
            splits = split(
                [paths[i] for i in order], train_split=share, seed=seed, group_by=r"^(person\d+)/"
            )
            of_person = {}
            for i, value in zip(order, splits.tolist(), strict=True):
                assert of_person.setdefault(people[i], value) == value
            largest = max(people[:n].count(person) for person in set(people[:n]))
            assert abs((splits == TRAIN).sum() - share * n) <= largest
        return "unaffected"

    tally.points, tally.seed = 200, SEED
    tally.each(range(SEED, SEED + 200), stay_together)


def write_mixed(directory, images):
    """Images of which some have boxes, some points too, and some nothing."""
    write_coco(directory, images=images, sizes=((40, 60),), quality=80)
    file = directory / "annotations" / "instances.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        if annotation["image_id"] % 3 == 0:
            del annotation["keypoints"], annotation["num_keypoints"]
    file.write_text(json.dumps(content))
    return directory


def process(raw_dir, output_dir, **options):
    """All tasks at once, and the landmarker on its own into another directory."""
    for directory, method in (
        (output_dir, "process_all"),
        (output_dir / "one", "process_landmarker"),
    ):
        processor = DataProcessor(
            raw_dir, directory, image_size=16, num_workers=2, progress=False, **options
        )
        getattr(processor, method)()
    paths = {}
    for file in output_dir.rglob("*_*.npz"):
        name, task = file.stem.split("_")
        with LazyNPZDataset(file) as dataset:
            paths[name, task, file.parent.name] = set(dataset.image_paths.tolist())
    return paths


def split_of_images(paths):
    """Image to split; fails if two tasks see an image on different sides."""
    found = {}
    for (name, *_), images in paths.items():
        for image in images:
            assert found.setdefault(image, name) == name, f"{image} is in {found[image]} and {name}"
    return found


@pytest.mark.parametrize("group_by", [None, r"(\d\d)\.jpg$"])
def test_no_image_is_in_train_of_one_task_and_in_val_of_another(tmp_path, group_by):
    before = process(write_mixed(tmp_path / "raw", 120), tmp_path / "out", group_by=group_by)
    subsets = {task: before["train", task, "out"] for task in ("detector", "landmarker")}
    assert subsets["landmarker"] < subsets["detector"]
    first = split_of_images(before)
    shutil.rmtree(tmp_path / "raw")
    again = process(write_mixed(tmp_path / "raw", 132), tmp_path / "out", group_by=group_by)
    second = split_of_images(again)
    assert first.keys() < second.keys()
    assert sum(first[image] != second[image] for image in first) <= 0.03 * len(first)
    if group_by:
        groups = {}
        for image, name in second.items():
            assert groups.setdefault(image[-6:], name) == name


def test_setting_up_ten_times_gives_the_same_samples(tmp_path):
    raw_dir = write_mixed(tmp_path / "raw", 40)
    seen = set()
    for attempt in range(10):
        # Every other time from nothing, with another number of threads.
        output_dir = tmp_path / f"out{attempt // 2}"
        processor = DataProcessor(
            raw_dir, output_dir, image_size=16, num_workers=1 + attempt % 3, progress=False
        )
        module = LazyNPZDataModule(processor=processor, batch_size=4, num_workers=attempt % 2)
        module.prepare_data()
        module.setup()
        module.setup("fit")
        content = hashlib.blake2b()
        for name in ("train", "val"):
            content.update((output_dir / f"{name}_detector.npz").read_bytes())
        epoch = [p for batch in module.train_dataloader() for p in batch["image_path"]]
        val = [p for batch in module.val_dataloader() for p in batch["image_path"]]
        module.teardown()
        seen.add((content.hexdigest(), tuple(epoch), tuple(val)))
    assert len(seen) == 1
    ((_, epoch, val),) = seen
    assert len(epoch) == len(set(epoch))
    assert not set(epoch) & set(val)
