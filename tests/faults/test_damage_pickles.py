"""Object arrays that try to run code or to exhaust memory: nothing runs, the file is named."""

import os
import pickle
import struct
import subprocess
import sys

import numpy as np

from processing.core.errors import NPZFormatError, UnsafePickleError
from tests.faults.damage import look_apart
from tests.faults.lying_files import described, npy_of, with_npy
from tests.faults.tally import FalseAlarm

MOST_BYTES, MOST_SECONDS = 100 << 20, 5


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def calling(function, argument):
    """Returns a pickle that asks for a call of the function."""

    class Hostile:
        def __reduce__(self):
            return function, (argument,)

    return pickle.dumps([Hostile()])


def array_of(pickled_state):
    """Returns a pickled array, as numpy writes it, with another state."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
        + pickled_state
        + b"b."
    )


def calls(mark):
    """Returns pickles by name that create the file `mark` by each opcode that calls something."""
    command = f"touch {mark}"
    name = text(command)
    arguments = b"(l" + text("touch") + b"a" + text(str(mark)) + b"a"
    opened = text(str(mark)) + text("w")
    code = text(f"open({str(mark)!r}, 'w')")
    return {
        "REDUCE of os.system": b"cos\nsystem\n(" + name + b"tR.",
        "REDUCE of posix.system": b"cposix\nsystem\n(" + name + b"tR.",
        "REDUCE of subprocess": b"csubprocess\ncall\n(" + arguments + b"tR.",
        "REDUCE of builtins.eval": b"cbuiltins\neval\n(" + code + b"tR.",
        "REDUCE of builtins.exec": b"cbuiltins\nexec\n(" + code + b"tR.",
        "REDUCE of open": b"cbuiltins\nopen\n(" + opened + b"tR.",
        "REDUCE, protocol 4": calling(os.system, command),
        "STACK_GLOBAL": b"\x80\x04" + text("os") + text("system") + b"\x93(" + name + b"tR.",
        "STACK_GLOBAL with dots": (
            b"\x80\x04" + text("numpy") + text("testing.os.system") + b"\x93(" + name + b"tR."
        ),
        "INST": b"(" + name + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + name + b"o.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + arguments + b"\x85\x81.",
        "NEWOBJ_EX": (b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93(l\x85}\x92."),
        "BUILD with __setstate__": (
            b"cnumpy\ndtype\n("
            + text("O8")
            + b"tR}"
            + text("__setstate__")
            + b"cos\nsystem\nsb"
            + name
            + b"b."
        ),
    }


def disguised_calls(mark):
    """Returns pickles by name that create the file `mark`, or forge an object, in odder ways."""
    name = text(f"touch {mark}")
    at_mark = text(str(mark))
    return {
        "BUILD of a stand-in's attributes": (
            b"cnumpy.core.multiarray\n_reconstruct\n(I1\ntRN}" + text("restore") + b"I1\ns\x86b."
        ),
        "BUILD of a class": b"cnumpy\ndtype\n}" + text("restore") + b"I1\nsb.",
        "nested in an array's payload": array_of(
            b"(I1\n(I1\ntcnumpy\ndtype\n(VO8\nI0\nI1\ntRI00\n(lcos\nsystem\n(" + name + b"tRat"
        ),
        "nested in an array's dtype": array_of(
            b"(I1\n(I1\ntcos\nsystem\n(" + name + b"tRI00\n(lI1\nat"
        ),
        "copyreg": b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
        "copyreg.add_extension": (
            b"ccopyreg\nadd_extension\n(Vos\nVsystem\nI1\ntR\x82\x01(" + name + b"tR."
        ),
        "extension code": b"\x80\x02\x82\x01(" + name + b"tR.",
        "extension code of 4 bytes": b"\x80\x02\x84\x01\x00\x00\x00(" + name + b"tR.",
        "memo": b"cos\nsystem\np0\n0g0\n(" + name + b"tR.",
        "getattr chain": (
            b"cbuiltins\ngetattr\n(cos\npath\n"
            + text("os")
            + b"tRp0\n0cbuiltins\ngetattr\n(g0\n"
            + text("system")
            + b"tR("
            + name
            + b"tR."
        ),
        "operator.attrgetter": (
            b"coperator\nattrgetter\n(" + text("system") + b"tR(cos\npath\ntR."
        ),
        "functools.partial": b"cfunctools\npartial\n(cos\nsystem\n" + name + b"tR(tR.",
        "persistent id": b"Pos.system\n.",
        "binary persistent id": name + b"Q.",
        "numpy.load": b"cnumpy\nload\n(" + at_mark + b"NI01\ntR.",
        "numpy.memmap writes": (
            b"cnumpy\nmemmap\n(" + at_mark + text("u1") + text("w+") + b"I0\nI9\ntR."
        ),
        "a dictionary": b"(d" + name + b"cos\nsystem\ns.",
        "a set": b"\x80\x04\x8f(" + name + b"\x90.",
        "a buffer of another": b"\x80\x05\x97.",
    }


LAUGHS = b"(lp0\nI1\nag0\na" + b"".join(
    f"(lp{i}\ng{i - 1}\nag{i - 1}\na".encode() for i in range(1, 40)
)
COSTLY = {
    "numpy.ndarray itself": b"cnumpy\nndarray\n((I99999999999\ntI8\ntR.",
    "BINBYTES8 of 2^62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "BINBYTES8 of 8 GB": b"\x80\x04\x8e" + struct.pack("<Q", 8 << 30) + b"x.",
    "BINUNICODE8 of 8 GB": b"\x80\x04\x8d" + struct.pack("<Q", 8 << 30) + b"x.",
    "BYTEARRAY8 of 8 GB": b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"x.",
    "BINBYTES of 4 GB": b"\x80\x03B" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
    "FRAME of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "LONG4 of 2 GB": b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"x.",
    "LONG of a million digits": b"L" + b"9" * 10**6 + b"L\n.",
    "lists in lists": b"(l" * 100_000 + b"a" * 99_999 + b".",
    "tuples in tuples": b"N" + b"\x85" * 100_000 + b".",
    "a list in itself": b"(lp0\ng0\na.",
    "billion laughs": LAUGHS + b".",
    "marks": b"(" * 100_000 + b".",
    "an empty stack": b"R.",
    "dtype of 1 GB": array_of(b"(I1\n(I1\ntcnumpy\ndtype\n(VU250000000\nI0\nI1\ntRI00\nC\x04aaaat"),
    "shape beyond the payload": array_of(
        b"(I1\n(I99999999999\ntcnumpy\ndtype\n(Vf8\nI0\nI1\ntRI00\nC\x08aaaaaaaat"
    ),
    "pointers as bytes": array_of(b"(I1\n(I1\ntcnumpy\ndtype\n(VO8\nI0\nI1\ntRI00\nC\x08aaaaaaaat"),
}
"""Pickles by name that take memory or depth, or hold less than they promise."""

MEMO_TABLES = {
    "memo table of 16 GB": b"Nr" + struct.pack("<I", 0x3FFFFFFF) + b".",
    "memo table of 16 GB, as text": b"Np1073741823\n.",
}


def test_hostile_pickles_run_nothing_and_take_nothing(tally, tmp_path):
    mark = tmp_path / "ran"
    unsafe = calls(mark) | disguised_calls(mark) | MEMO_TABLES
    cases = unsafe | COSTLY
    path = tmp_path / "hostile.npz"

    def check(case):
        path.write_bytes(with_npy("bboxes", npy_of(described("|O", (1,)), cases[case])))
        said, used_bytes, seconds = look_apart(path)
        assert not mark.exists()
        expected = UnsafePickleError if case in unsafe else NPZFormatError
        assert said.startswith(f"{expected.__name__}: {path}: member 'bboxes'"), said
        assert used_bytes < MOST_BYTES, f"{used_bytes >> 20} MiB"
        assert seconds < MOST_SECONDS, f"{seconds} s"
        return "detected"

    tally.points = len(cases)
    tally.each(cases, check)


def test_pickle_itself_would_have_run_them(tmp_path):
    # Otherwise the cases above would prove nothing.
    mark, ran = tmp_path / "ran", 0
    for pickled in (calls(mark) | disguised_calls(mark)).values():
        program = f"import pickle, copyreg; pickle.loads({pickled!r})"
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        ran += mark.exists()
        mark.unlink(missing_ok=True)
    assert ran >= 15


def test_what_old_files_hold_is_still_read(tally, tmp_path):
    rows = np.empty(3, object)
    rows[:] = [[[0.0, 0, 1, 1]], [], [[1, 1, 2, 2], [0, 0, 4, 4]]]
    arrays = np.empty(3, object)
    arrays[:] = [np.float32([[0, 0, 1, 1]]), np.zeros((0, 4)), np.ones((2, 4), ">f8")]

    def check(case):
        which, protocol = case.split()
        pickled = pickle.dumps({"lists": rows, "arrays": arrays}[which], protocol=int(protocol))
        path = tmp_path / f"{case}.npz"
        data = with_npy("bboxes", npy_of(described("|O", (3,)), pickled))
        path.write_bytes(data.replace(b"bboxes_offsets", b"bboxes_offsetz"))
        said = look_apart(path)[0]
        if said != "sound":
            raise FalseAlarm(said)
        return "unaffected"

    cases = [f"{which} {protocol}" for which in ("lists", "arrays") for protocol in (3, 4)]
    tally.points = len(cases)
    tally.each(cases, check)
