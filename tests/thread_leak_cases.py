"""Tests that leak a thread, and tests that do not; `test_thread_leaks.py` runs this file.

pytest does not collect this file by itself, because its name does not begin with ``test_``.
"""

import multiprocessing
import threading
from multiprocessing.resource_sharer import DupFd

from tqdm import tqdm

from processing.core.threads import map_in_order
from processing.run.background_writer import BackgroundWriter
from tests import thread_leaks

thread_leaks.GRACE_SECONDS = 1.0  # several tests wait for it in vain
KEPT = []  # what is kept here is not closed by the garbage collector


def test_leaks_decoding_threads():
    results = map_in_order(abs, range(9), threads=2, ahead=2)
    next(results)
    KEPT.append(results)


def test_leaks_the_writing_thread():
    class Sink:
        def write(self, batch):
            pass

    writer = BackgroundWriter(Sink())
    writer.put(None)
    KEPT.append(writer)


def test_leaks_a_daemon():
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def test_leaks_a_thread_that_is_no_daemon():
    threading.Thread(target=threading.main_thread().join).start()


def test_ends_all_threads():
    assert list(map_in_order(abs, range(9), threads=2, ahead=2)) == list(range(9))


def test_has_a_thread_that_ends_soon_after_it():
    threading.Thread(target=threading.Event().wait, args=(0.1,), daemon=True).start()


def test_shows_a_progress_bar_whose_monitor_lives_on():
    assert list(tqdm(range(3))) == [0, 1, 2]
    assert tqdm.monitor.is_alive()


def test_sends_a_descriptor_whose_server_lives_on():
    KEPT.append(DupFd(0))


def test_leaves_a_queue_to_the_garbage_collector():
    queue = multiprocessing.Queue()
    queue.put("")
    cycle = [queue]
    cycle.append(cycle)


def test_leaks_a_queue():
    queue = multiprocessing.Queue()
    queue.put("")
    KEPT.append(queue)
