"""Damages an NPZ file and judges the result of reading it.

Cases run in processes of their own, thousands in each, so that a crash is reported with its case.
"""

import itertools
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from isal.isal_zlib import crc32

from processing.core.columns import RaggedArray
from processing.core.errors import ChecksumError, NPZFormatError, ProcessingError
from processing.lazy_dataset import LazyNPZDataset
from processing.npz.mapped import MappedNPZ
from tests.faults.tally import REPLAY_VARIABLE
from tests.processes import PROCESSES

AT_ONCE = 2
CASES_A_PROCESS = 50_000


def judge_all(tally, path, cases):
    """Tries the cases on copies of a sound file, and counts them.

    A case is one of ``flip BIT``, ``gap BIT`` (the same bit, but only the layout is verified: a
    tenth of the work), ``cut LENGTH``, ``zero START COUNT``, ``noise START COUNT SEED``, ``copy
    FROM TO COUNT``, ``insert START COUNT`` and ``remove START COUNT``.

    Returns:
        The cases that were unaffected.
    """
    wanted = os.environ.get(REPLAY_VARIABLE)
    cases = [case for case in cases if wanted in (None, case)]
    share = min(CASES_A_PROCESS, -(-len(cases) // AT_ONCE) or 1)
    parts = [cases[start : start + share] for start in range(0, len(cases), share)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = dict(
            itertools.chain.from_iterable(pool.map(_judge_part, [path] * len(parts), parts))
        )
    unaffected = []

    def check(case):
        assert answers[case] in ("detected", "unaffected"), f"{case}: {answers[case]}"
        if answers[case] == "unaffected":
            unaffected.append(case)
        return answers[case]

    tally.each(cases, check)
    return unaffected


def _judge_part(path, cases):
    """Returns (case, answer) pairs from a process; a crash is the answer of its case."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_answer, args=(path, cases, sender))
    answers = []
    with receiver:
        process.start()
        sender.close()
        try:
            while True:
                answers.append(receiver.recv())
        except EOFError:
            process.join()
    if len(answers) < len(cases):
        answers.append(f"the process ended with {process.exitcode}")
    return list(itertools.zip_longest(cases, answers, fillvalue="not tried, the process had ended"))


def look_apart(path):
    """Returns the result of `look` in a process of its own, and its bytes and seconds."""
    return sent_by(_look_and_send, path)


def sent_by(function, *arguments):
    """Calls ``function(*arguments, sender)`` in a process; returns the object that it sends."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=function, args=(*arguments, sender))
    with receiver:
        process.start()
        sender.close()
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            raise AssertionError(f"the process ended with {process.exitcode}") from None
        finally:
            process.join()


def look(path):
    """Returns ``sound``, or the error of opening, reading or verifying a file."""
    try:
        with LazyNPZDataset(path, cache_dir=Path(path).with_name("unpacked")) as dataset:
            dataset.verify()
            content(dataset)
            return "sound"
    except (ProcessingError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def _look_and_send(path, sender):
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = look(path)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sender.send((said, 1024 * used, time.process_time() - began))


def _answer(path, cases, sender):
    with tempfile.TemporaryDirectory() as directory:
        judge = Judge(shutil.copy(path, directory))
        for case in cases:
            try:
                sender.send(judge.judge(case))
            except (Exception, pytest.fail.Exception) as error:  # the parent names the case
                sender.send(f"{type(error).__name__}: {error}")


class Judge:
    """Damages one file and restores it.

    Args:
        path: a sound copy.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.sound = self.path.read_bytes()
        npz = MappedNPZ(path)
        self.has_row_checksums = "image_crc32" in npz
        if "images" in npz and npz.location("images")[0] == self.path:
            self.images_start = npz.location("images")[1]
            self.images_bytes, self.rows = npz["images"].nbytes, len(npz["images"])
        else:  # compressed: rows have no place in the file; or JPEGs, which are always compared
            self.images_start = self.images_bytes = self.rows = 0
        with LazyNPZDataset(path) as dataset:
            self.content = content(dataset)
        self.file = os.open(path, os.O_RDWR)

    def judge(self, case):
        """Returns ``detected`` or ``unaffected``; raises AssertionError for any other result."""
        start, changed, length = damage(self.sound, *case.split())
        if changed == self.sound[start : start + len(changed)] and length == len(self.sound):
            return "unaffected"
        os.pwrite(self.file, changed, start)
        os.ftruncate(self.file, length)
        try:
            return self._verify_layout() if case.startswith("gap") else self._read()
        finally:
            end = start + len(changed)
            os.pwrite(
                self.file, self.sound[start : end if length == len(self.sound) else None], start
            )
            os.ftruncate(self.file, len(self.sound))

    def _verify_layout(self):
        try:
            MappedNPZ(self.path).verify_layout()
        except NPZFormatError as error:
            return self._named(error)
        return "unaffected"

    def _read(self):
        try:
            dataset = LazyNPZDataset(self.path)
        except NPZFormatError as error:
            return self._named(error)
        with dataset:
            try:
                found = content(dataset)
            except NPZFormatError as error:
                found = self._named(error)
            try:
                dataset.verify()
            except NPZFormatError as error:
                self._named(error)
                if found not in ("detected", self.content):
                    self._only_images_differ(found)
                return "detected"
        assert found == self.content, "verify found nothing, but other content was read"
        return "unaffected"

    def _named(self, error):
        assert str(self.path) in str(error), f"does not name the file: {error}"
        return "detected"

    def _only_images_differ(self, found):
        """Checks that only images differ, and that reading with `verify=True` names the row."""
        names = {key for key in {*found, *self.content} if found.get(key) != self.content.get(key)}
        assert all("image" in name and "path" not in name for name in names), f"{names} changed"
        if not self.has_row_checksums:
            return
        with (
            LazyNPZDataset(self.path, verify=True) as dataset,
            pytest.raises(ChecksumError, match="member 'images', row ") as caught,
        ):
            content(dataset)
        self._named(caught.value)
        row = str(caught.value).partition("member 'images', row ")[2].partition(" ")[0]
        span = self.images_bytes // self.rows
        start = self.images_start + int(row) * span
        now = self.path.read_bytes()[start : start + span]
        assert now != self.sound[start : start + span], f"the wrong row: {caught.value}"


def damage(sound, kind, *numbers):
    """Returns where a file changes, the new bytes, and the new length of the file."""
    first, *rest = map(int, numbers)
    if kind in ("flip", "gap"):
        position, bit = divmod(first, 8)
        return position, bytes([sound[position] ^ 1 << bit]), len(sound)
    if kind == "cut":
        return first, b"", first
    if kind == "zero":
        return first, bytes(len(sound[first : first + rest[0]])), len(sound)
    if kind == "noise":
        count, seed = len(sound[first : first + rest[0]]), rest[1]
        return first, np.random.default_rng(seed).bytes(count), len(sound)
    if kind == "copy":
        target, count = rest
        count = min(count, len(sound) - max(first, target))
        return target, sound[first : first + count], len(sound)
    count = rest[0]
    moved = {"insert": bytes(count) + sound[first:], "remove": sound[first + count :]}[kind]
    return first, moved, first + len(moved)


def content(dataset):
    """Returns everything that a dataset contains, as comparable values by name."""
    found = {"task": dataset.task, "metadata": repr(dict(dataset.metadata))}
    if "images" in dataset.columns.npz:
        found["images"] = _plain(dataset.images)
    for name in ("image_paths", "bboxes", "keypoints", "labels"):
        found[name] = _plain(getattr(dataset, name))
    for name in ("source_rects", "source_sizes", "category_names", "image_size"):
        found[name] = _plain(getattr(dataset, name))
    for name, column in dataset.get_batch(range(len(dataset))).items():
        found[f"batch {name}"] = _plain(column)
    rows = range(len(dataset))
    for row in rows[:: max(1, len(rows) // 4)]:
        for name, value in dataset[row].items():
            found[f"{name} of {row}"] = _plain(value)
    return found


def _plain(value):
    if isinstance(value, RaggedArray):
        return _plain(value.values), _plain(value.offsets)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, crc32(np.ascontiguousarray(value))
    return value
