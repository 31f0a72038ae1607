"""Files whose images are JPEGs: the format, hostile rows, and how little trusts them."""

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from isal.isal_zlib import crc32
from PIL import Image
from torch.utils.data import DataLoader

from processing.core.errors import ChecksumError, NPZFormatError
from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import LazyNPZDataset, open_dataset
from processing.npz.contents import Contents

SIZE = (16, 24)


def picture(size=SIZE, seed=0):
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0])))


def jpeg(image=None, quality=95, subsampling="444"):
    image = picture() if image is None else image
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", subsampling)


def by_pillow(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def write(path, rows, size=SIZE, **changed):
    """Writes a teacher's file of these rows, with some members changed; None removes one."""
    n = len(rows)
    offsets = np.cumsum([0, *map(len, rows)])
    base = {"format_version": 2, "task": "teacher", "image_size": list(size)}
    base |= {"category_names": ["face"]}
    members = {
        "images_jpeg": np.frombuffer(b"".join(rows), np.uint8),
        "images_offsets": offsets,
        "bboxes": np.tile(np.float32([0, 0, 1, 1]), (n, 1)),
        "image_paths": np.array([f"{i}.jpg" for i in range(n)], dtype="U9"),
        "image_crc32": np.array([crc32(row) for row in rows], np.uint32),
        "source_rects": np.tile(np.float32([0, 0, size[1], size[0]]), (n, 1)),
        "source_sizes": np.tile(np.int32(size), (n, 1)),
        "metadata": np.array(json.dumps(base)),
    }
    members |= changed
    np.savez(path, **{name: array for name, array in members.items() if array is not None})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoded")


@pytest.fixture(scope="module")
def path(folder):
    return write(folder / "train_teacher.npz", [jpeg(picture(seed=i)) for i in range(9)])


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rows=st.lists(st.integers(0, 9), max_size=5),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["444", "422", "420"]),
)
def test_any_rows_are_read_as_the_codec_decodes_them(folder, size, rows, quality, subsampling):
    encoded = [jpeg(picture(size, seed), quality, subsampling) for seed in rows]
    file = write(folder / "any.npz", encoded, size)
    with LazyNPZDataset(file, verify=True) as dataset:
        dataset.verify()
        images = dataset.get_batch(range(len(rows)))["images"]
        assert (images.shape, images.dtype) == ((len(rows), *size, 3), np.uint8)
        for image, data in zip(images, encoded, strict=True):
            assert np.array_equal(image, simplejpeg.decode_jpeg(data, "RGB"))


def test_numpy_and_pillow_read_a_row_in_one_line(path):
    f, i = np.load(path), 4
    o = f["images_offsets"]
    image = Image.open(io.BytesIO(f["images_jpeg"][o[i] : o[i + 1]]))
    with LazyNPZDataset(path) as dataset:
        assert np.abs(np.asarray(image).astype(int) - dataset[i]["image"]).max() <= 2


def test_there_is_no_array_of_all_images_and_the_error_says_what_to_do(path):
    with LazyNPZDataset(path) as dataset:
        assert dataset.layout.image_shape == (*SIZE, 3)
        with pytest.raises(TypeError, match=r"train_teacher\.npz: .*stored as JPEG.*get_batch"):
            _ = dataset.images


def test_loaders_caches_and_mixed_files_give_the_same_images(path, folder):
    with LazyNPZDataset(path, return_index=True) as dataset:
        expected = dataset.get_batch(range(9))
    raw = folder / "raw.npz"
    with np.load(path) as members:
        rest = {name: members[name] for name in members if not name.startswith("images_")}
    rest["metadata"] = np.array(json.dumps({"task": "teacher", "category_names": ["face"]}))
    rest["image_crc32"] = np.array([crc32(image) for image in expected["images"]], np.uint32)
    np.savez(raw, images=expected["images"], **rest)
    twice = np.concatenate([expected["images"]] * 2)
    with open_dataset([path, raw], cache_size=4, verify=True, return_index=True) as both:
        assert 100 < both.stored_image_bytes < 3 * SIZE[0] * SIZE[1]
        loaders = [
            *(BatchLoader(both, 4, shuffle=True, num_workers=threads) for threads in (0, 2)),
            *(DataLoader(both, 4, shuffle=True, num_workers=workers) for workers in (0, 1)),
        ]
        for loader in loaders:
            seen = 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
                for batch in loader:
                    assert np.array_equal(batch["image"].numpy(), twice[batch["index"].numpy()])
                    seen += len(batch["index"])
            assert seen == 18


PROGRESSIVE = by_pillow(Image.fromarray(picture()), progressive=True)
HOSTILE_HEADS = {
    "empty": b"",
    "a marker": b"\xff\xd8",
    "no JPEG": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "zeros": bytes(2000),
    "larger": jpeg(picture((17, 24))),
    "smaller": jpeg(picture((15, 24))),
    "turned": jpeg(picture((24, 16))),
    "huge": jpeg().replace(b"\x00\x10\x00\x18\x03", b"\xff\xff\xff\xff\x03", 1),
    "no height": jpeg().replace(b"\x00\x10\x00\x18\x03", b"\x00\x00\x00\x18\x03", 1),
    "progressive": PROGRESSIVE,
    "lossless": jpeg().replace(b"\xff\xc0", b"\xff\xc3", 1),
    "12 bits": jpeg().replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c", 1),
    "CMYK": by_pillow(Image.fromarray(picture()).convert("CMYK")),
    "grey": by_pillow(Image.fromarray(picture()).convert("L")),
    "segments of no length": b"\xff\xd8" + b"\xff\xe1\x00\x00" * 400_000,
    "only segments": b"\xff\xd8" + (b"\xff\xe1\xff\xff" + bytes(65_533)) * 20,
    "no frame": jpeg()[:158],
}
HOSTILE_SCANS = {
    "cut": jpeg()[:-40],
    "cut, with an end": jpeg()[:-40] + b"\xff\xd9",
    "without end": jpeg()[:-2],
    "no tables": jpeg().replace(b"\xff\xdb", b"\xff\xee"),
    "two frames": jpeg()[:-2] + jpeg(picture((900, 900)))[2:],
    "a larger frame behind": jpeg().replace(
        b"\xff\xc4", b"\xff\xc0\x00\x11\x08\x03\x84\x03\x84\x03" + jpeg()[168:177] + b"\xff\xc4", 1
    ),
}


@pytest.mark.parametrize("name", [*HOSTILE_HEADS, *HOSTILE_SCANS])
def test_a_hostile_row_is_refused_and_named(folder, name):
    row = (HOSTILE_HEADS | HOSTILE_SCANS)[name]
    file = write(folder / "hostile.npz", [jpeg(), row, jpeg()])
    named = r"hostile\.npz: member 'images_jpeg', row 1 \(1\.jpg\): .*restore it"
    out = np.full((3, *SIZE, 3), 7, np.uint8)
    with LazyNPZDataset(file) as dataset:
        with pytest.raises(NPZFormatError, match=named):
            dataset.columns.gather_images(np.arange(3), out)
        assert (out[2] == 7).all()
        assert np.array_equal(dataset[2]["image"], simplejpeg.decode_jpeg(jpeg(), "RGB"))
        if name in HOSTILE_HEADS:
            with pytest.raises(NPZFormatError, match=named):
                dataset.verify()


def test_every_bit_of_a_row_is_covered_by_its_checksum_even_without_verify(folder):
    sound = jpeg()
    file = write(folder / "flipped.npz", [sound, sound])
    data = bytearray(file.read_bytes())
    start = data.index(sound) + len(sound)
    for bit in range(0, 8 * len(sound), 31):
        data[start + bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        with LazyNPZDataset(file) as dataset, pytest.raises(ChecksumError, match=r"jpeg', row 1 "):
            _ = dataset[1]
        data[start + bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize(
    ("offsets", "row"),
    [
        ([0, -5, 1], 0),
        ([0, 500, 400, 1], 1),
        ([0, 10**9, 1], 0),
        (np.array([0, 2**63 + 9, 1], np.uint64), 0),
    ],
)
def test_offsets_that_leave_the_member_are_refused(folder, offsets, row):
    rows = [jpeg()] * (len(offsets) - 1)
    offsets = np.array(offsets)
    offsets[-1] = sum(map(len, rows))
    file = write(folder / "offsets.npz", rows, images_offsets=offsets)
    with LazyNPZDataset(file) as dataset:
        dataset.advise(np.arange(len(rows)))  # long before the row's batch: no error yet
        with pytest.raises(NPZFormatError, match=rf"member 'images_offsets', row {row}"):
            dataset.get_batch(range(len(rows)))
        with pytest.raises(NPZFormatError, match="member 'images_jpeg': offsets"):
            dataset.verify()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metadata": None}, "image_size: expected height and width"),
        ({"metadata": np.array('{"image_size": [16, true]}')}, "image_size: expected"),
        ({"metadata": np.array('{"image_size": [16, 0]}')}, "image_size: expected"),
        ({"metadata": np.array('{"image_size": [16, 65536]}')}, "image_size: expected"),
        ({"metadata": np.array('{"image_size": 16}')}, "image_size: expected"),
        ({"metadata": np.array('{"image_size": [60000, 60000]}')}, "bytes, for images of"),
        ({"images": np.zeros((2, *SIZE, 3), np.uint8)}, "a member 'images' too"),
        ({"images_offsets": None}, "no member 'images_offsets'"),
        ({"images_offsets": np.array([0, 1])}, "do not run from 0"),
        ({"images_offsets": np.array([0.0, 1, 2])}, "do not run from 0"),
        ({"images_jpeg": np.zeros(4, np.int8)}, r"expected uint8 \(bytes,\)"),
        ({"images_jpeg": np.zeros((4, 1), np.uint8)}, "expected values of"),
        ({"image_crc32": np.zeros(3, np.uint32)}, "differ in length"),
        ({"image_reductions": np.zeros(2)}, "'image_reductions': expected numbers"),
        (
            {"image_reductions": np.zeros(2, np.uint8), "source_sizes": None},
            "no member 'source_sizes'",
        ),
    ],
)
def test_members_that_do_not_fit_are_refused_when_the_file_is_opened(folder, changed, said):
    file = write(folder / "members.npz", [jpeg(), jpeg()], **changed)
    with pytest.raises(NPZFormatError, match=rf"members\.npz: .*{said}"):
        LazyNPZDataset(file)


ORIGINAL = by_pillow(Image.fromarray(picture((60, 90))))


@pytest.mark.parametrize(
    ("row", "reduction", "said"),
    [
        (ORIGINAL, 3, r"member 'image_reductions', row 0: 3, expected one of"),
        (jpeg(picture((90, 60))), 1, "of height, width .90, 60.: expected .60, 90."),
        (b"GIF89a" + bytes(100), 1, "row 0 .*begin with"),
        (ORIGINAL[:-100], 1, "row 0 .*Premature end"),
        (b"", 2, "row 0 .*the file is empty"),
    ],
)
def test_a_hostile_original_is_refused_like_a_hostile_photograph(folder, row, reduction, said):
    sizes = np.array([[60, 90]], np.int32)
    reductions = np.array([reduction], np.uint8)
    file = write(folder / "o.npz", [row], source_sizes=sizes, image_reductions=reductions)
    with LazyNPZDataset(file) as dataset, pytest.raises(NPZFormatError, match=said):
        _ = dataset[0]


def test_an_original_in_another_format_is_refused(folder):
    stream = io.BytesIO()
    Image.fromarray(picture((60, 90))).save(stream, "PNG")
    sizes, reductions = np.array([[60, 90]], np.int32), np.array([1], np.uint8)
    row = stream.getvalue()
    file = write(folder / "png.npz", [row], source_sizes=sizes, image_reductions=reductions)
    with LazyNPZDataset(file) as dataset:
        with pytest.raises(NPZFormatError, match=r"row 0 \(0\.jpg\): a PNG: expected a JPEG"):
            _ = dataset[0]
        with pytest.raises(NPZFormatError, match="a PNG: expected a JPEG"):
            dataset.verify()


def test_reading_pixels_loads_no_codec_and_reading_jpegs_only_when_one_is_decoded(path, folder):
    code = (
        "import sys, numpy as np\n"
        "from processing.npz.contents import Contents\n"
        "raw, encoded = map(Contents.open, sys.argv[1:])\n"
        "raw.gather(np.arange(2))\n"
        "assert not {'simplejpeg', 'cv2', 'PIL'} & set(sys.modules)\n"
        "encoded.gather(np.arange(2))\n"
        "assert 'simplejpeg' in sys.modules\n"
    )
    with np.load(path) as members:
        rest = {name: members[name] for name in ("bboxes", "image_paths")}
    np.savez(folder / "pixels.npz", images=np.zeros((9, *SIZE, 3), np.uint8), **rest)
    files = [folder / "pixels.npz", path]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, *files], cwd=root, check=True)


def test_rows_are_requested_from_the_disk_by_their_place_in_the_file(path, monkeypatch):
    contents = Contents.open(path)
    asked = []
    monkeypatch.setattr(
        type(contents.stored.readahead),
        "advise_spans",
        lambda self, starts, ends: asked.extend(zip(starts.tolist(), ends.tolist(), strict=True)),
    )
    contents.advise(np.array([2, 0]))
    bounds = np.load(path)["images_offsets"].tolist()
    assert asked == [(bounds[2], bounds[3]), (0, bounds[1])]
