"""A decoding or writing thread in which anything is raised ends the run, with just that exception.

Never a hang, never a success: each run is given `BOUND` seconds, which are many times what it
takes, and none are waited for that are not needed.
"""

import io
import os
import signal
import threading

import pytest
import simplejpeg
from PIL import Image, ImageFile

from processing.commands.process import process_command
from processing.core import threads
from processing.core.error_notes import format_error
from processing.core.threads import map_in_order
from processing.data_processor import DataProcessor
from processing.imaging import decoding, image_rows, photographs
from processing.imaging.tasks import Detector
from processing.npz.writer import NPZWriter
from processing.run import background_writer
from processing.run.background_writer import BackgroundWriter
from processing.run.dataset_writer import DatasetWriter
from processing.run.journal import Journal
from tests.conftest import write_coco
from tests.faults.test_failing_calls import names_in, process, stored

BOUND = 120
BAD = "images/0007.jpg"


class Unforeseen(BaseException):
    """What a library might derive from BaseException."""


EXCEPTIONS = (
    *(OSError, ValueError, MemoryError, StopIteration),
    *(SystemExit, KeyboardInterrupt, GeneratorExit, Unforeseen),
)

# Where it is raised, at which call, and what the notes say then.
PLACES = {
    "decoding": (image_rows, "decode", 8, f"stage: decode of {BAD}"),
    "reading an image": (photographs, "read_inside", 8, f"stage: read of {BAD}"),
    "annotating": (Detector, "annotate", 8, f"stage: crop of {BAD}"),
    "appending rows": (NPZWriter, "append", 3, "stage: writing a batch"),
    "making rows durable": (NPZWriter, "sync", 3, "stage: flushing"),
    "writing the journal": (Journal, "append", 2, "stage: flushing"),
    "finishing the journal": (Journal, "finish", 1, "stage: publishing"),
    "writing columns": (NPZWriter, "fill", 3, "stage: completing"),
    "finishing a file": (NPZWriter, "finish", 2, "stage: publishing"),
    "removing the journal": (Journal, "remove", 1, "stage: publishing"),
    "closing": (DatasetWriter, "close", 1, "stage: closing the files"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("raw") / "raw", images=12, sizes=((64, 64), (48, 80)))


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("reference") / "out"
    process(raw, output_dir)
    return stored(output_dir), names_in(output_dir)


def outcome_of(work):
    """What a function returns or raises, in a thread of its own that must come to an end."""
    outcomes = []

    def run():
        try:
            outcomes.append(work())
        except BaseException as error:
            outcomes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(BOUND)
    assert outcomes, "it hangs"
    return outcomes[0]


def raising(monkeypatch, place, error):
    """Makes the place's n-th call, in whatever thread, raise the error, which has a cause."""
    owner, name, at, _ = PLACES[place]
    original, calls = getattr(owner, name), []

    def call(*arguments, **options):
        calls.append(None)
        if len(calls) == at:
            raise error from LookupError("the cause")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


CASES = [f"{place}: {error.__name__}" for place in PLACES for error in EXCEPTIONS]


@pytest.mark.parametrize(
    "cases",
    # Every third: each place with two or three exceptions, each exception at three or more places.
    [pytest.param(CASES[::3], id="some"), pytest.param(CASES, marks=pytest.mark.long, id="all")],
)
def test_whatever_a_thread_raises_ends_the_run_and_the_next_goes_on(
    tally, raw, reference, tmp_path, monkeypatch, cases
):
    expected, names = reference
    threads = set(threading.enumerate())
    tally.points = len(PLACES)

    def check(case):
        place, kind = case.split(": ")
        output_dir = tmp_path / case.replace(" ", "_")
        error = next(e for e in EXCEPTIONS if e.__name__ == kind)("raised here")
        with monkeypatch.context() as patch:
            raising(patch, place, error)
            raised = outcome_of(lambda: process(raw, output_dir))
        # A generator may not raise StopIteration: Python makes another of it.
        assert error in (raised, raised.__cause__ if kind == "StopIteration" else None)
        assert isinstance(error.__cause__, LookupError)
        assert PLACES[place][-1] in format_error(raised) + format_error(error)
        assert not set(threading.enumerate()) - threads, "a thread is left"
        for name, content in stored(output_dir).items():
            assert content == expected[name]
        process(raw, output_dir)
        assert stored(output_dir) == expected
        assert names_in(output_dir) == names
        return "detected"

    tally.each(cases, check)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_an_error_without_a_file_name_gets_the_one_of_the_file(raw, tmp_path, monkeypatch, error):
    def failing(descriptor):
        raise error

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os, "fsync", failing)
    assert outcome_of(lambda: process(raw, tmp_path / "out")) is error
    assert str(tmp_path / "out") in format_error(error)


def encoded(image_format, **options):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32)).save(stream, image_format, **options)
    return stream.getvalue()


OUT_OF_MEMORY = {
    "Pillow, opening": (Image, "open", MemoryError(), "PNG"),
    "Pillow, reading EXIF": (Image.Image, "getexif", MemoryError(), "PNG"),
    "Pillow's codec": (
        ImageFile.ImageFile,
        "load",
        OSError("out of memory error when reading image file"),
        "PNG",
    ),
    "libjpeg": (simplejpeg, "decode_jpeg", ValueError("Insufficient memory (case 4)"), "JPEG"),
}


@pytest.mark.parametrize("who", OUT_OF_MEMORY)
def test_want_of_memory_is_never_taken_for_a_bad_image(monkeypatch, who):
    owner, name, error, image_format = OUT_OF_MEMORY[who]
    content = encoded(image_format)

    def failing(*arguments, **options):
        raise error

    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(MemoryError):
        decoding.decode(content, decoding.read_header(content))


@pytest.mark.parametrize("number_that_start", [0, 1, 2])
def test_decoding_threads_that_cannot_be_started_end_those_that_could(
    monkeypatch, number_that_start
):
    started, original = [], threading.Thread.start

    def start(thread):
        if len(started) == number_that_start:
            raise RuntimeError("can't start new thread")
        original(thread)
        started.append(thread)

    results = map_in_order(abs, range(9), threads=3, ahead=3)
    monkeypatch.setattr(threads.threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        next(results)
    assert len(started) == number_that_start
    assert not any(thread.is_alive() for thread in started)


class Sink:
    """Notes what is done to it; waits in `publish` for the gate."""

    def __init__(self):
        self.calls, self.publishing, self.gate = [], threading.Event(), threading.Event()

    def write(self, batch):
        self.calls.append("write")

    def complete(self):
        self.calls.append("complete")

    def publish(self, metadata):
        self.calls.append("publish")
        self.publishing.set()
        assert self.gate.wait(BOUND)

    def close(self):
        self.calls.append("close")


def test_a_writing_thread_that_cannot_be_started_has_its_files_closed(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    sink = Sink()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"), BackgroundWriter(sink) as writer:
        writer.put(0)
    assert sink.calls == ["close"]


def put_and_publish(sink):
    with BackgroundWriter(sink) as writer:
        writer.put(0)
        writer.publish({})


def test_an_interrupt_while_files_are_published_waits_for_the_thread(monkeypatch):
    """Else the output directory's lock would be given back while the thread still writes there."""
    sink, waiting, real_wait = Sink(), threading.Event(), background_writer.wait

    def wait(futures):
        waiting.set()
        return real_wait(futures)

    def interrupt():
        assert sink.publishing.wait(BOUND)
        # One that comes right before the system is asked to wait is not seen until the next.
        while not waiting.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        sink.gate.set()

    monkeypatch.setattr(background_writer, "wait", wait)
    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            put_and_publish(sink)
        assert sink.calls == ["write", "publish", "close"]
    finally:
        waiting.set()
        helper.join()


def process_with_failing_decoder(arguments, error):
    """Runs the command with a decoder that raises; in a child of a `ForkServer`."""

    def decode(*_, **__):
        raise eval(error)

    image_rows.decode = decode
    return process_command(DataProcessor, ["--detector", *arguments])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("SystemExit(0)", "SystemExit: 0"),
        ("MemoryError('8 GB')", "MemoryError: 8 GB"),
        ("OSError(24, 'Too many open files')", "what to do: allow more open files (ulimit -n)"),
    ],
)
def test_the_command_fails_and_says_where(programs, raw, tmp_path, error, said):
    log, output_dir = tmp_path / "log", tmp_path / "out"
    arguments = ["--raw-data-dir", str(raw), "--output-dir", str(output_dir)]
    program = process_with_failing_decoder
    assert programs.run(program, log, arguments=arguments, error=error) == 1
    assert said in log.read_text()
    assert "stage: decode of images/0000.jpg" in log.read_text()
    assert not stored(output_dir)
