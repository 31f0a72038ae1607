import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch

from processing.datasets.buffers import BufferPool

SHAPE, BYTE = (64, 1024), np.dtype("uint8")


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_its_array_is_gone():
    pool = BufferPool()
    first = address(pool.empty(SHAPE, BYTE))
    assert address(pool.empty(SHAPE, BYTE)) == first


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array,
        lambda array: array[3],
        lambda array: array[3][5:9],
        lambda array: array.reshape(-1)[7:],
        lambda array: array.view(np.int8).T,
        lambda array: memoryview(array)[2:],
        torch.from_numpy,
        lambda array: torch.from_numpy(array)[3].view(-1),
        lambda array: torch.from_numpy(array).numpy()[4:],
        lambda array: torch.from_numpy(array[5:]).detach().unbind()[0],
    ],
)
def test_whoever_holds_a_view_keeps_its_memory(hold):
    pool = BufferPool()
    array = pool.empty(SHAPE, BYTE)
    array.fill(7)
    held = hold(array)
    del array
    gc.collect()
    others = [pool.empty(SHAPE, BYTE) for _ in range(8)]
    for other in others:
        other.fill(0)
    assert set(np.asarray(held).ravel().tolist()) == {7}


def test_at_most_so_many_free_buffers_are_kept():
    pool = BufferPool(keep=2)
    arrays = [pool.empty(SHAPE, BYTE) for _ in range(5)]
    addresses = {address(array) for array in arrays}
    del arrays
    blockers = [np.ones(SHAPE, BYTE) for _ in range(5)]  # take what went back to the system
    again = [pool.empty(SHAPE, BYTE) for _ in range(2)]
    assert {address(array) for array in again} <= addresses
    assert len(pool._free) == 0
    assert all(blocker.all() for blocker in blockers)


def test_a_smaller_last_batch_fits_into_the_memory_of_a_full_one():
    pool = BufferPool()
    first = address(pool.empty(SHAPE, BYTE))
    last = pool.empty((20, 1024), BYTE)
    assert address(last) == first
    del last
    assert address(pool.empty(SHAPE, BYTE)) == first


def test_a_single_sample_does_not_take_the_memory_of_a_batch():
    pool = BufferPool()
    first = address(pool.empty(SHAPE, BYTE))
    one = pool.empty((1, 1024), BYTE)
    assert address(one) != first
    assert address(pool.empty(SHAPE, BYTE)) == first


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), ()])
def test_arrays_of_any_shape_are_writable_and_contiguous(shape):
    array = BufferPool().empty(shape, np.dtype("float32"))
    array[...] = 1
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_clearing_gives_all_back_and_a_copy_arrives_empty():
    pool = BufferPool(keep=3)
    pool.empty(SHAPE, BYTE)
    assert len(pool._free) == 1
    assert len(pickle.loads(pickle.dumps(pool))._free) == 0
    pool.clear()
    assert len(pool._free) == 0


def test_clearing_keeps_as_much_as_it_is_told_to():
    pool = BufferPool(keep=5)
    arrays = [pool.empty(SHAPE, BYTE) for _ in range(4)]
    del arrays
    pool.clear(keep_bytes=3 * 64 * 1024 - 1)
    assert len(pool._free) == 2


def test_memory_in_use_does_not_keep_a_pool():
    pool = BufferPool()
    arrays = [pool.empty(SHAPE, BYTE) for _ in range(2)]
    gone = weakref.ref(pool)
    del pool
    assert gone() is None
    arrays[0].fill(7)
    del arrays[1]
    gc.collect()
    assert set(arrays[0].ravel().tolist()) == {7}


def test_threads_never_share_memory():
    pool = BufferPool()
    wrong = []

    def use(value):
        for _ in range(300):
            array = pool.empty(SHAPE, BYTE)
            array.fill(value)
            if (array != value).any():
                wrong.append(value)

    threads = [threading.Thread(target=use, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
