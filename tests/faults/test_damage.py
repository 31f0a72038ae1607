"""Files cut at every length, with every bit flipped, and with damage typical of disks."""

import random
import shutil
import struct
import zipfile

import numpy as np
import pytest

from processing.data_processor import DataProcessor
from processing.npz.mapped import MappedNPZ
from tests.conftest import write_coco
from tests.faults.damage import damage, judge_all, look_apart
from tests.faults.tally import FalseAlarm

TASKS = ("detector", "landmarker", "teacher")
STORES = ("jpeg", "original")
SEED = 20261123


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns the smallest file that a run makes, and a larger one for each task."""
    root = tmp_path_factory.mktemp("damage")
    for name, images, sizes in (
        ("small", 3, {task: [4, 6] for task in TASKS}),
        ("large", 40, {"detector": [56, 72], "landmarker": [56, 40], "teacher": [40, 56]}),
    ):
        write_coco(root / name, images=images)
        DataProcessor(
            root / name, root / f"{name}_out", image_size=sizes, num_workers=2, progress=False
        ).process_all(1.0)
    small = root / "small_out" / "train_detector.npz"
    found = {task: root / "large_out" / f"train_{task}.npz" for task in TASKS}
    for store in STORES:
        options = {"image_size": [4, 6], "num_workers": 2, "progress": False, "store": store}
        DataProcessor(root / "small", root / store, **options).process_detector(1.0)
        found[store] = root / store / "train_detector.npz"
    return {"small": small, **found}


def flips(path):
    """Yields a case per bit. Of the zeros in gaps, only one in eight is tested the slow way."""
    start, gap = 0, set()
    npz = MappedNPZ(path)
    for name in npz:
        _, data = npz.location(name)
        header = data - len(npz.member_bytes(name)) + npz[name].nbytes
        gap.update(range(start + len(path.read_bytes()[start:header].rstrip(b"\0")), header))
        start = data + npz[name].nbytes
    assert len(gap) > 30_000
    for bit in range(8 * path.stat().st_size):
        yield f"gap {bit}" if bit // 8 in gap and bit % 8 else f"flip {bit}"


def test_some_bits_of_a_small_file_flipped(files, tally):
    tally.points, tally.seed = 8 * files["small"].stat().st_size, SEED
    cases = random.Random(SEED).sample(list(flips(files["small"])), 1000)
    assert not judge_all(tally, files["small"], cases)


@pytest.mark.long
def test_every_bit_of_a_small_file_flipped(files, tally):
    cases = list(flips(files["small"]))
    tally.points = len(cases)
    assert not judge_all(tally, files["small"], cases)


def random_flips(path, count):
    return [
        f"flip {bit}" for bit in random.Random(SEED).sample(range(8 * path.stat().st_size), count)
    ]


@pytest.mark.parametrize("name", [*TASKS, *STORES])
def test_some_bits_of_a_larger_file_flipped(files, tally, name):
    tally.points, tally.seed = 8 * files[name].stat().st_size, SEED
    assert not judge_all(tally, files[name], random_flips(files[name], 300))


@pytest.mark.long
@pytest.mark.parametrize("store", STORES)
def test_every_bit_of_a_file_of_encoded_images_flipped(files, tally, store):
    cases = list(flips(files[store]))
    tally.points = len(cases)
    assert not judge_all(tally, files[store], cases)


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_100_000_bits_of_larger_files_flipped(files, tally, task):
    tally.points, tally.seed = 8 * files[task].stat().st_size, SEED
    assert not judge_all(tally, files[task], random_flips(files[task], 33_400))


@pytest.mark.long
def test_every_length_of_a_small_file(files, tally):
    tally.points = files["small"].stat().st_size
    assert not judge_all(tally, files["small"], [f"cut {n}" for n in range(tally.points)])


@pytest.mark.parametrize("task", TASKS)
def test_a_larger_file_cut_at_1_000_random_lengths(files, tally, task):
    tally.points, tally.seed = files[task].stat().st_size, SEED
    lengths = random.Random(SEED).sample(range(tally.points), 1000)
    assert not judge_all(tally, files[task], [f"cut {length}" for length in lengths])


def blocks(path, count):
    """Returns typical damage of disks, copies and editors: sectors lost, swapped or shifted."""
    chance, size = random.Random(SEED), path.stat().st_size
    for i in range(count):
        start = chance.randrange(size)
        block = start // 512 * 512
        length = chance.choice([1, 2, 7, 512, 4096, 65_536])
        yield from (
            f"zero {block} {length}",
            f"noise {start} {length} {i}",
            f"copy {chance.randrange(size)} {block} {length}",
            f"insert {start} {length}",
            f"remove {start} {length}",
        )


@pytest.mark.parametrize("task", [*TASKS, *STORES])
@pytest.mark.parametrize(
    "count", [pytest.param(30, id="some"), pytest.param(600, id="many", marks=pytest.mark.long)]
)
def test_blocks_lost_mixed_up_and_shifted(files, tally, task, count):
    tally.points, tally.seed = files[task].stat().st_size, SEED
    cases = sorted(set(blocks(files[task], count)))
    unaffected = judge_all(tally, files[task], cases)
    sound = files[task].read_bytes()
    for case in unaffected:  # zeros over zeros, or a block over an equal one
        start, changed, length = damage(sound, *case.split())
        assert length == len(sound), case
        assert changed == sound[start : start + len(changed)], case


@pytest.fixture(scope="module")
def saved(files, tmp_path_factory):
    """Writes files with `np.savez`: only members have checksums, and some bytes are never read."""
    directory = tmp_path_factory.mktemp("others")
    with np.load(files["small"]) as members:
        own = {name: members[name] for name in members if name != "image_crc32"}
    np.savez(directory / "stored.npz", **own)
    np.savez_compressed(directory / "deflated.npz", **own)
    return directory


@pytest.mark.parametrize("kind", ["stored", "deflated"])
@pytest.mark.parametrize(
    "step", [pytest.param(29, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)]
)
def test_of_others_only_bytes_that_carry_nothing_can_change_unseen(saved, tally, kind, step):
    path = saved / f"{kind}.npz"
    tally.points = 8 * path.stat().st_size
    unaffected = judge_all(tally, path, [f"flip {bit}" for bit in range(0, tally.points, step)])
    fields = zip_fields(path)
    seen = {fields.get(int(case.split()[1]) // 8, case) for case in unaffected}
    assert seen <= {"version", "date", "attributes", "disk", "extra", "lengths", "packed"}


def zip_fields(path):
    """Returns, by position, the fields that can change without changing any array."""
    data, fields = path.read_bytes(), {}

    def note(start, stop, name):
        fields.update(dict.fromkeys(range(start, stop), name))

    with zipfile.ZipFile(path) as archive:
        position = archive.start_dir
        for info in archive.infolist():
            local = info.header_offset
            name, extra = struct.unpack_from("<2H", data, local + 26)
            note(local + 4, local + 6, "version")
            note(local + 10, local + 14, "date")
            note(local + 30 + name, local + 30 + name + extra, "extra")
            if info.compress_type == zipfile.ZIP_DEFLATED:  # different streams, the same data
                data_start = local + 30 + name + extra
                note(data_start, data_start + info.compress_size, "packed")
            note(position + 4, position + 8, "version")
            note(position + 12, position + 16, "date")
            note(position + 34, position + 36, "disk")
            note(position + 36, position + 42, "attributes")
            entry, position = (
                position,
                position + 46 + sum(struct.unpack_from("<3H", data, position + 28)),
            )
        # Lengths of name, extra field and comment of the last entry.
        note(entry + 28, entry + 34, "lengths")
        note(position + 4, position + 10, "disk")  # numbers of disks, and entries on this one
        note(position + 20, position + 22, "extra")  # length of a comment
    return fields


@pytest.mark.parametrize("task", TASKS)
def test_a_sound_file_raises_no_alarm(files, tally, task):
    """Tries a file of ours as written, copied and renamed."""
    directory = files[task].parent
    copy = shutil.copy(files[task], directory / f"ü {task}.npz")

    def check(name):
        said = look_apart(directory / name)[0]
        if said != "sound":
            raise FalseAlarm(said)
        return "unaffected"

    tally.points = 2
    tally.each([files[task].name, copy.name], check)
