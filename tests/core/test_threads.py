import gc
import threading
import weakref

import pytest

from processing.core.threads import THREAD_NAME, map_in_order

WAIT = 30  # seconds, until a test that hangs is called failed


@pytest.mark.parametrize("consumer_helps", [False, True])
@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 4), (3, 3), (3, 7)])
def test_results_keep_the_order_of_the_items(threads, ahead, consumer_helps):
    results = map_in_order(
        lambda x: x * x, range(50), threads=threads, ahead=ahead, consumer_helps=consumer_helps
    )
    assert list(results) == [x * x for x in range(50)]


def test_without_threads_the_consumer_does_all_and_nothing_ahead():
    done = []
    results = map_in_order(
        lambda x: done.append((x, threading.current_thread())) or x,
        range(3),
        threads=0,
        ahead=0,
        consumer_helps=True,
    )
    assert next(results) == 0
    assert done == [(0, threading.main_thread())]
    assert list(results) == [1, 2]
    assert {thread for _, thread in done} == {threading.main_thread()}


@pytest.mark.parametrize("threads", [0, 1])
def test_a_function_that_raises_stop_iteration_does_not_end_the_results(threads):
    def stop(item):
        raise StopIteration

    results = map_in_order(stop, [1, 2], threads=threads, ahead=threads, consumer_helps=True)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(results)


def test_at_most_ahead_items_are_begun_before_they_are_asked_for():
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    results = map_in_order(lambda x: x, items(), threads=2, ahead=3)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    results.close()


def test_a_waiting_consumer_does_what_nobody_has_begun():
    begun, release = threading.Event(), threading.Event()
    doers = {}

    def work(item):
        doers[item] = threading.current_thread()
        if item == 0:
            begun.set()
            assert release.wait(WAIT)
        else:
            release.set()
        return item

    def items():
        yield 0
        assert begun.wait(WAIT)  # the thread is busy with the first item from here on
        yield 1

    results = map_in_order(work, items(), threads=1, ahead=1, consumer_helps=True)
    assert list(results) == [0, 1]
    assert doers[0] is not threading.main_thread()
    assert doers[1] is threading.main_thread()


def test_a_consumer_that_may_not_help_never_works():
    doers = set()
    list(
        map_in_order(lambda _: doers.add(threading.current_thread()), range(20), threads=2, ahead=4)
    )
    assert threading.main_thread() not in doers


@pytest.mark.parametrize(
    ("consumer_helps", "kind"),
    [(False, ValueError), (True, ValueError), (True, MemoryError), (False, SystemExit)],
)
def test_an_error_is_raised_at_its_items_turn(consumer_helps, kind):
    def work(item):
        if item == 2:
            raise kind("two")
        return item

    results = map_in_order(work, range(9), threads=2, ahead=1, consumer_helps=consumer_helps)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(kind, match="two"):
        next(results)


def test_threads_can_be_told_by_their_names():
    names = set()
    list(
        map_in_order(lambda _: names.add(threading.current_thread().name), [0], threads=1, ahead=0)
    )
    (name,) = names
    assert name.startswith(THREAD_NAME)


def test_a_thread_that_waits_for_its_next_job_does_not_hold_the_last_result():
    results = map_in_order(lambda _: Result(), range(3), threads=2, ahead=0)
    held = []
    for result in results:
        held.append(weakref.ref(result))
        del result
        assert held[-1]() is None  # at once, without a garbage collection


def test_an_error_of_the_items_is_the_consumers():
    def items():
        yield 1
        raise OSError("no more")

    results = map_in_order(lambda x: x, items(), threads=1, ahead=0)
    assert next(results) == 1
    with pytest.raises(OSError, match="no more"):
        next(results)


def test_an_interrupt_while_helping_waits_for_no_turn():
    release = threading.Event()

    def work(item):
        if item == 0:
            assert release.wait(WAIT)
        elif threading.current_thread() is threading.main_thread():
            release.set()
            raise KeyboardInterrupt
        return item

    begun = threading.Event()

    def items():
        yield 0
        while not begun.is_set():  # until the thread has item 0, the consumer must not take it
            begun.wait(WAIT)
        yield 1

    def first_begun(item):
        if item == 0:
            begun.set()
        return work(item)

    results = map_in_order(first_begun, items(), threads=1, ahead=1, consumer_helps=True)
    with pytest.raises(KeyboardInterrupt):
        next(results)


def test_leaving_early_waits_for_what_has_begun_and_cancels_the_rest():
    begun, release, done = threading.Event(), threading.Event(), []

    def work(item):
        if item == 1:
            begun.set()
            assert release.wait(WAIT)
        done.append(item)
        return item

    before = threading.active_count()
    results = map_in_order(work, range(100), threads=1, ahead=4)
    assert next(results) == 0
    assert begun.wait(WAIT)
    threading.Timer(0.01, release.set).start()
    results.close()
    assert done == [0, 1]
    assert threading.active_count() <= before + 1  # the timer may still be ending


class Result:
    pass


def test_a_result_is_held_by_nobody_but_the_consumer():
    results = map_in_order(lambda _: Result(), range(4), threads=1, ahead=2)
    first = weakref.ref(next(results))
    gc.collect()
    assert first() is None
    results.close()
