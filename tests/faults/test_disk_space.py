"""A real, small file system that is nearly full: refused before the first byte, or carried through.

And where something else fills it during the run: the error says what and where, and once there is
room again the next run goes on and ends with equal bytes.
"""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from processing.commands.process import process_command
from processing.core.error_notes import format_error
from processing.data_processor import DataProcessor
from processing.run import image_batches, processing_run
from processing.run.disk_space import ensure_space
from tests.conftest import write_coco
from tests.faults.test_failing_calls import names_in, process, stored

IMAGES = 24
SIZE = {"image_size": 96}
MEGABYTES = 16
NUMBERS = r"may need ([\d,]+) bytes, ([\d,]+) are free"


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of 16 MB in memory."""
    point = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", point]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture
def output_dir(small_disk):
    """An empty directory on it, the rest of it empty as well."""
    for path in small_disk.rglob("*"):
        if not path.is_dir():
            path.unlink()
    directory = small_disk / "out"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("raw") / "raw", images=IMAGES, sizes=((64, 64),))


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("reference") / "out"
    process(raw, output_dir, **SIZE)
    return stored(output_dir), names_in(output_dir)


def free_bytes(directory):
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def fill(directory, *, but):
    """Leaves `but` bytes free, as a file beside the directory."""
    ballast = directory.parent / "ballast"
    ballast.unlink(missing_ok=True)
    length = free_bytes(directory) - but
    with ballast.open("wb") as file:
        if length > 0:
            os.posix_fallocate(file.fileno(), 0, length)
    return ballast


def needed_by_check(raw, output_dir):
    """What the check asks for, by its own message."""
    fill(output_dir, but=0)
    with pytest.raises(OSError, match=NUMBERS) as refused:
        process(raw, output_dir, **SIZE)
    return int(re.search(NUMBERS, str(refused.value))[1].replace(",", ""))


def test_a_disk_that_would_not_hold_it_is_refused_before_the_first_byte_with_both_numbers(
    raw, output_dir, reference, capsys
):
    needed = needed_by_check(raw, output_dir)
    images = sum(len(content) for content in reference[0].values())
    assert images < needed < 1.5 * images
    fill(output_dir, but=needed - 4096)
    before = free_bytes(output_dir)
    arguments = ["--detector", "--image-size", "96", "--batch-size", "2", "--flush-every", "2"]
    where = ["--raw-data-dir", str(raw), "--output-dir", str(output_dir)]
    assert process_command(DataProcessor, [*arguments, *where]) == 1
    said = capsys.readouterr().err
    assert f"{needed:,} bytes, {before:,} are free" in said
    assert str(output_dir) in said
    assert "what to do: free space there" in said
    assert names_in(output_dir) == {"processing.lock"}
    assert free_bytes(output_dir) == before


@pytest.mark.parametrize("state", ["empty", "an older data set", "interrupted"])
def test_what_the_check_lets_pass_fits_and_a_page_less_is_refused(
    raw, output_dir, reference, state, monkeypatch
):
    if state == "an older data set":  # stays until the new one takes its name
        process(raw, output_dir, min_box_size=20, **SIZE)
    elif state == "interrupted":  # what it has written need not be written again
        interrupt(raw, output_dir, monkeypatch)
    needed = needed_by_check(raw, output_dir)
    whole = sum(len(content) for content in reference[0].values())
    assert needed < whole if state == "interrupted" else needed > whole
    fill(output_dir, but=needed - 4096)
    with pytest.raises(OSError, match=NUMBERS):
        process(raw, output_dir, **SIZE)
    fill(output_dir, but=needed + 4096 - needed % 4096)
    report = process(raw, output_dir, **SIZE)
    assert (report.images_resumed > 0) == (state == "interrupted")
    assert stored(output_dir) == reference[0]


def interrupt(raw, output_dir, monkeypatch):
    """A run that ends when three quarters of the images are done."""
    original = image_batches.process_image

    def interrupted(raw_dir, job, options, earlier):
        if job.path.endswith("0018.jpg"):
            raise KeyboardInterrupt
        return original(raw_dir, job, options, earlier)

    with monkeypatch.context() as patch:
        patch.setattr(image_batches, "process_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process(raw, output_dir, **SIZE)


def test_a_run_killed_between_two_files_is_not_refused_for_want_of_the_first_ones_room(
    raw, output_dir, reference, monkeypatch
):
    published, replace = [], Path.replace

    def publish_one(partial, final):
        if final.suffix == ".npz" and published:
            raise KeyboardInterrupt
        if final.suffix == ".npz":
            published.append(final)
        replace(partial, final)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", publish_one)
        with pytest.raises(KeyboardInterrupt):
            process(raw, output_dir, **SIZE)
    assert published[0].exists()
    fill(output_dir, but=256 << 10)
    assert published[0].stat().st_size > 256 << 10
    process(raw, output_dir, **SIZE)
    assert stored(output_dir) == reference[0]


def test_a_disk_that_is_filled_during_the_run_leaves_what_the_next_one_continues(
    tally, raw, output_dir, reference, monkeypatch
):
    """Filled after the check, so that it is full at another place of the run each time."""
    expected, names = reference
    needed = needed_by_check(raw, output_dir)
    rooms = range(0, needed, needed // 40)
    resumed = []
    tally.points = len(rooms)

    def check(room):
        for path in output_dir.iterdir():
            path.unlink()
        ballast = fill(output_dir, but=needed + 8192)

        def check_then_fill(*arguments, **options):
            ensure_space(*arguments, **options)
            fill(output_dir, but=room)

        failure = None
        with monkeypatch.context() as patch:
            patch.setattr(processing_run, "ensure_space", check_then_fill)
            try:
                process(raw, output_dir, **SIZE)
            except OSError as error:
                failure = error
        if failure is not None:
            assert failure.errno == errno.ENOSPC
            assert failure.filename.startswith(str(output_dir))
            assert "what to do: free space there" in format_error(failure)
        for name, content in stored(output_dir).items():
            assert content == expected[name]
        ballast.unlink()
        report = process(raw, output_dir, **SIZE)
        resumed.append(report.images_resumed)
        assert stored(output_dir) == expected
        assert names_in(output_dir) == names
        return "unaffected" if failure is None else "detected"

    tally.each(rooms, check)
    assert len(rooms) == 1 or max(resumed) >= IMAGES - 4  # all but a flush's window
