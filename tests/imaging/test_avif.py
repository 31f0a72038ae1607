"""AVIF is decoded where Pillow can; HEIC and JPEG XL are refused with a remedy."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features

from processing.core.errors import ImageError
from processing.imaging import containers
from processing.imaging.decoding import decode, read_header
from processing.imaging.photo import ImageHeader
from tests.imaging.test_decoding import decoded, encoded, orientation_tag, reason_of, scene

NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def ftyp(major, *compatible):
    body = major + bytes(4) + b"".join(compatible)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body


def avif(pixels, **options):
    return encoded(pixels, "AVIF", speed=10, **options)


@NEEDS_AVIF
def test_avif_is_decoded():
    pixels = scene(60, 90)
    photo = decoded(avif(pixels, quality=90), reduction=4)
    assert photo.reduction == 1
    assert photo.source_size == (60, 90)
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 4


@NEEDS_AVIF
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_its_writer_meant(orientation):
    upright = np.zeros((48, 80, 3), np.uint8)
    upright[:16, :16] = 255, 0, 0
    upright[:16, 64:] = 0, 255, 0
    upright[32:, :16] = 0, 0, 255
    transposed_by = {  # from the upright to the stored picture
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = Image.fromarray(upright)
    stored = stored if transposed_by is None else stored.transpose(transposed_by)
    data = avif(stored, exif=orientation_tag(orientation), quality=95)
    header = read_header(data)
    turned = orientation >= 5
    assert header == ImageHeader("AVIF", *stored.size, orientation)
    assert header.upright_size == (48, 80)
    assert header.stored_size == ((80, 48) if turned else (48, 80))
    assert np.abs(decode(data, header).pixels.astype(int) - upright).mean() < 8


@NEEDS_AVIF
def test_of_an_avif_sequence_the_first_frame_is_taken():
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = avif(frames[0], save_all=True, append_images=frames[1:])
    assert data[8:12] == b"avis"
    np.testing.assert_allclose(decoded(data).pixels[20, 30], [255, 0, 0], atol=6)


@NEEDS_AVIF
def test_alpha_of_an_avif_is_dropped():
    rgba = np.dstack([scene(64, 64), np.zeros((64, 64), np.uint8)])
    photo = decoded(avif(rgba, quality=90))
    assert np.abs(photo.pixels.astype(int) - rgba[..., :3]).mean() < 6


@NEEDS_AVIF
def test_no_truncated_avif_is_stored():
    data = avif(scene(60, 90))
    whole = decoded(data).pixels
    refused = 0
    for length in range(len(data)):
        try:
            pixels = decoded(data[:length]).pixels
        except ImageError as error:
            refused += 1
            assert error.reason in ("truncated", "corrupt", "not_an_image")  # noqa: PT017 - in a loop
        else:
            np.testing.assert_array_equal(pixels, whole)
    assert refused > 0.9 * len(data)


@NEEDS_AVIF
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_the_beginning_of_an_avif_is_not_called_something_else(kept):
    data = avif(scene(60, 90))
    assert reason_of(decoded, data[: int(kept * len(data))]) in ("truncated", "corrupt")


DAMAGE = """
import io, random, sys
from processing.core.errors import ImageError
from processing.imaging.decoding import decode, read_header
data, rng, stored = sys.stdin.buffer.read(), random.Random(7), 0
for _ in range(1500):
    broken = bytearray(data)
    at = rng.randrange(len(broken))
    end = min(at + rng.choice([1, 1, 4, 64]), len(broken))
    kind = rng.choice(["flip", "noise", "zeros", "delete", "insert"])
    if kind == "flip":
        broken[at] ^= 1 << rng.randrange(8)
    elif kind == "delete":
        del broken[at:end]
    elif kind == "insert":
        broken[at:at] = rng.randbytes(end - at)
    else:
        broken[at:end] = bytes(end - at) if kind == "zeros" else rng.randbytes(end - at)
    try:
        stored += decode(bytes(broken), read_header(bytes(broken))).pixels.ndim == 3
    except ImageError:
        pass
print(stored)
"""


@NEEDS_AVIF
def test_a_damaged_avif_never_ends_the_process():
    data = avif(scene(60, 90))
    child = subprocess.run([sys.executable, "-c", DAMAGE], input=data, capture_output=True)
    assert child.returncode == 0, child.stderr.decode()
    assert 0 < int(child.stdout) < 1500


@NEEDS_AVIF
def test_without_avif_in_pillow_the_message_names_the_package(monkeypatch):
    data = avif(scene(60, 90))
    monkeypatch.setattr(containers.features, "check", lambda _: False)
    with pytest.raises(ImageError, match=r"AVIF .*install pillow") as caught:
        read_header(data)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim"])
@pytest.mark.parametrize("length", [24, 5000])
def test_heic_is_unsupported_and_the_message_says_what_to_do(brand, length):
    data = ftyp(brand, b"mif1", b"heic").ljust(length, b"\0")
    with pytest.raises(ImageError, match=r"HEIC.*convert it to JPEG.*imagemagick") as caught:
        read_header(data)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    "start", [b"\xff\x0a\x10\x20", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "]
)
def test_jpeg_xl_is_unsupported_and_the_message_says_what_to_do(start):
    with pytest.raises(ImageError, match=r"JPEG XL.*convert it to JPEG") as caught:
        read_header(start + bytes(99))
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("brands", [(b"isom", b"mp42"), (b"qt  ",), (b"M4A ", b"isom")])
def test_a_film_is_not_an_image(brands):
    assert reason_of(read_header, ftyp(*brands).ljust(400, b"\0")) == "not_an_image"
