"""An epoch that stops at any step continues with other workers and ranks.

All ranks have the same number of steps, and each sample is read once and in its order.
"""

import contextlib
import itertools
import random
from typing import NamedTuple

import numpy as np
import pytest

from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import LazyNPZDataset
from tests.orders import epoch_order

SEED, SAMPLES, EPOCHS, BATCH_SIZE = 20261123, 117, 3, 4
WORKERS, RANKS = (0, 1, 2, 4), (1, 2, 4)


class Setup(NamedTuple):
    """Number of workers and ranks that read a part of an epoch."""

    workers: int
    ranks: int

    def __str__(self):
        return f"{self.workers} workers x {self.ranks} ranks"


class Transition(NamedTuple):
    """Reads `step` steps in the first setup, up to `later` in the second, the rest in the third."""

    shuffle: bool
    epoch: int
    step: int
    later: int
    setups: tuple[Setup, Setup, Setup]

    def __str__(self):
        order = "shuffled" if self.shuffle else "in order"
        first, second, third = map(str, self.setups)
        return (
            f"{order}, epoch {self.epoch}: {first}, after step {self.step} {second}, "
            f"after {self.later} more {third}"
        )


SETUPS = list(itertools.starmap(Setup, itertools.product(WORKERS, RANKS)))


def steps_of(samples, ranks):
    """Returns the number of steps that read some samples."""
    return -(-samples // (ranks * BATCH_SIZE))


def grid():
    """Returns every step of an epoch in every setup, followed by every other setup.

    The step at which the second setup stops is random.
    """
    drawn = random.Random(SEED)
    for shuffle, first, second in itertools.product((True, False), SETUPS, SETUPS):
        for step in range(steps_of(SAMPLES, first.ranks) + 1):
            left = max(0, SAMPLES - step * BATCH_SIZE * first.ranks)
            later = drawn.randint(0, steps_of(left, second.ranks))
            setups = (first, second, drawn.choice(SETUPS))
            yield Transition(shuffle, drawn.randrange(EPOCHS), step, later, setups)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("grid") / "train_teacher.npz"
    np.savez(
        path,
        images=np.zeros((SAMPLES, 1, 1, 3), np.uint8),
        bboxes=np.zeros((SAMPLES, 4), np.float32),
        image_paths=np.array([f"{i}.jpg" for i in range(SAMPLES)]),
    )
    with LazyNPZDataset(path, return_index=True) as dataset:
        yield dataset


def loaders(dataset, case, setup):
    return [
        BatchLoader(
            dataset,
            BATCH_SIZE,
            case.shuffle,
            setup.workers,
            seed=SEED,
            rank=rank,
            world_size=setup.ranks,
        )
        for rank in range(setup.ranks)
    ]


def own_samples(batch):
    """Returns the indices of a batch, without a sample that only stands in for a missing one."""
    index = batch["index"]
    return index[batch["valid"]].tolist() if "valid" in batch else index.tolist()


def read(ranks, steps=None):
    """Returns the next samples of all ranks in the order of the epoch, and the loaders' state."""
    shares, states = [], []
    for loader in ranks:
        with contextlib.closing(iter(loader)) as batches:
            shares.append([own_samples(batch) for batch in itertools.islice(batches, steps)])
        states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    found = []
    for step in zip(*shares, strict=True):
        turns = itertools.zip_longest(*step)
        found += [i for turn in turns for i in turn if i is not None]
    return found, states[0]


def is_read_once(dataset, case):
    """Reads an epoch in all three setups, and then all later epochs."""
    state = {"epoch": case.epoch, "consumed": 0}
    found = []
    for setup, steps in zip(case.setups, (case.step, case.later, None), strict=True):
        ranks = loaders(dataset, case, setup)
        for loader in ranks:
            loader.load_state_dict(state)
        if steps != 0:
            part, state = read(ranks, steps)
            found += part
    order = list(range(SAMPLES))
    if case.shuffle:
        order = epoch_order(SAMPLES, seed=SEED, epoch=case.epoch).tolist()
    assert found == order  # that of an epoch without a stop
    assert (state["epoch"], state["consumed"]) == (case.epoch + 1, 0)
    for epoch in range(case.epoch + 1, EPOCHS):
        whole, state = read(ranks)
        assert sorted(whole) == list(range(SAMPLES))
        assert (state["epoch"], state["consumed"]) == (epoch + 1, 0)
    return "recovered"


def test_an_epoch_goes_on_with_other_workers_and_ranks(tally, dataset):
    cases = random.Random(SEED).sample(list(grid()), 125)
    tally.points, tally.seed = SAMPLES, SEED
    tally.each(cases, lambda case: is_read_once(dataset, case))


@pytest.mark.long
def test_every_step_goes_on_with_other_workers_and_ranks(tally, dataset):
    cases = list(grid())
    tally.points, tally.seed = SAMPLES, SEED
    tally.each(cases, lambda case: is_read_once(dataset, case))
