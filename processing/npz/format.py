"""The file: an ordinary NPZ whose arrays can be memory-mapped in place.

Specification, versions 1 and 2
===============================

Container
    A ZIP archive (PKWARE APPNOTE 6.3.10) that ``np.load(path, allow_pickle=False)``, ``unzip -t``
    and ``python -m zipfile -t`` read. Every member ``NAME.npy`` is *stored*, never deflated, and
    holds one array in NPY format 1.0 (``numpy.lib.format``). All sizes and offsets are written in
    ZIP64 fields, so files below and above 4 GiB have the same layout. There are no timestamps and
    no user ids: equal content gives equal bytes.

Alignment
    The array data of each member, after its NPY header, begins at a multiple of 4096 bytes in the
    file, so a memory map of it is aligned for every dtype. An extra field with id 0xD935 in the
    member's *local* header fills the gap; the central directory does not repeat this field. A
    reader takes the position of the data from the local header.

Members, N rows, in this order
    ================ =============== =======================================================
    ``images``       u1 (N, H, W, 3) RGB
    ``bboxes``       f4 (B, 4)       detector, ragged; teacher (N, 4): x1, y1, x2, y2
    ``keypoints``    f4 (N, K, 3)    landmarker: x, y, visibility (0, 1, 2); ragged if K varies
    ``labels``       i4 (B,) or (N,) positions in ``category_names``; only if it has several
    ``image_paths``  U  (N,)         relative to the raw directory, ``/`` separated
    ``image_crc32``  u4 (N,)         CRC-32 of each row of the images
    ``source_rects`` f4 (N, 4)       rectangle of the upright source that the row shows
    ``source_sizes`` i4 (N, 2)       height, width of the upright source image
    ``metadata``     U  ()           one JSON object
    ================ =============== =======================================================

    In version 2, images are encoded. These members take the place of ``images``:

    ==================== =========== =======================================================
    ``images_jpeg``      u1 (bytes,) the rows, one after the other
    ``images_offsets``   i8 (N + 1,) row i is ``images_jpeg[offsets[i]:offsets[i + 1]]``
    ``image_reductions`` u1 (N,)     only if rows may be files of photographs; before
                                     ``image_paths``
    ==================== =========== =======================================================

    A row is a baseline JPEG of the stored image, with three channels of 8 bits. If
    ``image_reductions[i]`` is not 0, row i is the photograph's own file, a JPEG of any kind with
    all its metadata. A reader decodes it up to that many times smaller (1, 2, 4 or 8), turns it
    upright, and letterboxes it. ``image_crc32`` is that of the bytes of the row, so it does not
    depend on a decoder. Decoders may round pixels differently, by one level as a rule.

    A ragged member ``M`` is followed by ``M_offsets``, i8 (N + 1,): row i owns
    ``M[offsets[i]:offsets[i + 1]]``.

Coordinates
    Pixels, x to the right, y down, the outer corner of the first pixel at (0, 0). Detector boxes
    and keypoints refer to the stored image. Teacher boxes refer to the upright source image, and
    the stored image is the crop of that box. Rectangles are x1, y1, x2, y2. One scale and one shift
    per axis convert source to stored coordinates: they map ``source_rects[i]`` to the edges of the
    stored image.

Metadata
    ``format_version``, ``task``, ``split``, ``image_size`` [H, W], ``category_names``,
    ``keypoint_names``, ``shard`` [index, count], ``options`` (every option that changes the
    output; ``limit`` marks a part of a data set, ``photographs`` of how many, ``of``), ``tasks``
    (the tasks that shared the decoding), ``recipe`` (hash of options and annotations),
    ``fingerprint`` (hash of the recipe and the content of the images), ``counts``.
    In version 2 also ``encoding``: ``codec`` (jpeg), ``quality``, ``subsampling``.

Checksums
    A member's CRC-32 in the directory covers its NPY header and data. The writer combines the
    CRC-32 of the images from ``image_crc32``, so it never reads the images again.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format

FORMAT_VERSION: Final = 2
"""The latest version, that of files with encoded images. Files with raw images have version 1, so
that older programs read them."""
RAW_VERSION: Final = 1

RAW_MEMBER: Final = "images"
JPEG_MEMBER: Final = "images_jpeg"
OFFSETS_MEMBER: Final = "images_offsets"
REDUCTIONS_MEMBER: Final = "image_reductions"

LIMIT_OPTION: Final = "limit"
"""The option in the metadata that marks files of a part of a data set."""

ALIGNMENT: Final = 4096  # the page size of the systems that we map on

# ZIP records; section numbers are those of PKWARE APPNOTE 6.3.10.
LOCAL_HEADER: Final = struct.Struct("<4s5H3I2H")  # 4.3.7, before name and extra fields
LOCAL_SIGNATURE: Final = b"PK\x03\x04"
_CENTRAL_HEADER: Final = struct.Struct("<4s6H3I5H2I")  # 4.3.12
_END64: Final = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_END64_LOCATOR: Final = struct.Struct("<4sIQI")  # 4.3.15
END: Final = struct.Struct("<4s4H2IH")  # 4.3.16, before a comment of up to 65,535 bytes
END_SIGNATURE: Final = b"PK\x05\x06"
EXTRA_HEADER: Final = struct.Struct("<2H")  # 4.5.1: id and size of one extra field
ZIP64_ID: Final = 0x0001
_ZIP64_LOCAL: Final = struct.Struct("<2H2Q")  # 4.5.3: id, size; uncompressed, compressed size
_ZIP64_CENTRAL: Final = struct.Struct("<2H3Q")  # 4.5.3: the same, and the local header's offset
IN_ZIP64: Final = 0xFFFFFFFF  # in a 32-bit field: the ZIP64 field has the value
_VERSION_ZIP64: Final = 45  # 4.4.3.2: the version of ZIP that a reader needs
_UNIX: Final = 3 << 8  # 4.4.2: the attributes below are those of Unix
_REGULAR_FILE: Final = 0o100644 << 16
_MIDNIGHT, _FIRST_DAY = 0, 0x0021  # 1980-01-01, the earliest date that ZIP can hold
_PADDING: Final = struct.Struct("<3H")  # id, size, alignment; the layout Android's zipalign uses
_PADDING_ID: Final = 0xD935


@dataclass(slots=True)
class Member:
    """The position, size and checksum of one member, as its ZIP headers state them.

    Args:
        name: member name with its ending, such as ``images.npy``.
        offset: position of its local header, in bytes from the start of the file.
        header_bytes: length of the local header with its extra fields.
        size: bytes of NPY header and data together.
        crc32: CRC-32 of NPY header and data.
    """

    name: str
    offset: int
    header_bytes: int
    size: int = 0
    crc32: int = 0

    @classmethod
    def aligned(cls, name: str, offset: int, npy_header_bytes: int) -> Member:
        """Places a member at `offset` so that its array data begins at a multiple of `ALIGNMENT`.

        Args:
            name: member name with its ending.
            offset: position of its local header.
            npy_header_bytes: length of the NPY header, between local header and data.
        """
        least = LOCAL_HEADER.size + len(name.encode()) + _ZIP64_LOCAL.size + _PADDING.size
        gap = -(offset + least + npy_header_bytes) % ALIGNMENT
        return cls(name, offset, least + gap)

    def local_header(self) -> bytes:
        """Returns the local header, to be written at `offset`."""
        name = self.name.encode()
        unpadded = LOCAL_HEADER.size + len(name) + _ZIP64_LOCAL.size
        padding = self.header_bytes - unpadded
        fixed = LOCAL_HEADER.pack(
            LOCAL_SIGNATURE, _VERSION_ZIP64, 0, 0, _MIDNIGHT, _FIRST_DAY,
            self.crc32, IN_ZIP64, IN_ZIP64, len(name), _ZIP64_LOCAL.size + padding,
        )  # fmt: skip
        zip64 = _ZIP64_LOCAL.pack(ZIP64_ID, _ZIP64_LOCAL.size - 4, self.size, self.size)
        gap = _PADDING.pack(_PADDING_ID, padding - 4, ALIGNMENT) + bytes(padding - _PADDING.size)
        return fixed + name + zip64 + gap

    def central_header(self) -> bytes:
        """Returns the member's entry in the central directory."""
        name = self.name.encode()
        fixed = _CENTRAL_HEADER.pack(
            b"PK\x01\x02", _UNIX | _VERSION_ZIP64, _VERSION_ZIP64, 0, 0, _MIDNIGHT, _FIRST_DAY,
            self.crc32, IN_ZIP64, IN_ZIP64, len(name), _ZIP64_CENTRAL.size, 0, 0, 0,
            _REGULAR_FILE, IN_ZIP64,
        )  # fmt: skip
        zip64 = _ZIP64_CENTRAL.pack(
            ZIP64_ID, _ZIP64_CENTRAL.size - 4, self.size, self.size, self.offset
        )
        return fixed + name + zip64


def local_header_pattern() -> bytes:
    """Returns a regular expression for the end of a local header that only `Member` writes.

    It begins at the end of the member's name. Its first group is the size of what follows the group
    in the padding field.
    """
    zip64 = re.escape(EXTRA_HEADER.pack(ZIP64_ID, _ZIP64_LOCAL.size - 4))
    padding_id = re.escape(struct.pack("<H", _PADDING_ID))
    alignment = re.escape(struct.pack("<H", ALIGNMENT))
    return rb"\.npy" + zip64 + rb".{16}" + padding_id + rb"(..)" + alignment


def end_of_archive(members: list[Member], offset: int) -> bytes:
    """Returns the central directory and the end records, to be written at `offset`."""
    directory = b"".join(member.central_header() for member in members)
    end64 = _END64.pack(
        b"PK\x06\x06", _END64.size - 12, _UNIX | _VERSION_ZIP64, _VERSION_ZIP64, 0, 0,
        len(members), len(members), len(directory), offset,
    )  # fmt: skip
    locator = _END64_LOCATOR.pack(b"PK\x06\x07", 0, offset + len(directory), 1)
    count = len(members)
    end = END.pack(END_SIGNATURE, 0, 0, count, count, IN_ZIP64, IN_ZIP64, 0)
    return directory + end64 + locator + end


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns the NPY 1.0 header of a C-ordered array.

    Its length does not depend on ``shape[0]``: numpy pads the header so that an array can grow.
    """
    buffer = io.BytesIO()
    description = {
        "descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    npy_format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def first_look(metadata: Mapping[str, Any]) -> str:
    """Says that a file holds a part of a data set only; ``""`` for all other files.

    Args:
        metadata: of the file.
    """
    options = metadata.get("options")
    mark = options.get(LIMIT_OPTION) if isinstance(options, Mapping) else None
    if mark is None:
        return ""
    counts = ""
    if isinstance(mark, Mapping) and {"photographs", "of"} <= mark.keys():
        counts = f": {mark['photographs']} of {mark['of']} photographs in all splits"
    return f"a first look, not the whole data set{counts} (limit)"
