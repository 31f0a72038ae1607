"""Arrays of every kind, layout and byte order: our reader agrees with `np.load`."""

import contextlib
import itertools
import zipfile

import numpy as np

from processing.npz.mapped import MappedNPZ
from processing.npz.writer import NPZWriter

KINDS = (
    "?",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "U7",
    "S5",
)
LAYOUTS = {
    "empty": lambda a: a[:0],
    "0-d": lambda a: a[0, 0, 0],
    "1-d": lambda a: a.ravel(),
    "C": lambda a: a,
    "F": np.asfortranarray,
    "strided": lambda a: a[::2, 1:, ::-1],
}


class Case:
    """One array."""

    def __init__(self, kind, order, layout):
        self.name = f"{order}{kind} {layout}"
        numbers = np.random.default_rng(0).integers(0, 120, (4, 3, 5))
        self.array = np.asarray(LAYOUTS[layout](numbers.astype(f"{order}{kind}")))

    def __str__(self):
        return self.name


CASES = [Case(*case) for case in itertools.product(KINDS, "<>", LAYOUTS)]


def is_equal(found, expected):
    return (found.dtype, found.shape, found.tobytes()) == (
        expected.dtype,
        expected.shape,
        expected.tobytes(),
    )


def test_arrays_that_numpy_writes_are_read_as_numpy_reads_them(tally, tmp_path):
    def check(case):
        for save in (np.savez, np.savez_compressed):
            path = tmp_path / f"{CASES.index(case)}.{save.__name__}.npz"
            save(path, x=case.array)
            npz = MappedNPZ(path)
            npz.verify("x")
            with np.load(path) as expected:
                assert is_equal(npz["x"], expected["x"])
                assert npz["x"].flags.f_contiguous == expected["x"].flags.f_contiguous
        return "unaffected"

    tally.points = len(CASES)
    tally.each(CASES, check)


def test_arrays_that_we_write_are_read_by_both_and_by_zip(tally, tmp_path):
    def check(case):
        path = tmp_path / "a.npz"
        path.unlink(missing_ok=True)
        with contextlib.closing(NPZWriter(path)) as writer:
            writer.write("x", case.array)
            writer.finish()
        with np.load(path) as expected, zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert is_equal(expected["x"], case.array)
        npz = MappedNPZ(path)
        npz.verify("x")
        npz.verify_layout()
        assert is_equal(npz["x"], case.array)
        return "unaffected"

    tally.points = len(CASES)
    tally.each(CASES, check)
