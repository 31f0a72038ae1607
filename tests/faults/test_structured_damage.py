"""Files that contradict themselves: each kind is refused with its message, in bounded memory."""

import os
import pickle
import re
import zipfile

import numpy as np

from processing.npz.format import FORMAT_VERSION
from tests.faults.damage import look_apart
from tests.faults.lying_files import (
    appended,
    archive,
    bomb,
    both,
    described,
    edited,
    end_record,
    members,
    metadata,
    moved,
    npy,
    npy_of,
    objects,
    ours,
    overlap,
    patch,
    patch64,
    scribbled,
    sparse_end,
    streamed,
    twice,
    with_npy,
)  # fmt: skip
from tests.faults.tally import FalseAlarm

MOST_BYTES, MOST_SECONDS = 100 << 20, 5
HUGE = 1 << 40
SOUND = {
    "as written": ours(),
    "of numpy": lambda p: np.savez(p, **members()),
    "compressed": lambda p: np.savez_compressed(p, **members()),
    "trailing junk, others": lambda p: p.write_bytes(archive() + b"junk" * 100),
    "prefix junk, others": lambda p: p.write_bytes(b"#!/bin/sh\n" + archive()),
    "comment, others": lambda p: p.write_bytes(archive()[:-2] + b"\x05\x00hello"),
    "symlink": lambda p: moved(p, lambda path, target: path.symlink_to(target)),
    "absolute member name": lambda p: p.write_bytes(appended(archive(), "/etc/x.npy", npy([1]))),
    "parent member name": lambda p: p.write_bytes(
        archive({**{f"{n}.npy": npy(a) for n, a in members().items()}, "../../x.npy": npy([1])}, 8)
    ),
    "unicode member name": lambda p: p.write_bytes(appended(archive(), "ключ ü.npy", npy([1]))),
    "a member that is no array": lambda p: p.write_bytes(appended(archive(), "README", b"hello")),
    "zero rows": ours(
        images=np.zeros((0, 4, 6, 3), np.uint8),
        bboxes=np.zeros((0, 4), np.float32),
        bboxes_offsets=np.zeros(1, np.int64),
        image_paths=np.zeros(0, "U1"),
        image_crc32=np.zeros(0, np.uint32),
        source_rects=np.zeros((0, 4), np.float32),
        source_sizes=np.zeros((0, 2), np.int32),
    ),
    "fortran order": lambda p: np.savez(
        p, **members(images=np.asfortranarray(members()["images"]))
    ),
    "big-endian": lambda p: np.savez(
        p,
        **members(
            bboxes=members()["bboxes"].astype(">f8"), bboxes_offsets=np.array([0, 1, 1, 2], ">i4")
        ),
    ),
    "boxes as objects": lambda p: np.savez(
        p, **members(bboxes=objects([[0, 0, 1, 1]], [], [[1.5, 1, 2, 2]]), bboxes_offsets=None)
    ),
    "unsigned offsets": ours(bboxes_offsets=np.array([0, 1, 1, 2], np.uint64)),
    "streamed, sizes follow": lambda p: p.write_bytes(streamed()),
}


def raw(build):
    return lambda path: path.write_bytes(build())


ONE_OBJECT = pickle.dumps(np.array([1], object).reshape(()))
HEXADECIMAL = "{'descr': '<f4', 'fortran_order': False, 'shape': (0x" + "f" * 5000 + ", 4), }\n"

DAMAGED = {
    # Local header and directory contradict each other.
    "local name": (
        raw(lambda: patch(archive(), "bboxes", {"name": 99})),
        "no header of a member of that name",
    ),
    "central name": (
        raw(lambda: patch(archive(), "source_rects", central={"name": 99})),
        "no header of a member of that name",
    ),
    "local size": (
        raw(lambda: patch(archive(), "source_rects", {"size": 7})),
        "in the ZIP directory",
    ),
    "central size": (
        raw(lambda: patch(archive(), "source_rects", central={"size": 7})),
        "in the ZIP directory",
    ),
    "local packed": (
        raw(lambda: patch(archive(), "bboxes", {"packed": 7})),
        "in the ZIP directory",
    ),
    "central packed": (
        raw(lambda: patch(archive(), "bboxes", central={"packed": 7})),
        "in the ZIP directory",
    ),
    "local crc": (raw(lambda: patch(archive(), "bboxes", {"crc": 7})), "in the ZIP directory"),
    "central crc": (
        raw(lambda: patch(archive(), "bboxes", central={"crc": 7})),
        "in the ZIP directory",
    ),
    "local method": (
        raw(lambda: patch(archive(), "bboxes", {"method": 8})),
        "in the ZIP directory",
    ),
    "central method": (
        raw(lambda: patch(archive(), "bboxes", central={"method": 8})),
        "in the ZIP directory",
    ),
    "local flags": (raw(lambda: patch(archive(), "bboxes", {"flags": 8})), "in the ZIP directory"),
    "encrypted": (
        raw(lambda: both(archive(), "bboxes", flags=1)),
        "encrypted members are not read",
    ),
    "local name length": (
        raw(lambda: patch(archive(), "bboxes", {"name length": 60_000})),
        "no header of a member",
    ),
    "local extra length": (
        raw(lambda: patch(archive(), "metadata", {"extra length": 60_000})),
        "bytes short",
    ),
    "local extra length, inside": (
        raw(lambda: patch(archive(), "images", {"extra length": 8})),
        "ends at .* begins at",
    ),
    "comment length hides entries": (
        raw(lambda: patch(archive(), "bboxes", central={"comment length": 60_000})),
        "lists 2 members, 8 were written",
    ),
    "other entry count": (
        raw(lambda: end_record(archive(), entries=7)),
        "lists 8 members, 7 were written",
    ),
    "crc wrong in both": (
        raw(lambda: both(archive(), "bboxes", crc=7)),
        "member 'bboxes': CRC-32 is",
    ),
    "offset past the end": (
        raw(lambda: patch(archive(), "bboxes", central={"offset": 1 << 30})),
        "outside the file",
    ),
    "offset elsewhere": (
        raw(lambda: patch(archive(), "bboxes", central={"offset": 3})),
        "no header of a member",
    ),
    "size past the end": (
        raw(lambda: both(archive(), "metadata", size=1 << 20, packed=1 << 20)),
        "bytes short",
    ),
    "size of 2^31": (
        raw(lambda: both(archive(), "metadata", size=1 << 31, packed=1 << 31)),
        "bytes short",
    ),
    "size of 4 GB, no zip64": (
        raw(lambda: both(archive(), "metadata", size=0xFFFFFFFF, packed=0xFFFFFFFF)),
        "Corrupt|bytes short",
    ),
    "stored, two sizes": (raw(lambda: both(archive(), "bboxes", size=7)), "stored size"),
    "overlap": (raw(lambda: overlap(archive())), "no header of a member|ends at"),
    "two members over each other": (
        raw(lambda: both(archive(), "images", size=4000, packed=4000)),
        "ends at|bytes short",
    ),
    "duplicate member": (raw(lambda: twice(archive())), "'bboxes.npy' more than once"),
    "directory of 3 GB": (sparse_end(3 << 30), "its directory would have 3,221,225,472 bytes"),
    "directory of 100 MB": (sparse_end(100 << 20), "at most 4,194,304 are read"),
    "directory offset lies": (
        raw(lambda: end_record(archive(), offset=5)),
        "no header of a member|outside",
    ),
    # zip64
    "zip64 locator broken": (
        edited(ours(), lambda d: d.replace(b"PK\x06\x07", b"PK\x06\x09")),
        "not a complete NPZ",
    ),
    "zip64 end record broken": (
        edited(ours(), lambda d: d.replace(b"PK\x06\x06", b"PK\x06\x09")),
        "not a complete NPZ|member",
    ),
    "zip64 local size lies": (
        edited(ours(), lambda d: patch64(d, "bboxes", 0, HUGE)),
        "in the ZIP directory",
    ),
    "zip64 sizes of 1 TB": (
        edited(ours(), lambda d: patch64(d, "bboxes", 0, HUGE, central=True)),
        "in the ZIP directory",
    ),
    "zip64 offset lies": (
        edited(ours(), lambda d: patch64(d, "bboxes", 16, HUGE, central=True)),
        "outside the file",
    ),
    # Compressed
    "damaged stream": (
        raw(lambda: scribbled(archive(method=zipfile.ZIP_DEFLATED), "bboxes")),
        "member 'bboxes.npy': (damaged|cannot be)",
    ),
    "bzip2": (
        raw(lambda: archive(method=zipfile.ZIP_BZIP2)),
        "ZIP method 12; only stored and deflated",
    ),
    "lzma": (
        raw(lambda: archive(method=zipfile.ZIP_LZMA)),
        "ZIP method 14; only stored and deflated",
    ),
    "unknown method": (raw(lambda: both(archive(), "bboxes", method=99)), "ZIP method 99"),
    "bomb": (bomb(200 << 20), "decompression bomb"),
    "bomb of 4 GB": (bomb(10 << 30), "decompression bomb"),
    "bomb that claims little": (bomb(1000), "damaged|header"),
    "deflated, empty": (
        raw(lambda: with_npy("bboxes", b"", zipfile.ZIP_DEFLATED)),
        "the member is empty",
    ),
    # npy headers
    "shape too large": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (9, 4)), bytes(32)))),
        "header promises float32",
    ),
    "shape too small": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (1, 4)), bytes(32)))),
        "header promises float32",
    ),
    "negative shape": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (-2, 4)), bytes(32)))),
        "no shape",
    ),
    "shape beyond int64": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (1 << 62, 4)), bytes(32)))),
        "header promises",
    ),
    "shape of true": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (True, 4)), bytes(16)))),
        "no shape",
    ),
    "shape of 70 dimensions": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (1,) * 70), bytes(4)))),
        "no shape",
    ),
    "shape of nothing, too long": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (0, 1 << 70))))),
        "no shape",
    ),
    "shape of nothing, not too long": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (0, *[(1 << 62)] * 8))))),
        "no array has the shape",
    ),
    "shape of 5,000 digits": (
        raw(lambda: with_npy("bboxes", npy_of(HEXADECIMAL))),
        "bboxes.*no shape",
    ),
    "one object for all rows": (
        raw(
            lambda: with_npy(
                "bboxes",
                npy_of(described("|O", ()), pickle.dumps(np.array([1], object).reshape(()))),
            )
        ),
        "bboxes.*expected a list a row, found one object",
    ),
    "shape no tuple": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", 8), bytes(32)))),
        "shape is not valid",
    ),
    "dtype of another size": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f8", (2, 4)), bytes(32)))),
        "header promises float64",
    ),
    "dtype unknown": (
        raw(lambda: with_npy("bboxes", npy_of(described("<q9", (2, 4)), bytes(32)))),
        "npy header cannot be read",
    ),
    "dtype of objects, no pickle": (
        raw(lambda: with_npy("bboxes", npy_of(described("|O", (3,)), bytes(32)))),
        "object array is damaged|UnsafePickleError",
    ),
    "dtype with object field": (
        raw(lambda: with_npy("bboxes", npy_of(described([("a", "|O")], (3,)), bytes(24)))),
        "object fields",
    ),
    "structured dtype": (
        raw(lambda: with_npy("bboxes", npy(np.zeros(2, [("a", "<f4"), ("b", "<f4")])))),
        "expected numbers",
    ),
    "complex": (
        raw(lambda: with_npy("bboxes", npy(np.zeros((2, 4), complex)))),
        "expected numbers",
    ),
    "0-d images": (raw(lambda: with_npy("images", npy(np.uint8(3)))), "'images': expected numbers"),
    "huge header": (
        raw(lambda: with_npy("bboxes", npy_of(described("<f4", (2, 4)) + " " * 50_000, bytes(32)))),
        "npy header cannot be read",
    ),
    "huge header, version 2": (
        raw(
            lambda: with_npy(
                "bboxes", npy_of(described("<f4", (2, 4)) + " " * 200_000, bytes(32), 2)
            )
        ),
        "npy header cannot be read",
    ),
    "nested header": (
        raw(lambda: with_npy("bboxes", npy_of("-" * 9000 + "1", bytes(32)))),
        "npy header cannot be read",
    ),
    "header of brackets": (
        raw(lambda: with_npy("bboxes", npy_of("(" * 9000, bytes(32)))),
        "npy header cannot be read",
    ),
    "unknown npy version": (
        raw(lambda: with_npy("bboxes", b"\x93NUMPY\x09\x00" + bytes(50))),
        "npy header cannot be read",
    ),
    "rows without bytes": (
        raw(lambda: archive(images=np.zeros((10**9, 0, 4, 3), np.uint8))),
        "'images': expected numbers",
    ),
    "boxes without bytes": (
        raw(lambda: archive(bboxes=np.zeros((10**9, 0, 4), np.float32), bboxes_offsets=None)),
        "'bboxes': expected",
    ),
    # Content
    "empty archive": (raw(lambda: archive({"x": b""})), "has no member 'images'"),
    "no members": (raw(lambda: b"PK\x05\x06" + bytes(18)), "has no member 'images'"),
    "missing images": (raw(lambda: archive(images=None)), "has no member 'images'"),
    "missing boxes": (raw(lambda: archive(bboxes=None)), "has no member 'bboxes'"),
    "missing paths": (raw(lambda: archive(image_paths=None)), "has no member 'image_paths'"),
    "missing offsets": (
        raw(lambda: archive(bboxes_offsets=None)),
        "its members .* those of a teacher|differ in length",
    ),
    "newer version": (
        raw(lambda: archive(metadata=metadata(format_version=FORMAT_VERSION + 1))),
        "has format version 3",
    ),
    "version no number": (
        raw(lambda: archive(metadata=metadata(format_version="x"))),
        "has format version 'x'",
    ),
    "metadata not JSON": (raw(lambda: archive(metadata=np.array("{"))), "'metadata': not JSON"),
    "metadata no object": (
        raw(lambda: archive(metadata=np.array("[1]"))),
        "a JSON object is expected",
    ),
    "metadata nested": (
        raw(lambda: archive(metadata=np.array("[" * 100_000))),
        "'metadata': not JSON",
    ),
    "metadata huge": (
        raw(lambda: archive(metadata=np.array(" " * (5 << 20)))),
        "'metadata': has 20,971,520 bytes",
    ),
    "metadata no characters": (
        raw(
            lambda: archive(metadata=np.array([0x7FFFFFFF] * 4, "<u4").view("<U4")[0:1].reshape(()))
        ),
        "'metadata': not JSON",
    ),
    "categories no list": (
        raw(lambda: archive(metadata=metadata(category_names=3))),
        "category_names: a list of names",
    ),
    "metadata of another size": (
        raw(lambda: archive(metadata=metadata(image_size=[5, 5]))),
        r"image_size is \[5, 5\], the images have \[4, 6\]",
    ),
    "metadata with height and width swapped": (
        raw(lambda: archive(metadata=metadata(image_size=[6, 4]))),
        r"image_size is \[6, 4\], the images have \[4, 6\]",
    ),
    "metadata of other rows": (
        raw(lambda: archive(metadata=metadata(counts={"rows": 9}))),
        "counts.rows is 9, there are 3 images",
    ),
    "offsets fall": (
        raw(lambda: archive(bboxes_offsets=np.array([0, 2, 1, 2]))),
        "'bboxes': offsets fall from 2 to 1 at row 1",
    ),
    "unsigned offsets fall": (
        raw(lambda: archive(bboxes_offsets=np.array([0, 2, 1, 2], np.uint64))),
        "offsets fall from 2 to 1 at row 1",
    ),
    "offsets leave the values": (
        raw(lambda: archive(bboxes_offsets=np.array([0, 1, 1, 9]))),
        "do not run from 0 to the 2 values",
    ),
    "offsets too few": (
        raw(lambda: archive(bboxes_offsets=np.array([0, 2]))),
        "members differ in length",
    ),
    "lengths differ": (
        raw(lambda: archive(image_paths=np.array(["a", "b"]))),
        "members differ in length",
    ),
    "checksums no numbers": (
        raw(lambda: archive(image_crc32=np.array(["a"] * 3))),
        "'image_crc32': expected numbers",
    ),
    "checksums in pairs": (
        raw(lambda: archive(image_crc32=np.zeros((3, 2), np.uint32))),
        "'image_crc32': expected numbers",
    ),
    "checksum wrong": (
        raw(lambda: archive(image_crc32=np.zeros(3, np.uint32))),
        r"'images', row 0 \(a.jpg\): CRC-32 is",
    ),
    "rects in pairs": (
        raw(lambda: archive(source_rects=np.zeros((3, 2), np.float32))),
        "'source_rects': expected numbers",
    ),
    "paths no characters": (
        raw(lambda: archive(image_paths=np.array([97, 98, 0x7FFFFFFF], "<u4").view("<U1"))),
        "'image_paths', row 2: not text",
    ),
    "paths are numbers": (
        raw(lambda: archive(image_paths=np.arange(3))),
        "'image_paths': expected text",
    ),
    "box not finite": (
        raw(lambda: archive(bboxes=np.float32([[0, 0, 1, 1], [0, np.nan, 1, 1]]))),
        "'bboxes', row 2: .*is not finite",
    ),
    "box beyond the right edge": (
        raw(lambda: archive(bboxes=np.float32([[0, 0, 1, 1], [0, 0, 7, 1]]))),
        "'bboxes', row 2: .*is no box inside its image",
    ),
    "box beyond the lower edge": (
        raw(lambda: archive(bboxes=np.float32([[0, 0, 1, 1], [0, 0, 1, 5]]))),
        "'bboxes', row 2: .*is no box inside its image",
    ),
    "box inverted": (
        raw(lambda: archive(bboxes=np.float32([[2, 0, 1, 1], [0, 0, 3, 1]]))),
        "'bboxes', row 0: .*is no box inside its image",
    ),
    "label of no category": (
        raw(lambda: archive(labels=np.int32([0, 1]), labels_offsets=np.array([0, 1, 1, 2]))),
        "'labels', row 2: 1 is no position in category_names",
    ),
    # Changes to a file of ours after it was written
    "trailing junk": (edited(ours(), lambda d: d + b"junk"), "something was appended"),
    "prefix junk": (
        edited(ours(), lambda d: b"HTTP/1.1 200 OK\r\n\r\n" + d),
        "header of member 'images.npy', byte 0",
    ),
    "prefix junk of a page": (
        edited(ours(), lambda d: bytes(4096) + d),
        "not a complete NPZ|was changed|header",
    ),
    "comment": (
        edited(ours(), lambda d: d[:-2] + b"\x05\x00hello"),
        "the ZIP directory, byte .* was written",
    ),
    "member added": (
        edited(ours(), lambda d: appended(d, "x.npy", npy([1]))),
        "was changed after it was written",
    ),
    "padding": (
        edited(ours(), lambda d: d[:200] + b"x" + d[201:]),
        "header of member 'images.npy', byte 200",
    ),
    # No file
    "missing": (lambda p: None, "FileNotFoundError: .*there is no such file"),
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "directory": (lambda p: p.mkdir(), "not a file"),
    "fifo": (lambda p: os.mkfifo(p), "not a file"),
    "symlink loop": (lambda p: p.symlink_to(p), "no such file|symbolic links"),
    "text": (lambda p: p.write_text("<html>404</html>"), "begins with b'<htm'"),
    "one array": (lambda p: p.write_bytes(npy([1, 2])), "begins with b'.x93NUM'"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps([1, 2])), "begins with"),
}


def within_bounds(path):
    said, used_bytes, seconds = look_apart(path)
    assert used_bytes < MOST_BYTES, f"{used_bytes >> 20} MiB"
    assert seconds < MOST_SECONDS, f"{seconds} s"
    return said


def test_files_that_lie_are_refused_by_name(tally, tmp_path):
    def check(case):
        build, expected = DAMAGED[case]
        path = tmp_path / re.sub(r"\W", "_", case) / "a.npz"
        path.parent.mkdir()
        build(path)
        said = within_bounds(path)
        assert re.search(expected, said), said
        assert str(path) in said, said
        assert sum(file.stat().st_size for file in path.parent.rglob("*.npy")) < 1 << 20
        return "detected"

    tally.points = len(DAMAGED)
    tally.each(DAMAGED, check)


def test_unusual_files_that_are_sound_raise_no_alarm(tally, tmp_path):
    def check(case):
        path = tmp_path / re.sub(r"\W", "_", case) / "a.npz"
        path.parent.mkdir()
        SOUND[case](path)
        said = within_bounds(path)
        if said != "sound":
            raise FalseAlarm(said)
        assert not list(tmp_path.glob("*.npy")), "a member's name left the directory"
        return "unaffected"

    tally.points = len(SOUND)
    tally.each(SOUND, check)
