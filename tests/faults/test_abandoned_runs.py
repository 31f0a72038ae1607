"""Inputs change after a kill: the run begins again, and copies all that still holds."""

import contextlib
import io
import os
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor
from processing.npz.writer import NPZWriter
from processing.run import disk_space
from processing.run.journal import Journal, header_of
from processing.run.leftovers import _is_worth_more, set_aside
from tests.faults.killer import SITUATIONS, Killer
from tests.faults.small_runs import BESIDE, IMAGES, JOURNAL, OPTIONS, published

CHANGED, BAD = "0001.jpg", 4
"""What is changed, and how many images cannot be decoded and so not be copied either."""


class Changing:
    """A killer whose raw directory changes after the kill, and what must come of it."""

    def __init__(self, directory, server):
        self.killer = Killer(directory, server)
        self.raw = self.killer.runs.raw["new"]
        self.fresh = directory / "fresh"
        self._original = (self.raw / "images" / CHANGED).read_bytes()
        self.change()
        DataProcessor(self.raw, self.fresh, **OPTIONS).process_all()
        self.expected = published(self.fresh)
        self.restore()

    def change(self):
        """One image gets other pixels, another is touched."""
        image = self.raw / "images" / CHANGED
        pixels = np.random.default_rng(9).integers(0, 255, (80, 50, 3), np.uint8)
        Image.fromarray(pixels).save(image, quality=90)
        os.utime(self.raw / "images" / "0005.jpg")

    def restore(self):
        """The image gets its pixels back, and is changed in the eyes of who looks at times."""
        (self.raw / "images" / CHANGED).write_bytes(self._original)

    def kill(self, output, at):
        """Gives how many images the killed run had made durable."""
        status, _ = self.killer.run("new", output, at, "before")
        assert status == -9, self.killer.log
        return self.killer.runs.journalled(output)

    def check_rerun(self, output, durable):
        """The files are those of a run from nothing, and only what had to be was decoded."""
        report = DataProcessor(self.raw, output, **OPTIONS).process_all()
        assert published(output) == self.expected
        left = {path.name for path in output.iterdir()} - set(self.expected)
        assert left <= BESIDE, left
        assert report.images_decoded <= IMAGES - durable + 1 + BAD
        return report


@pytest.fixture(scope="module")
def changing(small_runs_server, tmp_path_factory):
    return Changing(tmp_path_factory.mktemp("changing"), small_runs_server)


@dataclass(frozen=True)
class Kill:
    """Where runs are killed: the first, and perhaps the one after the change."""

    situation: str
    at: int
    again: int = 0

    def __str__(self):
        return f"{self.situation}-{self.at}-{self.again}"


def check(changing, case):
    with changing.killer.prepared(case.situation) as output:
        try:
            durable = changing.kill(output, case.at)
            changing.change()
            if case.again and (output / JOURNAL).exists():
                status, _ = changing.killer.run("new", output, case.again, "before")
                assert status in (-9, 3), changing.killer.log
                changing.restore()
                changing.change()  # another time: the second run cannot be continued either
            changing.check_rerun(output, durable)
        finally:
            changing.restore()
    return "recovered"


def cases(changing, each):
    """Kills at every `each`-th operation, and after half of those kills another."""
    found = []
    for situation in SITUATIONS:
        last = len(changing.killer.operations[situation])
        for number, at in enumerate(range(each // 2 + 1, last, each)):
            found.append(Kill(situation, at, 0 if number % 2 else 1 + at * 7 % (last // 2)))
    return found


@pytest.mark.parametrize("each", [150, pytest.param(3, marks=pytest.mark.long)])
def test_after_a_kill_and_a_change_what_still_holds_is_copied(changing, tally, each):
    kills = cases(changing, each)
    tally.points = len(kills)
    tally.each(kills, lambda case: check(changing, case))


@pytest.mark.parametrize("damage", ["lost", "cut", "flipped"])
def test_rows_of_an_abandoned_run_that_are_lost_or_damaged_are_made_anew(changing, damage):
    with changing.killer.prepared("fresh") as output:
        try:
            changing.kill(output, len(changing.killer.operations["fresh"]) // 2)
            path = output / "train_detector.npz.partial"
            content = path.read_bytes()
            if damage == "lost":
                path.unlink()
            elif damage == "cut":
                path.write_bytes(content[: len(content) // 2])
            else:
                path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            changing.change()
            changing.check_rerun(output, 0)
        finally:
            changing.restore()


def usage(free):
    return shutil._ntuple_diskusage(0, 0, free)


def test_where_there_is_no_room_for_both_the_rows_of_an_abandoned_run_are_given_up(
    changing, monkeypatch
):
    with changing.killer.prepared("fresh") as output:
        changing.kill(output, len(changing.killer.operations["fresh"]) - 20)
        try:
            changing.change()
            monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage(0))
            with pytest.raises(OSError, match=r"may need ([\d,]+) bytes") as refused:
                changing.check_rerun(output, 0)
            needed = int(re.search(r"need ([\d,]+)", str(refused.value))[1].replace(",", ""))
            assert list(output.glob("*.earlier"))

            def disk_usage(_):  # a disk on which only the rows of the abandoned run are too many
                return usage(needed - bool(list(output.glob("*.earlier"))))

            monkeypatch.setattr(disk_space.shutil, "disk_usage", disk_usage)
            report = changing.check_rerun(output, 0)
        finally:
            changing.restore()
        assert report.images_decoded == IMAGES


def test_what_an_abandoned_run_left_goes_where_files_are_up_to_date_all_the_same(changing):
    with changing.killer.prepared("fresh") as output:
        runs = changing.killer.runs
        changing.kill(output, 60)
        set_aside(output)
        assert list(output.glob("*.earlier"))
        shutil.copytree(runs.output["new"], output, dirs_exist_ok=True)
        assert runs.check_rerun(output).up_to_date


def of_another_version(journal):
    header = header_of(journal)
    Journal(journal, msgspec.structs.replace(header, version=header.version + 1)).close()


def with_other_records(journal):
    """Whole frames, as another version may write them."""
    payload = msgspec.msgpack.encode({"type": "flush", "images_done": 5})
    with journal.open("ab") as file:
        file.write(struct.pack("<II", len(payload), crc32(payload)) + payload)


def twice(journal):
    journal.write_bytes(2 * journal.read_bytes())


def with_a_broken_header(journal):
    content = bytearray(journal.read_bytes())
    content[20] ^= 1
    journal.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, of_another_version, with_other_records, twice, with_a_broken_header],
)
def test_nothing_stays_of_a_run_whose_journal_cannot_be_read(changing, spoil):
    with changing.killer.prepared("fresh") as output:
        changing.kill(output, len(changing.killer.operations["fresh"]) // 2)
        spoil(output / JOURNAL)
        check_that_nothing_stays(changing, output)


def of_another_task(file):
    shutil.copy(file.with_name("train_teacher.npz.earlier"), file)


def write(file, **members):
    """Writes a file of ours, as another version may: no run replaces those of other programs."""
    file.unlink()
    with contextlib.closing(NPZWriter(file)) as writer:
        for name, array in members.items():
            writer.write(name, array)
        writer.finish()


def with_keys_of_another_kind(file):
    write(file, image_keys=np.array(["a"]), metadata=np.load(file)["metadata"])


def with_metadata_of_another_kind(file):
    write(file, metadata=np.array('{"abandoned_run": 3}'))


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def without_keys(file):
    write(file, images=np.zeros((1, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        cut_short,
        without_keys,
        of_another_task,
        with_keys_of_another_kind,
        with_metadata_of_another_kind,
    ],
)
def test_nothing_stays_of_an_abandoned_run_whose_files_are_damaged(changing, spoil):
    with changing.killer.prepared("fresh") as output:
        changing.kill(output, len(changing.killer.operations["fresh"]) // 2)
        set_aside(output)
        spoil(output / "train_detector.npz.earlier")
        check_that_nothing_stays(changing, output)
        expected = changing.killer.runs.published["new"]
        for name, content in published(output).items():
            assert name.endswith(".jsonl") or pixels(content) == pixels(expected[name])


def pixels(content):
    return np.load(io.BytesIO(content))["images"].tobytes()


def check_that_nothing_stays(changing, output):
    """A run of fewer files leaves only those and the processor's helper files."""
    DataProcessor(changing.raw, output, **OPTIONS).process_detector()
    left = {path.name for path in output.iterdir()} - BESIDE
    ends = (".npz", ".rejected.jsonl")
    expected = {f"{split}_detector{end}" for split in ("train", "val") for end in ends}
    assert left == {*expected, "train_detector.dropped.jsonl"}


@pytest.mark.parametrize("others", [False, True])
def test_what_a_killed_run_left_goes_where_its_files_are_up_to_date(changing, others):
    """And stays, to be continued, where it was making other files as well."""
    runs = changing.killer.runs
    with changing.killer.prepared("fresh") as output:
        changing.kill(output, len(changing.killer.operations["fresh"]) // 3)
        shutil.copytree(runs.output["new"], output, dirs_exist_ok=True)
        if others:
            (output / "val_teacher.npz").unlink()
            report = DataProcessor(changing.raw, output, **OPTIONS).process_detector()
        else:
            report = DataProcessor(changing.raw, output, **OPTIONS).process_all()
        assert report.up_to_date
        assert (output / JOURNAL).exists() == others
        assert bool(list(output.glob("*.partial"))) == others


def test_lists_of_files_that_were_never_published_go(changing):
    kinds = [(op.kind, op.name) for op in changing.killer.operations["fresh"]]
    with changing.killer.prepared("fresh") as output:
        changing.kill(output, kinds.index(("replace", "train_detector.npz.partial")) + 1)
        for kind in ("rejected", "dropped"):
            assert (output / f"train_teacher.{kind}.jsonl").exists()
        DataProcessor(changing.raw, output, **OPTIONS).process_detector()
        assert not list(output.glob("*_teacher.*.jsonl"))


@pytest.mark.parametrize(
    ("new", "old", "kept"),
    [
        (range(30), range(100), "old"),  # it had copied all it had
        (range(100), range(30), "new"),
        (range(100), range(100), "new"),
        ([*range(10), *range(200, 230)], range(100), "new"),  # of other options, but for a few
        ([*range(60), *range(200, 210)], range(100), "old"),  # a few were changed
        ([], range(100), "old"),
        ([1], [], "new"),
    ],
)
def test_of_two_killed_runs_the_one_is_kept_of_which_more_still_holds(new, old, kept):
    keys = [np.array(one, np.uint64) for one in (new, old)]
    assert _is_worth_more(*keys) == (kept == "new")
