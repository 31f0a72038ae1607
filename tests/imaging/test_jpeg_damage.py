"""Damaged JPEGs are refused, and odd but sound ones are kept."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from processing.core.errors import ImageError
from processing.imaging.decoding import decode, read_header
from processing.imaging.jpeg import decode_jpeg
from tests.imaging.test_decoding import decoded, encoded, reason_of, scene

KINDS = {
    "baseline": {},
    "optimized": {"optimize": True, "subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 20},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def photograph(kind):
    """A JPEG with detail, and noise in its last rows."""
    pixels = scene(200, 304)
    pixels[-16:] = np.random.default_rng(1).integers(0, 256, pixels[-16:].shape)
    return encoded(pixels, **KINDS[kind])


def with_bytes_at_end(data, extra):
    return data[:-2] + extra + data[-2:]


def assert_kept(odd, data):
    np.testing.assert_array_equal(decoded(odd).pixels, decoded(data).pixels)


@EVERY_KIND
@pytest.mark.parametrize("count", [1, 9, 100, 500])
@pytest.mark.parametrize("value", [b"\0", b"\x11", b"\xff", b"\xff\0"])
def test_padding_of_one_value_is_kept(kind, value, count):
    data = photograph(kind)
    assert_kept(with_bytes_at_end(data, value * (count // len(value))), data)


@EVERY_KIND
@pytest.mark.parametrize("extra", [b"\x11", b"\x11\x22", b"\xff\0\x11"])
def test_two_bytes_of_any_value_are_kept(kind, extra):
    data = photograph(kind)
    assert_kept(with_bytes_at_end(data, extra), data)


@EVERY_KIND
@pytest.mark.parametrize("count", [10, 40, 511])
def test_bytes_of_different_values_are_damage(kind, count):
    data = photograph(kind)
    extra = bytes(1 + i % 2 for i in range(count))
    assert reason_of(decoded, with_bytes_at_end(data, extra)) == "corrupt"


@EVERY_KIND
def test_padding_of_one_value_behind_others_is_damage(kind):
    data = photograph(kind)
    assert reason_of(decoded, with_bytes_at_end(data, b"\x11\x22\x33" + bytes(99))) == "corrupt"


def is_taken_for_harmless(data):
    """Whether the decoder complained of something that is kept all the same."""
    try:
        header = read_header(data)
        harmless = decode_jpeg(data, header, 1) is None
        decode(data, header)
    except ImageError:
        return False
    return harmless


@pytest.mark.parametrize("kind", ["baseline", "restarts"])
def test_zeros_written_over_the_end_are_not_padding(kind):
    data = photograph(kind)
    for count in range(40, 300):
        assert not is_taken_for_harmless(data[: -2 - count] + bytes(count) + data[-2:])


@pytest.mark.parametrize("kept", [12, 40])
def test_a_lost_scan_of_a_progressive_jpeg_is_damage(kept):
    data = photograph("progressive")
    last = data.rindex(b"\xff\xda")
    assert reason_of(decoded, data[:last] + bytes(10) + data[last + 10 :]) == "corrupt"
    tables = data.rindex(b"\xff\xc4")
    assert reason_of(decoded, data[:tables] + data[-2 - kept :]) == "corrupt"


@EVERY_KIND
@pytest.mark.parametrize("segment", [b"\xff\xe5\0\x06abcd", b"\xff\xfe\0\x02", b"\xff\x05\0\x02"])
def test_a_segment_within_a_scan_is_damage(kind, segment):
    data = photograph(kind)
    middle = (data.rindex(b"\xff\xda") + len(data)) // 2
    assert reason_of(decoded, data[:middle] + segment + data[middle:]) == "corrupt"


def flat(factors, bytes_lost=0):
    """A grey JPEG of 96x64 pixels whose components are sampled in any way.

    Args:
        factors: of each component, as stored: 0x21 for 2 across and 1 down.
        bytes_lost: at the end of the scan.
    """
    data = bytearray(encoded(Image.new("RGB", (96, 64), (128, 128, 128)), subsampling=0))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    data[frame + 11 : frame + 20 : 3] = bytes(factors)
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    # One block: no change of brightness, end of block; in the codes of the standard tables.
    codes = ("001010", "0000", "0000")
    unit = "".join(
        code * (factor >> 4) * (factor & 15) for code, factor in zip(codes, factors, strict=True)
    )
    across, down = (max(f >> 4 for f in factors), max(f & 15 for f in factors))
    bits = unit * (-(-96 // (8 * across)) * -(-64 // (8 * down)))
    bits += "1" * (-len(bits) % 8)
    entropy = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return bytes(data[:start]) + entropy[: len(entropy) - bytes_lost] + b"\xff\xd9"


SAMPLINGS = [
    (0x14, 0x11, 0x11),
    (0x21, 0x11, 0x21),
    (0x22, 0x22, 0x11),
    (0x31, 0x11, 0x11),
    (0x22, 0x11, 0x11),
]


@pytest.mark.parametrize("factors", SAMPLINGS)
@pytest.mark.parametrize("reduction", [1, 4])
def test_any_sampling_of_colour_is_decoded(factors, reduction):
    photo = decoded(flat(factors), reduction)
    assert photo.source_size == (64, 96)
    assert (photo.pixels == 128).all()


@pytest.mark.parametrize("factors", SAMPLINGS)
def test_damage_is_seen_with_any_sampling_of_colour(factors):
    assert reason_of(decoded, flat(factors, bytes_lost=30)) == "corrupt"
    assert reason_of(decoded, with_bytes_at_end(flat(factors), b"\x11\x22\x33" * 20)) == "corrupt"


# --- real photographs, damaged at random

REAL = Path(__file__).parents[2].parent / "shared/real"


def damaged(data, rng):
    """Overwrites, inserts or deletes bytes of the scans."""
    start = data.index(b"\xff\xda") + 20
    at = rng.randrange(start, len(data) - 2)
    count = rng.choice([1, 16, 64, 512, 4096])
    end = min(at + count, len(data) - 2)
    kind = rng.choice(["overwrite", "zeros", "insert", "delete"])
    if kind == "insert":
        return data[:at] + rng.randbytes(count) + data[at:]
    if kind == "delete":
        return data[:at] + data[end:]
    content = bytes(end - at) if kind == "zeros" else rng.randbytes(end - at)
    return data[:at] + content + data[end:]


def test_visible_damage_that_the_decoder_complains_about_is_refused():
    files = sorted(REAL.rglob("*.jpg"))
    if not files:
        pytest.skip("the real photographs are not here")
    rng = random.Random(20270101)
    kept = 0
    for _ in range(600):
        data = rng.choice(files).read_bytes()
        broken = damaged(data, rng)
        if is_taken_for_harmless(broken):
            changed = np.abs(decoded(broken).pixels.astype(int) - decoded(data).pixels).max(axis=2)
            kept += (changed > 32).sum() >= 64
    assert kept <= 1  # by chance, two bytes are left


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_no_sound_photograph_is_refused(options):
    files = sorted(REAL.rglob("*.jpg"))
    if not files:
        pytest.skip("the real photographs are not here")
    for file in files:
        data = file.read_bytes()
        assert decode_jpeg(data, read_header(data), 1) is not None
        pixels = decoded(data).pixels
        assert decoded(encoded(pixels, **options)).pixels.shape == pixels.shape
