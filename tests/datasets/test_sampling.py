import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.epoch_loader import EpochLoader
from datamodules.sampler import EpochSampler
from processing.datasets.sampling import epoch_order, rank_share, share_size


@given(n=st.integers(0, 200), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_order_is_a_permutation_that_repeats(n, seed, epoch):
    order = epoch_order(n, seed=seed, epoch=epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == epoch_order(n, seed=seed, epoch=epoch).tolist()


def test_order_is_the_same_on_every_machine():
    # Resuming on another machine depends on these numbers.
    assert epoch_order(8, seed=3, epoch=2).tolist() == [4, 0, 5, 3, 7, 6, 1, 2]


def test_seeds_and_epochs_give_unrelated_orders():
    orders = [
        epoch_order(500, seed=s, epoch=e).tolist() for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (0, -1)])
def test_negative_seed_or_epoch_is_refused(seed, epoch):
    with pytest.raises(ValueError, match="must not be negative, found"):
        epoch_order(4, seed=seed, epoch=epoch)


@given(n=st.integers(0, 100), world_size=st.integers(1, 9))
def test_unpadded_shares_hold_each_index_once(n, world_size):
    indices = epoch_order(n, seed=0, epoch=0)
    shares = [rank_share(indices, r, world_size, pad=False) for r in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(n))
    assert [len(s) for s in shares] == [
        share_size(n, r, world_size, pad=False) for r in range(world_size)
    ]


@given(n=st.integers(1, 100), world_size=st.integers(1, 9))
def test_padded_shares_are_equal_in_size_and_hold_every_index(n, world_size):
    indices = epoch_order(n, seed=0, epoch=0)
    shares = [rank_share(indices, r, world_size, pad=True) for r in range(world_size)]
    assert {len(share) for share in shares} == {share_size(n, 0, world_size, pad=True)}
    assert set(np.concatenate(shares).tolist()) == set(range(n))
    assert sum(map(len, shares)) - n < world_size


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_step_sees_the_same_samples_on_any_number_of_ranks(world_size):
    indices = epoch_order(64, seed=0, epoch=0)
    per_rank = 8 // world_size
    steps = [
        {
            index
            for rank in range(world_size)
            for index in rank_share(indices, rank, world_size, pad=True)[
                step * per_rank : (step + 1) * per_rank
            ].tolist()
        }
        for step in range(8)
    ]
    assert steps == [set(indices[step * 8 : (step + 1) * 8].tolist()) for step in range(8)]


@pytest.mark.parametrize("rank", [-1, 2])
def test_rank_outside_the_world_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank must be in \[0, 2\), found {rank}"):
        rank_share(np.arange(4), rank, 2, pad=True)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("n", [0, 1, 5, 70_000])
def test_sampler_has_the_length_it_yields(n, shuffle):
    for rank in range(3):
        sampler = EpochSampler(range(n), shuffle=shuffle, num_replicas=3, rank=rank)
        assert len(list(sampler)) == len(sampler)


def test_sampler_follows_the_epoch_it_is_told():
    sampler = EpochSampler(range(50), shuffle=True, seed=7)
    assert list(sampler) == epoch_order(50, seed=7, epoch=0).tolist()
    sampler.set_epoch(4)
    assert list(sampler) == epoch_order(50, seed=7, epoch=4).tolist()


def test_sampler_keeps_stored_order_without_shuffling():
    sampler = EpochSampler(range(7), shuffle=False, num_replicas=2, rank=1)
    sampler.set_epoch(4)
    assert list(sampler) == [1, 3, 5]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_begins_the_epoch_with_its_first_batch(num_workers):
    sampler = EpochSampler(range(6), shuffle=True)
    loader = EpochLoader(range(6), batch_size=2, sampler=sampler, num_workers=num_workers)
    batches = iter(loader)
    sampler.set_epoch(1)
    assert torch.cat(list(batches)).tolist() == epoch_order(6, seed=0, epoch=1).tolist()
