"""Fixtures: a small raw directory, its processed files, and a check for leaked threads."""

import functools
import gc
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from processing.data_processor import DataProcessor
from processing.npz.contents import Contents
from tests.faults.tally import PROPERTY, publish
from tests.processes import ForkServer
from tests.thread_leaks import threads_left

# One computing thread for torch, set before any test imports it, and for the tests' own processes:
# the models are too small to gain from more, and on a busy machine threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Bytecode is kept, also where the environment says not to: each of four workers and of about a
# hundred child processes would compile the package again, which doubles the time of its import.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# On a busy machine an example takes longer than the 200 ms that hypothesis allows by default.
settings.register_profile("any_time", deadline=None)
settings.load_profile("any_time")

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "real"
RELIABILITY = ROOT / "docs" / "reliability.md"
FIVE_POINTS = ((0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8))
"""Landmarks of each box, as fractions of its width and height."""


def pytest_addoption(parser):
    """Adds the option that publishes the counts of the fault tests."""
    parser.addoption(
        "--write-reliability",
        action="store_true",
        help="write the counts of the fault tests into docs/reliability.md",
    )


def pytest_configure():
    """Makes Ctrl-C raise KeyboardInterrupt, as at a terminal.

    A shell starts background jobs with SIGINT ignored, and tests send that signal to themselves.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leaves what was imported and collected out of later garbage collections.

    These are more than a million objects, which stay to the end. A collection that a test asks for
    would look at all of them, which takes half a second.
    """
    gc.freeze()


def pytest_terminal_summary(terminalreporter, config):
    """Prints the counts of the fault tests of all processes, and publishes them on demand."""
    passed = {report.nodeid for report in terminalreporter.getreports("passed")}
    rows = [
        row
        for report in terminalreporter.getreports(
            ""
        )  # the reports of teardowns, which carry the counts
        for name, row in report.user_properties
        if name == PROPERTY and report.nodeid in passed
    ]
    if rows:
        terminalreporter.section("faults")
    for *cells, _ in rows:
        terminalreporter.line("  ".join(cells))
    if rows and config.getoption("--write-reliability"):
        publish(rows, RELIABILITY)


@pytest.fixture(scope="session")
def real_data():
    """The folder of small real data sets; a test that needs it is skipped if it does not exist."""
    if not REAL.is_dir():
        pytest.skip(f"the real data sets are not at {REAL}")
    return REAL


@pytest.fixture(scope="session")
def fork_server(request, tmp_path_factory):
    """Returns a function that makes the `ForkServer` of some modules, one for all workers."""
    directory, session = tmp_path_factory.getbasetemp(), os.getpid()
    if hasattr(request.config, "workerinput"):  # a process that xdist has started
        directory, session = directory.parent, os.getppid()
    return functools.partial(ForkServer, directory=directory, session=session)


@pytest.fixture(scope="session")
def programs(fork_server):
    """A `ForkServer` that has imported torch, Lightning and the example: one for all tests.

    Importing them takes longer than most programs that the tests run. Every training also needs the
    modules of the second row, which the example imports where they are used.
    """
    modules = [
        *("train_example", "training.build", "training.run", "datamodules"),
        *("processing.data_processor", "faster_coco_eval", "matplotlib.backends.backend_agg"),
    ]
    return fork_server(*modules)


@pytest.fixture(scope="session")
def small_runs_server(fork_server):
    """A `ForkServer` of `small_runs`: importing the package takes longer than such a run."""
    return fork_server("tests.faults.small_runs")


@pytest.fixture(autouse=True)
def no_leaked_threads():
    """Fails a test that leaves a thread running."""
    before = threading.enumerate()
    yield
    left = threads_left(before)
    assert not left, f"threads left running: {'; '.join(left)}"


def torch_threads():
    """Returns the number of torch's computing threads; None if torch is not imported."""
    torch = sys.modules.get("torch")
    return torch and torch.get_num_threads()


@pytest.fixture(autouse=True)
def torch_keeps_its_threads():
    """Fails a test after which torch computes in more threads: they slow down all later tests."""
    before = torch_threads()
    yield
    assert before in (None, torch_threads()), "torch.set_num_threads was called in this process"


def write_coco(directory, *, images=24, seed=0, quality=92, sizes=((120, 160), (161, 97))):
    """Writes a COCO data set of noise images; each has 0 to 4 boxes, each box has five points.

    Every box is filled with one flat colour, so that a test can find it in the pixels.

    Args:
        directory: where to write ``images`` and ``annotations``; created if missing.
        images: number of images.
        seed: decides pixels and boxes.
        quality: of the JPEG files, 1 to 100.
        sizes: (height, width) of the images, in turns.

    Returns:
        `directory`.
    """
    rng = np.random.default_rng(seed)
    (directory / "images").mkdir(parents=True)
    (directory / "annotations").mkdir()
    entries, annotations = [], []
    for i in range(images):
        height, width = sizes[i % len(sizes)]
        pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        for _ in range(i % 5):
            w, h = rng.integers(12, 40, 2).tolist()
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            pixels[y : y + h, x : x + w] = rng.integers(120, 255, 3)
            points = [[x + w * a, y + h * b, 2] for a, b in FIVE_POINTS]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "keypoints": [value for point in points for value in point],
                    "num_keypoints": 5,
                }
            )
        name = f"{i:04d}.jpg"
        Image.fromarray(pixels).save(directory / "images" / name, quality=quality)
        entries.append({"id": i + 1, "file_name": name, "height": height, "width": width})
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    (directory / "annotations" / "instances.json").write_text(
        json.dumps(
            {
                "images": entries,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "face", "keypoints": names}],
            }
        )
    )
    return directory


def damage_row(path, row):
    """Changes a byte in the middle of a stored image, as a bad disk does."""
    content = path.read_bytes()
    stored = Contents.open(path).stored.row(row).tobytes()
    position = content.index(stored) + len(stored) // 2
    path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])


@pytest.fixture(scope="session")
def shared_raw_dir(tmp_path_factory):
    """A raw directory that tests only read."""
    return write_coco(tmp_path_factory.mktemp("shared") / "raw")


@pytest.fixture(scope="session")
def processed_dir(shared_raw_dir, tmp_path_factory):
    """The NPZ files of `shared_raw_dir`, for tests that only read them."""
    output_dir = tmp_path_factory.mktemp("shared") / "preprocessed"
    small = {"detector": 64, "landmarker": 48, "teacher": 32}
    DataProcessor(shared_raw_dir, output_dir, image_size=small, num_workers=2).process_all()
    return output_dir


@pytest.fixture
def raw_dir(shared_raw_dir, tmp_path):
    """A copy of `shared_raw_dir` that the test may change."""
    return Path(shutil.copytree(shared_raw_dir, tmp_path / "raw"))
