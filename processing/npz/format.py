"""The file: an ordinary NPZ whose arrays can be memory-mapped in place.

Specification, version 1
========================

Container
    A ZIP archive (PKWARE APPNOTE 6.3.10) that ``np.load(path, allow_pickle=False)``, ``unzip -t``
    and ``python -m zipfile -t`` read. Every member ``NAME.npy`` is *stored*, never deflated, and
    holds one array in NPY format 1.0 (``numpy.lib.format``). All sizes and offsets are written in
    ZIP64 fields, so that a small file and one beyond 4 GiB have the same layout. No timestamps, no
    user ids: equal content is equal bytes.

Alignment
    The array data of each member (what follows its NPY header) begins at a multiple of 4096 bytes
    in the file, so that a map of it is aligned whatever the dtype. The gap is filled by an extra
    field of id 0xD935 in the member's *local* header; the central directory does not repeat it. A
    reader takes the data's position from the local header.

Members, N rows, in this order
    ================ =============== =======================================================
    ``images``       u1 (N, H, W, 3) RGB
    ``bboxes``       f4 (B, 4)       detector, ragged; teacher (N, 4): x1, y1, x2, y2
    ``keypoints``    f4 (N, K, 3)    landmarker: x, y, visibility (0, 1, 2); ragged if K varies
    ``labels``       i4 (B,) or (N,) positions in ``category_names``; if there are several
    ``image_paths``  U  (N,)         relative to the raw directory, ``/`` separated
    ``image_crc32``  u4 (N,)         CRC-32 of each row of ``images``
    ``source_rects`` f4 (N, 4)       what the row shows of the upright source: x1, y1, x2, y2
    ``source_sizes`` i4 (N, 2)       height, width of the upright source image
    ``metadata``     U  ()           one JSON object
    ================ =============== =======================================================

    A ragged member ``M`` is followed by ``M_offsets``, i8 (N + 1,): row i owns
    ``M[offsets[i]:offsets[i + 1]]``.

Coordinates
    Pixels, x to the right, y down, the outer corner of the first pixel at (0, 0). Detector boxes
    and keypoints are in the stored image; teacher boxes are in the upright source image (whose crop
    the stored image is). Stored and source coordinates differ by the scale and shift that take
    ``source_rects[i]`` to the stored image's edges, nothing else.

Metadata
    ``format_version``, ``task``, ``split``, ``image_size`` [H, W], ``category_names``,
    ``keypoint_names``, ``shard`` [index, count], ``options`` (all that change the output),
    ``tasks`` (those that shared the decoding), ``recipe`` (hash of options and annotations),
    ``fingerprint`` (hash of recipe and the images' content), ``counts``.

Checksums
    A member's CRC-32 in the directory covers its NPY header and data; that of ``images`` is
    combined from ``image_crc32``, so the bulk is read by nobody twice.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format

FORMAT_VERSION: Final = 1
REBUILD: Final = "restore it from a copy, or delete it and run the processor again"
"""What is to be done about a damaged file."""

ALIGNMENT: Final = 4096  # the page size of the systems that we map on

# Section numbers are those of PKWARE APPNOTE 6.3.10.
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # 4.3.7
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")  # 4.3.12
_END64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_END64_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
_END = struct.Struct("<4s4H2IH")  # 4.3.16
_ZIP64_LOCAL = struct.Struct("<2H2Q")  # 4.5.3: uncompressed and compressed size
_ZIP64_CENTRAL = struct.Struct("<2H3Q")  # 4.5.3: the same and the local header's offset
_PADDING = struct.Struct("<3H")  # id, size, alignment; the layout Android's zipalign uses
_PADDING_ID = 0xD935
_ZIP64_ID = 0x0001
_VERSION_ZIP64 = 45
_UNIX = 3 << 8
_MIDNIGHT, _FIRST_DAY = 0, 0x0021  # 1980-01-01, the earliest date that ZIP can say
_IN_ZIP64 = 0xFFFFFFFF
_REGULAR_FILE = 0o100644 << 16


@dataclass(slots=True)
class Member:
    """Where one member lies and what the directory says of it.

    Args:
        name: member name, ``images.npy``.
        offset: where its local header begins, bytes from the start of the file.
        header_bytes: length of the local header with its extra fields.
        size: bytes of NPY header and data.
        crc32: CRC-32 of the same.
    """

    name: str
    offset: int
    header_bytes: int
    size: int = 0
    crc32: int = 0

    @classmethod
    def aligned(cls, name: str, offset: int, npy_header_bytes: int) -> Member:
        """A member at `offset` whose array data will begin at a multiple of `ALIGNMENT`."""
        least = _LOCAL_HEADER.size + len(name.encode()) + _ZIP64_LOCAL.size + _PADDING.size
        gap = -(offset + least + npy_header_bytes) % ALIGNMENT
        return cls(name, offset, least + gap)

    def local_header(self) -> bytes:
        """The bytes at `offset`."""
        name = self.name.encode()
        unpadded = _LOCAL_HEADER.size + len(name) + _ZIP64_LOCAL.size
        padding = self.header_bytes - unpadded
        fixed = _LOCAL_HEADER.pack(
            b"PK\x03\x04", _VERSION_ZIP64, 0, 0, _MIDNIGHT, _FIRST_DAY,
            self.crc32, _IN_ZIP64, _IN_ZIP64, len(name), _ZIP64_LOCAL.size + padding,
        )  # fmt: skip
        zip64 = _ZIP64_LOCAL.pack(_ZIP64_ID, _ZIP64_LOCAL.size - 4, self.size, self.size)
        gap = _PADDING.pack(_PADDING_ID, padding - 4, ALIGNMENT) + bytes(padding - _PADDING.size)
        return fixed + name + zip64 + gap

    def central_header(self) -> bytes:
        """The member's entry in the central directory."""
        name = self.name.encode()
        fixed = _CENTRAL_HEADER.pack(
            b"PK\x01\x02", _UNIX | _VERSION_ZIP64, _VERSION_ZIP64, 0, 0, _MIDNIGHT, _FIRST_DAY,
            self.crc32, _IN_ZIP64, _IN_ZIP64, len(name), _ZIP64_CENTRAL.size, 0, 0, 0,
            _REGULAR_FILE, _IN_ZIP64,
        )  # fmt: skip
        zip64 = _ZIP64_CENTRAL.pack(
            _ZIP64_ID, _ZIP64_CENTRAL.size - 4, self.size, self.size, self.offset
        )
        return fixed + name + zip64


def end_of_archive(members: list[Member], offset: int) -> bytes:
    """The central directory and the end records, to be written at `offset`."""
    directory = b"".join(member.central_header() for member in members)
    end64 = _END64.pack(
        b"PK\x06\x06", _END64.size - 12, _UNIX | _VERSION_ZIP64, _VERSION_ZIP64, 0, 0,
        len(members), len(members), len(directory), offset,
    )  # fmt: skip
    locator = _END64_LOCATOR.pack(b"PK\x06\x07", 0, offset + len(directory), 1)
    count = len(members)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, _IN_ZIP64, _IN_ZIP64, 0)
    return directory + end64 + locator + end


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The NPY 1.0 header of a C-ordered array; numpy pads it to keep its length as N grows."""
    buffer = io.BytesIO()
    description = {
        "descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    npy_format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
