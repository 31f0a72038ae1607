"""An epoch that stops at any step continues with other workers and ranks, and loses no sample.

Training shares are padded so that all ranks have the same number of samples. When the number of
ranks changes, at most ranks - 1 samples are read twice: the first ones of the epoch's order.
"""

import contextlib
import itertools
import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from processing.datasets.loader import BatchLoader
from processing.datasets.sampling import epoch_order
from processing.lazy_dataset import LazyNPZDataset

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


def steps_of(samples, ranks, shuffle):
    """Returns the number of steps of the rank with the fewest samples."""
    fewest = -(-samples // ranks) if shuffle else samples // ranks
    return -(-fewest // BATCH_SIZE)


def grid():
    """Returns every step of an epoch in every setup, followed by every other setup.

    The step at which the second setup stops is random.
    """
    drawn = random.Random(SEED)
    for shuffle, first, second in itertools.product((True, False), SETUPS, SETUPS):
        for step in range(steps_of(SAMPLES, first.ranks, shuffle) + 1):
            left = max(0, SAMPLES - step * BATCH_SIZE * first.ranks)
            later = drawn.randint(0, steps_of(left, second.ranks, shuffle))
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


def read(ranks, steps=None):
    """Returns the next samples of all ranks in the order of the epoch, and the loaders' state."""
    shares, states = [], []
    for loader in ranks:
        with contextlib.closing(iter(loader)) as batches:
            shares.append(
                [i for b in itertools.islice(batches, steps) for i in b["index"].tolist()]
            )
        states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    together = [i for step in itertools.zip_longest(*shares) for i in step if i is not None]
    return together, states[0]


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
    # The order equals that of an epoch without a stop; the samples after it pad the last shares.
    assert found[:SAMPLES] == order
    padding = Counter(found[SAMPLES:])
    assert len(found) - SAMPLES <= (sum(s.ranks - 1 for s in case.setups) if case.shuffle else 0)
    assert set(padding) <= set(order[: max(RANKS)])
    assert state == {"epoch": case.epoch + 1, "consumed": 0}
    for epoch in range(case.epoch + 1, EPOCHS):
        whole, state = read(ranks)
        assert set(whole) == set(range(SAMPLES))
        assert len(whole) < SAMPLES + case.setups[2].ranks
        assert state == {"epoch": epoch + 1, "consumed": 0}
    return "recovered"


def test_an_epoch_goes_on_with_other_workers_and_ranks(tally, dataset):
    cases = random.Random(SEED).sample(list(grid()), 250)
    tally.points, tally.seed = SAMPLES, SEED
    tally.each(cases, lambda case: is_read_once(dataset, case))


@pytest.mark.long
def test_every_step_goes_on_with_other_workers_and_ranks(tally, dataset):
    cases = list(grid())
    tally.points, tally.seed = SAMPLES, SEED
    tally.each(cases, lambda case: is_read_once(dataset, case))
