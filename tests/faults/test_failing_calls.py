"""Every call that processing makes on its files fails once, or from then on; then all is put right.

A fault loop counts: the first call fails in the first run, the second in the second, until a run
meets no fault. After each: what lies under a final name is the whole old or the whole new file; the
error is the one that was raised by the call, names a file and says in what stage; a rerun without
faults ends with the bytes of a run that nothing disturbed, and leaves nothing beside them.
"""

import errno
import json
import os
import random
import shutil
from dataclasses import dataclass

import pytest

from processing.core.errors import ProcessingError, TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from tests.conftest import write_coco
from tests.faults.failing_calls import KINDS, FailingCalls, no_descriptor_left_open

SEED = 4
IMAGES = 8  # two flushes of two batches of two
FAST = 20  # of the states of each test that the quick suite tries
INPUT_KINDS = ("ENOSPC", "EIO", "EINTR", "EACCES", "EMFILE", "MemoryError", "KeyboardInterrupt")
OF_ONE_IMAGE = ("EIO", "EACCES")
LISTS = (".rejected.jsonl", ".npz")


@dataclass(frozen=True)
class Fault:
    """One call to fail, and how."""

    at: int
    kind: str
    persistent: bool
    name: str  # of the call, and its file

    def __str__(self):
        return f"{self.at} {self.name} {self.kind}{' from then on' if self.persistent else ''}"

    def on(self, root):
        return FailingCalls(root, at=self.at, kind=self.kind, persistent=self.persistent)


def faults_at(calls, kinds=KINDS):
    """Every way in which each of these calls can fail."""
    return [
        Fault(at, kind, persistent, name)
        for at, name in enumerate(calls, 1)
        for kind in kinds
        if kind != "short write" or name.startswith("write ")
        for persistent in (False, True)
    ]


def process(raw_dir, output_dir, **options):
    options = {"image_size": 16, "progress": False, **options}
    processor = DataProcessor(raw_dir, output_dir, 2, 1, 2, **options)
    return processor.process_detector()


def stored(output_dir):
    """Bytes by name of what is under a final name."""
    if not output_dir.is_dir():
        return {}
    return {
        path.name: path.read_bytes()
        for path in output_dir.iterdir()
        if path.name.startswith(("train", "val")) and path.name.endswith(LISTS)
    }


def names_in(directory):
    return {path.name for path in directory.iterdir()}


def format_error(error):
    """All that a person is told."""
    return " ".join([str(error), *getattr(error, "__notes__", [])])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Eight images, one of them cut short, so that there is a list of rejections as well."""
    raw_dir = write_coco(
        tmp_path_factory.mktemp("raw") / "raw", images=IMAGES, sizes=((64, 64), (48, 80))
    )
    image = raw_dir / "images" / "0005.jpg"
    image.write_bytes(image.read_bytes()[:900])
    return raw_dir


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory):
    """What a run that nothing disturbs leaves: bytes by name, and the names of all files."""
    output_dir = tmp_path_factory.mktemp("reference") / "out"
    process(raw, output_dir)
    for npz in output_dir.glob("*_detector.npz"):
        with LazyNPZDataset(npz) as dataset:
            dataset.verify()
    return stored(output_dir), names_in(output_dir)


def nothing_there(raw_dir, output_dir):
    """A first run."""


def an_older_data_set(raw_dir, output_dir):
    """One made with another option, to be replaced."""
    process(raw_dir, output_dir, crop_margin=0.5, min_box_size=20)


def an_interrupted_run(raw_dir, output_dir):
    """One whose second flush failed, and all that came after it."""
    with FailingCalls(output_dir) as layer:
        process(raw_dir, output_dir)
    shutil.rmtree(output_dir)
    numbers = [at for at, name in enumerate(layer.calls, 1) if name == "fsync processing.journal"]
    second = numbers[2]  # the first is that of the journal's beginning
    with (
        pytest.raises(OSError, match="Input/output"),
        FailingCalls(output_dir, at=second, persistent=True),
    ):
        process(raw_dir, output_dir)
    assert list(output_dir.glob("*.partial"))


def the_same_data_set(raw_dir, output_dir):
    """One that is up to date."""
    process(raw_dir, output_dir)


@pytest.fixture(params=[nothing_there, an_older_data_set, an_interrupted_run, the_same_data_set])
def before(request, raw, tmp_path):
    """What is there before the run: gives its directory, and what puts it at the given place."""
    output_dir = tmp_path / "before"
    request.param(raw, output_dir)

    def put(directory):
        shutil.rmtree(directory, ignore_errors=True)
        if output_dir.is_dir():
            shutil.copytree(output_dir, directory)

    return output_dir, put


def check_output_fault(fault, raw_dir, output_dir, before, reference):
    old_dir, put = before
    new, names = reference
    put(output_dir)
    outcome = "detected"
    with no_descriptor_left_open(), fault.on(output_dir) as layer:
        try:
            process(raw_dir, output_dir)
            outcome = "recovered" if layer.raised or fault.kind == "short write" else "unaffected"
        except BaseException as error:
            check_told(error, layer, output_dir)
            error.__traceback__ = None
    old, found = stored(old_dir), stored(output_dir)
    for name, content in found.items():
        assert content in (old.get(name), new.get(name)), f"{name} is neither old nor new"
    if outcome != "detected":
        assert found == new
        assert outcome == "unaffected" or is_harmless(fault), "a failure was kept quiet"
    report = process(raw_dir, output_dir)
    done = report.images_resumed + report.images_decoded + report.images_copied
    assert report.up_to_date or done == IMAGES
    assert stored(output_dir) == new
    assert names_in(output_dir) == names
    return outcome


def is_harmless(fault):
    """Whether the run may succeed in spite of it: no failing fsync, say, may be kept quiet.

    What a buffer repeats; a cache, which is made anew; a lock that is opened in another way, and
    that the system gives back all the same; the making of a directory that is there.
    """
    repeated = fault.kind in ("EINTR", "short write") and fault.name.startswith(("read", "write"))
    names = ("mkdir .", "lstat .", "open processing.lock", "close processing.lock")
    return repeated or fault.name in names or fault.name.endswith(".cache")


def check_told(error, layer, output_dir):
    """What the caller gets is what the first call raised; later ones only where all fail."""
    raised = layer.raised if layer.persistent else layer.raised[:1]
    assert any(error is other for other in raised), f"{error!r} instead of one of {raised}"
    if isinstance(error, OSError):
        assert error.errno == getattr(errno, layer.kind)
        assert os.fspath(error.filename).startswith(os.fspath(output_dir)), format_error(error)


def calls_on_the_output(raw_dir, output_dir, before):
    before[1](output_dir)
    with FailingCalls(output_dir) as layer:
        process(raw_dir, output_dir)
    assert len(layer.calls) > 15
    return layer.calls


def try_output_faults(tally, raw, before, reference, tmp_path, choose):
    output_dir = tmp_path / "out"
    calls = calls_on_the_output(raw, output_dir, before)
    tally.points = len(calls)
    faults = choose(faults_at(calls))
    tally.each(faults, lambda fault: check_output_fault(fault, raw, output_dir, before, reference))


def some(tally, number):
    """What draws a sample."""
    tally.seed = SEED
    return lambda faults: random.Random(SEED).sample(faults, number)


def test_some_failing_calls_on_the_output(tally, raw, before, reference, tmp_path):
    try_output_faults(tally, raw, before, reference, tmp_path, some(tally, FAST))


@pytest.mark.long
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from_then_on"])
def test_every_failing_call_on_the_output(tally, raw, before, reference, tmp_path, persistent):
    def choose(faults):
        return [fault for fault in faults if fault.persistent == persistent]

    try_output_faults(tally, raw, before, reference, tmp_path, choose)


def rows_by_path(output_dir):
    """Image path to the pixels of its row; each path once."""
    rows = {}
    for npz in output_dir.glob("*_detector.npz"):
        with LazyNPZDataset(npz) as dataset:
            for path, image in zip(dataset.image_paths, dataset.images, strict=True):
                assert path not in rows
                rows[path] = image.tobytes()
    return rows


def listed(output_dir):
    """(path, reason) of what the lists say was left out."""
    lines = [line for path in output_dir.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted((entry["path"], entry["reason"]) for entry in map(json.loads, lines))


def check_input_fault(fault, raw_dir, output_dir, reference, whole):
    new, names = reference
    shutil.rmtree(output_dir, ignore_errors=True)
    outcome = "detected"
    with no_descriptor_left_open(), fault.on(raw_dir) as layer:
        try:
            process(raw_dir, output_dir)
        except BaseException as error:
            check_told_of_input(error, layer, raw_dir)
            assert not stored(output_dir)
            let_go_of(error)
        else:
            outcome = check_rejected(fault, layer, output_dir, new, whole)
    process(raw_dir, output_dir)
    assert stored(output_dir) == new
    assert names_in(output_dir) == names
    return outcome


def let_go_of(error):
    """Tracebacks hold what was open."""
    while error is not None:
        error.__traceback__, error = None, error.__context__


def check_told_of_input(error, layer, raw_dir):
    """Of an annotation file the original is the cause; each way its name is told.

    Where no image can be read any more, the last image's error is the cause of that of the run.
    """
    original = error
    while isinstance(original, ProcessingError) and original.__cause__ is not None:
        original = original.__cause__
    if isinstance(error, TooManyRejectedError):
        assert layer.persistent
        assert layer.kind in OF_ONE_IMAGE
        assert "images/" in str(error)
        return
    raised = layer.raised if layer.persistent else layer.raised[:1]
    assert any(original is other for other in raised), f"{error!r} instead of one of {raised}"
    if isinstance(original, OSError):
        assert os.fspath(raw_dir) in str(error)
        assert original.strerror in str(error)


def check_rejected(fault, layer, output_dir, new, whole):
    """What was left out is listed as unreadable, and only for what can be one image's fault."""
    if stored(output_dir) == new:
        return "recovered" if layer.raised else "unaffected"
    assert fault.kind in OF_ONE_IMAGE, "an image was left out that is not to blame"
    rows, (all_rows, always_listed) = rows_by_path(output_dir), whole
    left_out = [entry for entry in listed(output_dir) if entry not in always_listed]
    assert left_out
    assert {reason for _, reason in left_out} == {"unreadable"}
    paths = {path for path, _ in left_out}
    assert len(left_out) == len(paths)
    assert len(paths) == 1 or fault.persistent
    expected = {path: row for path, row in all_rows.items() if path not in paths}
    assert rows == expected, "something good was lost beside something bad"
    return "detected"


@pytest.fixture(scope="module")
def whole(raw, tmp_path_factory):
    """The rows, and the list, that a run gives which nothing disturbs."""
    output_dir = tmp_path_factory.mktemp("whole")
    process(raw, output_dir)
    assert len(listed(output_dir)) == 1
    return rows_by_path(output_dir), listed(output_dir)


def try_input_faults(tally, raw, reference, whole, tmp_path, choose):
    with FailingCalls(raw) as layer:
        process(raw, tmp_path / "out")
    assert len(layer.calls) > 3 * IMAGES
    tally.points = len(layer.calls)
    faults = choose(faults_at(layer.calls, INPUT_KINDS))
    tally.each(
        faults, lambda fault: check_input_fault(fault, raw, tmp_path / "out", reference, whole)
    )


def test_some_failing_calls_on_the_inputs(tally, raw, reference, whole, tmp_path):
    try_input_faults(tally, raw, reference, whole, tmp_path, some(tally, FAST))


@pytest.mark.long
def test_every_failing_call_on_the_inputs(tally, raw, reference, whole, tmp_path):
    try_input_faults(tally, raw, reference, whole, tmp_path, list)
