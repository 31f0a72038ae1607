"""One change costs one change: what a run reads, decodes and writes after a small change."""

import contextlib
import itertools
import json
import os
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from processing.core.errors import TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.imaging import image_rows
from processing.run.processing_run import ProcessingRun
from tests.conftest import write_coco

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
IMAGES = 30
_watched = []


def _on_open(event, arguments):
    if event == "open" and _watched and isinstance(arguments[0], str):
        _watched[-1][arguments[0]] += 1


sys.addaudithook(_on_open)  # a hook cannot be removed, so there is one for all tests


@contextlib.contextmanager
def opened(raw):
    """Counts how often each image of a raw directory is opened."""
    images, prefix = Counter(), os.fspath(raw / "images") + os.sep
    _watched.append(Counter())
    try:
        yield images
    finally:
        for path, count in _watched.pop().items():
            if path.startswith(prefix):
                images[path.removeprefix(prefix)] += count


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    write_coco(folder / "raw", images=IMAGES)
    return folder


@pytest.fixture
def folder(before, tmp_path):
    """A raw directory of its own, and the files made of it."""
    folder = shutil.copytree(before, tmp_path / "work")
    processor(folder).process_all()
    return folder


def processor(folder, output="out", **options):
    settings = {"image_size": SMALL, "num_workers": 2, "batch_size": 4, "progress": False}
    return DataProcessor(folder / "raw", folder / output, **(settings | options))


def image(folder, index):
    return folder / "raw" / "images" / f"{index:04d}.jpg"


def mirror(path):
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1].copy()).save(path, quality=92)


def split_of(folder, index):
    for split in ("train", "val"):
        if (
            f"images/{index:04d}.jpg"
            in np.load(folder / "out" / f"{split}_detector.npz")["image_paths"]
        ):
            return split
    raise LookupError(index)


def some_image(folder, split, *, boxes=True):
    """The first image of a split with boxes, or without."""
    wanted = (i for i in range(IMAGES) if bool(i % 5) == boxes and split_of(folder, i) == split)
    return next(wanted)


def npz_files(folder, output="out"):
    return {path.name: path for path in (folder / output).glob("*.npz")}


def states(folder):
    """What a file that was replaced cannot have in common with the one before."""
    files = {name: path.stat() for name, path in npz_files(folder).items()}
    return {name: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for name, s in files.items()}


def stored(folder, output="out"):
    directory = folder / output
    names = [*directory.glob("*_*.npz"), *directory.glob("*_*.jsonl")]
    assert names
    return {path.name: path.read_bytes() for path in names}


def check_like_fresh(folder, **options):
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    processor(folder, "fresh", **options).process_all()
    assert stored(folder) == stored(folder, "fresh")


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_changed_photograph_is_the_only_one_read_and_its_files_the_only_ones_written(
    folder, split
):
    index = some_image(folder, split)
    mirror(image(folder, index))
    was = states(folder)
    with opened(folder / "raw") as images:
        report = processor(folder).process_all()
    assert set(images) == {f"{index:04d}.jpg"}
    assert report.images_decoded == 1
    assert len(report.files) == 6
    now = states(folder)
    changed = {name for name, state in now.items() if state != was[name]}
    assert changed == {f"{split}_{task}.npz" for task in SMALL}
    check_like_fresh(folder)
    assert processor(folder).process_all().up_to_date


def test_a_photograph_without_boxes_changes_only_the_detectors_file(folder):
    index = some_image(folder, "train", boxes=False)
    mirror(image(folder, index))
    was = states(folder)
    with opened(folder / "raw") as images:
        report = processor(folder).process_all()
    assert set(images) == {f"{index:04d}.jpg"}
    assert report.images_decoded == 1
    assert {n for n, s in states(folder).items() if s != was[n]} == {"train_detector.npz"}
    check_like_fresh(folder)


def touch(path):
    os.utime(path)


def change_permissions(path):
    path.chmod(0o600)


def restore_a_copy(path):
    copy = path.with_suffix(".copy")
    shutil.copy2(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("change", [touch, change_permissions, restore_a_copy])
def test_a_file_that_changed_and_its_content_did_not_costs_one_read(folder, change):
    change(image(folder, 3))
    was = states(folder)
    with opened(folder / "raw") as images:
        report = processor(folder).process_all()
    assert images == {"0003.jpg": 1}
    assert report.up_to_date
    assert states(folder) == was
    with opened(folder / "raw") as images:
        assert processor(folder).process_all().up_to_date
    assert not images


def test_content_that_changed_behind_equal_size_and_times_is_found(folder):
    path = image(folder, 3)
    status, content = path.stat(), path.read_bytes()
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1].copy()).save(path, quality=20)
    smaller = path.read_bytes()
    assert len(smaller) < len(content)
    path.write_bytes(smaller.ljust(len(content), b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not processor(folder).process_all().up_to_date
    check_like_fresh(folder)


def test_a_changed_box_reads_the_one_image_that_it_needs(folder):
    index = some_image(folder, "train")
    file = folder / "raw" / "annotations" / "instances.json"
    content = json.loads(file.read_text())
    next(a for a in content["annotations"] if a["image_id"] == index + 1)["bbox"][0] += 1
    file.write_text(json.dumps(content))
    was = states(folder)
    with opened(folder / "raw") as images:
        report = processor(folder).process_all()
    assert set(images) == {f"{index:04d}.jpg"}
    assert report.images_decoded == 1
    changed = {name for name, state in states(folder).items() if state != was[name]}
    assert changed == {f"train_{task}.npz" for task in SMALL}
    check_like_fresh(folder)


def test_another_division_into_splits_reads_no_image(folder):
    with opened(folder / "raw") as images:
        report = processor(folder, seed=3).process_all()
    assert not images
    assert report.images_decoded == 0
    check_like_fresh(folder, seed=3)


def test_a_lost_cache_costs_reading_and_no_decoding(folder):
    (folder / "out" / "processing.inputs.cache").unlink()
    with opened(folder / "raw") as images:
        assert processor(folder).process_all().up_to_date
    assert len(images) == IMAGES
    with opened(folder / "raw") as images:
        assert processor(folder).process_all().up_to_date
    assert not images


def test_one_task_after_all_tasks_is_like_a_fresh_run_of_that_task(folder):
    """Which tasks are made together decides how finely photographs are decoded."""
    mirror(image(folder, some_image(folder, "train")))
    processor(folder).process_detector()
    processor(folder, "fresh").process_detector()
    for name, content in stored(folder, "fresh").items():
        assert (folder / "out" / name).read_bytes() == content
    processor(folder).process_all()
    check_like_fresh(folder)


def spoil(path):
    path.write_bytes(path.read_bytes()[:2000])


def test_bad_images_of_files_that_stay_still_count(folder):
    bad = [i for i in range(IMAGES) if split_of(folder, i) == "val"][:2]
    for index in bad:
        spoil(image(folder, index))
    processor(folder).process_all()
    good = some_image(folder, "train")
    mirror(image(folder, good))
    with pytest.raises(TooManyRejectedError, match=f"2 of {IMAGES} images were rejected"):
        processor(folder, max_bad_fraction=1.5 / IMAGES).process_all()
    report = processor(folder, max_bad_fraction=2 / IMAGES).process_all()
    assert report.images_decoded == 1
    check_like_fresh(folder)


class Stopped(Exception):
    pass


@contextlib.contextmanager
def stopping_at(call, monkeypatch):
    """Raises at one of the calls that a run makes of steps of its work."""
    calls = itertools.count(1)

    def counted(original):
        def step(*arguments, **options):
            if next(calls) == call:
                raise Stopped
            return original(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(image_rows, "_rows", counted(image_rows._rows))
        for name in ("_finish_lists", "_open_journal"):
            patch.setattr(ProcessingRun, name, counted(getattr(ProcessingRun, name)))
        original = os.replace
        patch.setattr(os, "replace", counted(original))
        with contextlib.suppress(Stopped):
            yield


@pytest.mark.parametrize("changed", ["train", "val", "without boxes", "several"])
@pytest.mark.parametrize("workers", [1, 3])
def test_however_often_a_run_is_stopped_its_bytes_are_those_of_a_fresh_run(
    folder, monkeypatch, changed, workers
):
    if changed == "several":
        chosen = [some_image(folder, "train"), some_image(folder, "val")]
    elif changed == "without boxes":
        chosen = [some_image(folder, "train", boxes=False)]
    else:
        chosen = [some_image(folder, changed)]
    for index in chosen:
        mirror(image(folder, index))
    kept = set(npz_files(folder))
    for call in (1, 9, 30, 2, 40, 41, 42, 43, 44, 45):
        with stopping_at(call, monkeypatch):
            processor(folder, num_workers=workers, flush_every=1).process_all()
        assert set(npz_files(folder)) == kept
    report = processor(folder, num_workers=workers, flush_every=1).process_all()
    assert report.images_decoded <= len(chosen)
    check_like_fresh(folder)
    assert not list((folder / "out").glob("*.partial"))
    assert not list((folder / "out").glob("*.earlier"))


def all_images(folder, change):
    for path in sorted((folder / "raw" / "images").iterdir()):
        change(path)


@pytest.mark.parametrize("change", [touch, change_permissions, restore_a_copy])
def test_a_stopped_run_is_continued_although_all_files_were_touched(before, tmp_path, change):
    folder = shutil.copytree(before, tmp_path / "work")
    with pytest.MonkeyPatch.context() as patch, stopping_at(60, patch):
        processor(folder, flush_every=1).process_all()
    assert (folder / "out" / "processing.journal").exists()
    all_images(folder, change)
    report = processor(folder, flush_every=1).process_all()
    assert report.images_resumed > 0
    assert report.images_resumed + report.images_decoded == IMAGES
    check_like_fresh(folder)


def test_a_stopped_run_begins_again_if_an_image_that_it_has_read_changed(before, tmp_path):
    folder = shutil.copytree(before, tmp_path / "work")
    with pytest.MonkeyPatch.context() as patch, stopping_at(60, patch):
        processor(folder, flush_every=1).process_all()
    mirror(image(folder, 1))
    report = processor(folder, flush_every=1).process_all()
    assert report.images_resumed == 0
    assert report.images_copied > 0
    check_like_fresh(folder)
