"""Builds NPZ files that contradict themselves or are unusual."""

import contextlib
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest

from processing.npz.format import FORMAT_VERSION
from processing.npz.writer import NPZWriter

ROWS = 3


def members(**changed):
    """Members of a detector file with images 4 high, 6 wide; `changed` replaces, None removes."""
    images = np.arange(ROWS * 4 * 6 * 3, dtype=np.uint8).reshape(ROWS, 4, 6, 3)
    metadata = {"format_version": FORMAT_VERSION, "task": "detector", "category_names": ["face"]}
    whole = {
        "images": images,
        "bboxes": np.float32([[0, 0, 1, 2], [1, 1, 6, 4]]),
        "bboxes_offsets": np.array([0, 1, 1, 2]),
        "image_paths": np.array(["a.jpg", "b.jpg", "c.jpg"]),
        "image_crc32": np.array([zlib.crc32(row.tobytes()) for row in images], np.uint32),
        "source_rects": np.float32([[0, 0, 12, 8]] * ROWS),
        "source_sizes": np.int32([[8, 12]] * ROWS),
        "metadata": np.array(json.dumps(metadata)),
    }
    return {k: v for k, v in {**whole, **changed}.items() if v is not None}


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), allow_pickle=True)
    return buffer.getvalue()


def npy_of(text, data=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + data


def described(descr, shape, order=False):
    return f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}\n"


def archive(files=None, method=zipfile.ZIP_STORED, **changed):
    """Returns the bytes of an archive of `members`, or of the given files."""
    files = files or {f"{name}.npy": npy(array) for name, array in members(**changed).items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, data in files.items():
            zipped.writestr(zipfile.ZipInfo(name), data, method)
    return bytearray(buffer.getvalue())


def with_npy(name, data, method=zipfile.ZIP_STORED):
    files = {f"{other}.npy": npy(array) for other, array in members().items()}
    return archive({**files, f"{name}.npy": data}, method)


def infos(data):
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        return {info.filename.removesuffix(".npy"): info for info in zipped.infolist()}


LOCAL = {
    "flags": (6, "<H"),
    "method": (8, "<H"),
    "crc": (14, "<I"),
    "packed": (18, "<I"),
    "size": (22, "<I"),
    "name length": (26, "<H"),
    "extra length": (28, "<H"),
    "name": (30, "<B"),
}
CENTRAL = {
    "flags": (8, "<H"),
    "method": (10, "<H"),
    "crc": (16, "<I"),
    "packed": (20, "<I"),
    "size": (24, "<I"),
    "comment length": (32, "<H"),
    "offset": (42, "<I"),
    "name": (46, "<B"),
}


def patch(data, name, local=None, central=None):
    """Writes fields of one member's headers."""
    offset = infos(data)[name].header_offset
    entry = data.index(b"PK\x01\x02")
    while data[entry + 46 : entry + 46 + len(name)] != name.encode():
        entry += 46 + sum(struct.unpack_from("<3H", data, entry + 28))
    for start, table, fields in ((offset, LOCAL, local or {}), (entry, CENTRAL, central or {})):
        for field, value in fields.items():
            struct.pack_into(table[field][1], data, start + table[field][0], value)
    return data


def both(data, name, **fields):
    return patch(data, name, fields, fields)


def ours(**changed):
    """Returns a function that writes `members` with our writer."""

    def write(path):
        with contextlib.closing(NPZWriter(path)) as writer:
            for name, array in members(**changed).items():
                writer.write(name, array)
            writer.finish()

    return write


def edited(write, edit):
    def build(path):
        write(path)
        path.write_bytes(edit(bytearray(path.read_bytes())))

    return build


def end_record(data, **fields):
    table = {"entries here": 8, "entries": 10, "size": 12, "offset": 16}
    for field, value in fields.items():
        struct.pack_into(
            "<H" if "entries" in field else "<I", data, len(data) - 22 + table[field], value
        )
    return data


def sparse_end(directory_bytes):
    """Builds a file of holes; its end record states the size of the directory."""

    def build(path):
        with path.open("wb") as file:
            file.seek(directory_bytes)
            file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, directory_bytes, 0, 0))

    return build


def bomb(claimed, method=zipfile.ZIP_DEFLATED, real=10 << 30):
    """Builds a member of zeros, compressed to a thousandth."""

    def build(path):
        packer, head = zlib.compressobj(9, zlib.DEFLATED, -15), npy_of(described("|u1", (real,)))
        with path.open("wb") as file:
            packed = packer.compress(head)
            zeros = bytes(1 << 20)
            for _ in range(min(real, 200 << 20) >> 20):
                packed += packer.compress(zeros)
            packed += packer.flush()
            name = b"images.npy"
            sizes = 0, len(packed), min(claimed, 0xFFFFFFFE)  # the checksum is wrong
            local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, method, 0, 33, *sizes, len(name), 0)
            entry = struct.pack("<4s6H3I", b"PK\1\2", 20, 20, 0, method, 0, 33, *sizes)
            entry += struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, 0)
            file.write(local + name + packed + entry + name)
            directory = len(entry + name), len(local + name + packed)
            file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, *directory, 0))

    return build


def objects(*rows):
    array = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        array[i] = row
    return array


def appended(data, name, content):
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as zipped:
        zipped.writestr(name, content)
    return bytearray(buffer.getvalue())


def twice(data):
    buffer = io.BytesIO(data)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(buffer, "a") as zipped:
        zipped.writestr("bboxes.npy", npy(np.zeros((2, 4))))
    return buffer.getvalue()


def overlap(data):
    """Points the directory entries of two members to the same bytes."""
    start = infos(data)["source_rects"].header_offset
    return patch(data, "source_sizes", central={"offset": start})


def metadata(**changed):
    return np.array(json.dumps({"format_version": FORMAT_VERSION, **changed}))


def moved(path, move):
    path.write_bytes(archive())
    target = path.with_name("elsewhere")
    path.rename(target)
    move(path, target)


def streamed():
    """Returns an archive as written to a pipe: sizes and checksums follow the data."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        def seek(self, *_):
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as zipped:
        for name, array in members().items():
            with zipped.open(f"{name}.npy", "w") as file:
                file.write(npy(array))
    return pipe.getvalue()


def patch64(data, name, field, value, central=False):
    """Writes a ZIP64 field of one member: 0 is its size, 8 its stored size, 16 its offset."""
    magic = b"PK\x01\x02" if central else b"PK\x03\x04"
    header = data.index(magic)
    fixed, at = (46, 28) if central else (30, 26)
    while data[header + fixed : header + fixed + len(name) + 1] != f"{name}.".encode():
        header = data.index(magic, header + 1)
    (length,) = struct.unpack_from("<H", data, header + at)
    struct.pack_into("<Q", data, header + fixed + length + 4 + field, value)
    return data


def scribbled(data, name):
    info = infos(data)[name]
    middle = info.header_offset + 30 + len(name) + 4 + info.compress_size // 2
    data[middle] ^= 0x55
    return data
