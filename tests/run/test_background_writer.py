import signal
import threading
import time

import pytest

from processing.core.error_notes import format_error
from processing.run.background_writer import BackgroundWriter


class RecordingSink:
    """Notes what happens to it; `fail_at` names the call that raises."""

    def __init__(self, fail_at=None, gate=None):
        self.calls, self.fail_at, self.gate = [], fail_at, gate
        self.writing = threading.Event()

    def _note(self, call):
        self.calls.append(call)
        if call == self.fail_at:
            raise OSError(28, f"no space left at {call}")

    def write(self, batch):
        self.writing.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        self._note(f"write {batch}")

    def complete(self):
        self._note("complete")

    def publish(self, metadata):
        self._note(f"publish {metadata}")

    def close(self):
        self._note("close")


def run(sink, batches=1):
    with BackgroundWriter(sink) as writer:
        for batch in range(batches):
            writer.put(batch)
        writer.complete()
        writer.publish("metadata")


def put_then_raise(sink, error):
    with BackgroundWriter(sink) as writer:
        writer.put(0)
        raise error


def test_batches_are_written_in_order_then_completed_published_and_closed():
    sink = RecordingSink()
    run(sink, batches=3)
    calls = ["write 0", "write 1", "write 2", "complete", "publish metadata", "close"]
    assert sink.calls == calls


def test_every_call_but_the_last_comes_from_one_thread():
    threads = []

    class Threads(RecordingSink):
        def _note(self, call):
            threads.append(threading.current_thread().name)

    run(Threads(), batches=2)
    assert threads == ["npz-writer_0"] * 4 + [threading.current_thread().name]


def test_leaving_with_an_exception_publishes_nothing():
    sink = RecordingSink()
    with pytest.raises(KeyboardInterrupt):
        put_then_raise(sink, KeyboardInterrupt())
    assert sink.calls == ["write 0", "close"]


def test_put_waits_while_a_batch_is_being_written_so_that_two_exist_at_most():
    gate = threading.Event()
    sink = RecordingSink(gate=gate)
    handed_over = threading.Event()

    def put_two(writer):
        writer.put(0)
        writer.put(1)
        handed_over.set()

    with BackgroundWriter(sink) as writer:
        producer = threading.Thread(target=put_two, args=(writer,))
        producer.start()
        assert sink.writing.wait(30)
        assert not handed_over.wait(0.05), "the second batch was accepted while the first was held"
        gate.set()
        producer.join()
    assert sink.calls[:2] == ["write 0", "write 1"]


@pytest.mark.parametrize("fail_at", ["write 0", "complete", "publish metadata", "close"])
def test_the_threads_own_error_reaches_the_caller_and_nothing_is_published_after_it(fail_at):
    sink = RecordingSink(fail_at=fail_at)
    with pytest.raises(OSError, match=f"no space left at {fail_at}"):
        run(sink)
    after = sink.calls[sink.calls.index(fail_at) + 1 :]
    assert after == ([] if fail_at == "close" else ["close"])


def test_an_error_of_the_last_batch_is_raised_although_nothing_was_called_after_it():
    sink = RecordingSink(fail_at="write 0")
    with pytest.raises(OSError, match="write 0"), BackgroundWriter(sink) as writer:
        writer.put(0)
    assert sink.calls == ["write 0", "close"]


def test_every_put_after_a_failure_raises_it_and_none_waits():
    def put_often():
        with BackgroundWriter(RecordingSink(fail_at="write 0")) as writer:
            writer.put(0)
            for _ in range(3):
                with pytest.raises(OSError, match="write 0"):
                    writer.put(1)
            raised.append(None)

    raised = []
    with pytest.raises(OSError, match="write 0"):
        put_often()
    assert raised


class Broken(RecordingSink):
    def write(self, batch):
        raise ValueError("in the thread")

    def close(self):
        raise OSError("while closing")


def test_an_error_while_closing_does_not_hide_the_first():
    with pytest.raises(ValueError, match="in the thread") as raised:
        run(Broken())
    assert "then: OSError: while closing" in format_error(raised.value)


def test_an_error_of_the_caller_is_raised_with_those_of_the_thread_noted():
    with pytest.raises(KeyError, match="of the caller") as raised:
        put_then_raise(Broken(), KeyError("of the caller"))
    assert "then: ValueError: in the thread" in format_error(raised.value)


def test_an_interrupt_while_publishing_is_raised_after_the_thread_has_ended():
    interrupted = threading.Event()

    def interrupt(number, frame):
        interrupted.set()
        raise KeyboardInterrupt

    class Interrupting(RecordingSink):
        def publish(self, metadata):
            # Python misses a signal that comes just before it begins to wait, until the next one.
            while not interrupted.wait(0.5):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.2)  # whoever did not wait is gone by now
            super().publish(metadata)

    before = signal.signal(signal.SIGINT, interrupt)
    sink = Interrupting()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(sink)
        assert sink.calls == ["write 0", "complete", "publish metadata", "close"]
    finally:
        signal.signal(signal.SIGINT, before)
