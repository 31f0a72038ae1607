"""Files that are truncated, replaced or removed while open: an error names them, or reads work."""

import os
import shutil

import numpy as np
import pytest

from processing.core.errors import NPZFormatError
from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import LazyNPZDataset
from tests.faults.damage import sent_by
from tests.faults.lying_files import ours

ROWS = 64


@pytest.fixture
def path(tmp_path):
    """Writes a file of 64 rows of 48 KB: so many pages that those after a cut are really gone."""
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 128, 128, 3), dtype=np.uint8)
    ours(
        images=images,
        bboxes=np.float32([[0, 0, 9, 9]] * ROWS),
        bboxes_offsets=np.arange(ROWS + 1),
        image_paths=np.array([f"{i}.jpg" for i in range(ROWS)]),
        image_crc32=None,
        source_rects=np.float32([[0, 0, 8, 8]] * ROWS),
        source_sizes=np.int32([[8, 8]] * ROWS),
    )(tmp_path / "live.npz")
    return tmp_path / "live.npz"


def cut_to_nothing(path):
    os.truncate(path, 0)


def cut_to_a_page(path):
    os.truncate(path, 4096)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_by_a_byte(path):
    os.truncate(path, path.stat().st_size - 1)


def rewritten_shorter(path):
    path.write_bytes(b"PK\x05\x06" + bytes(18))


def removed(path):
    path.unlink()


def replaced(path):
    shutil.copy(path, path.with_name("other"))
    os.truncate(path.with_name("other"), 5000)
    path.with_name("other").replace(path)


def grown(path):
    with path.open("ab") as file:
        file.write(b"more")


SHRINKS = (cut_to_nothing, cut_to_a_page, cut_in_half, cut_by_a_byte, rewritten_shorter)
KEEPS = (removed, replaced, grown)


def one(dataset):
    return dataset[ROWS - 1]["image"].tobytes()


def batch(dataset):
    return dataset.get_batch(range(ROWS))["images"].tobytes()


def loaded(dataset):
    return b"".join(b["image"].numpy().tobytes() for b in BatchLoader(dataset, 16, num_workers=2))


def verified(dataset):
    dataset.verify()
    return b"verified"


def pickled(dataset):
    state = dataset.__getstate__()
    other = object.__new__(LazyNPZDataset)
    other.__setstate__(state)
    return other[0]["image"].tobytes()


READS = (one, batch, loaded, verified)


def _read_while(path, happens, read, sender):
    """Runs in a process of its own, because reading a missing page kills the process."""
    with LazyNPZDataset(path) as dataset:
        before = read(dataset)
        happens(path)
        try:
            sender.send("equal" if read(dataset) == before else "other bytes")
        except NPZFormatError as error:
            sender.send(str(error))


class Case:
    def __init__(self, happens, read):
        self.happens, self.read = happens, read

    def __str__(self):
        return f"{self.happens.__name__} before {self.read.__name__}"


def test_a_file_that_shrinks_is_an_error_and_one_that_is_replaced_stays(path, tally):
    sound = path.read_bytes()

    def check(case):
        path.unlink(missing_ok=True)
        path.write_bytes(sound)
        said = sent_by(_read_while, path, case.happens, case.read)
        if case.happens in KEEPS and (case.read is not verified or case.happens is not grown):
            assert said == "equal"
            return "unaffected"
        assert str(path) in said, said
        assert "it was cut while in use" in said or "appended" in said
        return "detected"

    cases = [Case(happens, read) for happens in (*SHRINKS, *KEEPS) for read in READS]
    tally.points = len(cases)
    tally.each(cases, check)


@pytest.mark.parametrize("happens", [removed, replaced, cut_in_half])
def test_a_dataset_that_travels_to_another_process_does_not_meet_another_file(path, happens):
    dataset = LazyNPZDataset(path)
    happens(path)
    with pytest.raises((NPZFormatError, FileNotFoundError), match=r"live\.npz"):
        pickled(dataset)


def test_a_file_opened_while_it_is_written_is_refused_until_it_is_whole(path, tally):
    sound, partial = path.read_bytes(), path.with_name("growing.npz")

    def check(length):
        partial.write_bytes(sound[:length])
        with pytest.raises(NPZFormatError, match=r"growing\.npz"):
            LazyNPZDataset(partial)
        return "detected"

    lengths = range(0, len(sound), len(sound) // 50)
    tally.points = len(lengths)
    tally.each(lengths, check)
    partial.write_bytes(sound)
    LazyNPZDataset(partial).verify()
