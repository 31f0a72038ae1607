import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps, PngImagePlugin

from processing.core.coordinates import source_to_stored
from processing.core.errors import ImageError
from processing.imaging.decoding import MAX_PIXELS, decode, read_header
from processing.imaging.photo import ImageHeader
from processing.imaging.placement import crop_rect, largest_reduction, letterbox_rect
from processing.imaging.resizing import render

REAL = Path(__file__).parents[2].parent / "shared/real"


def scene(height, width):
    """A smooth photograph-like picture."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 12 + 2, width // 12 + 2, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(pixels, image_format="JPEG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def orientation_tag(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def decoded(data, reduction=1):
    return decode(data, read_header(data), reduction=reduction)


def reason_of(call, *args):
    with pytest.raises(ImageError) as caught:
        call(*args)
    return caught.value.reason


# --- headers


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_header_has_format_and_size(image_format):
    header = read_header(encoded(scene(30, 50), image_format))
    assert header == ImageHeader(image_format, width=50, height=30, orientation=1)
    assert header.stored_size == header.upright_size == (30, 50)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_turns_pixels_and_size_upright(image_format, orientation):
    data = encoded(scene(37, 53), image_format, exif=orientation_tag(orientation))
    header = read_header(data)
    assert header.orientation == orientation
    assert header.stored_size == (37, 53)
    photo = decode(data, header)
    reference = Image.open(io.BytesIO(data))
    reference.load()
    expected = np.asarray(ImageOps.exif_transpose(reference).convert("RGB"))
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.pixels.flags.c_contiguous
    assert header.upright_size == photo.source_size == expected.shape[:2]


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_reading_a_header_decodes_nothing(image_format, monkeypatch):
    loaded = []
    data = encoded(scene(37, 53), image_format)
    for base in (Image.Image, ImageFile.ImageFile, PngImagePlugin.PngImageFile):
        monkeypatch.setattr(base, "load", lambda *_: loaded.append(1))
    read_header(data)
    assert not loaded


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(value):
    assert read_header(encoded(scene(9, 9), exif=orientation_tag(value))).orientation == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, and it is corrupt
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"MM\0*", b"garbage", b"MM\0*\xff\xff\xff\xff", None])
def test_a_broken_exif_block_is_upright(exif, image_format):
    block = orientation_tag(6).tobytes()[:-9] if exif is None else b"Exif\0\0" + exif
    assert read_header(encoded(scene(9, 9), image_format, exif=block)).orientation == 1


@pytest.mark.parametrize("data", [b"", b"hello", b"<html></html>", b"RIFF\x24\0\0\0WAVE"])
def test_other_files_are_not_images(data):
    assert reason_of(read_header, data) == "not_an_image"


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, for TIFF
@pytest.mark.parametrize(
    ("image_format", "options"),
    [("WEBP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {}), ("PNG", {}), ("GIF", {})],
)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_the_beginning_of_an_image_is_not_called_something_else(image_format, options, kept):
    data = encoded(scene(60, 90), image_format, **options)
    cut = data[: max(int(kept * len(data)), 16)]
    assert reason_of(decoded, cut) in ("truncated", "corrupt")


def test_postscript_is_not_an_image_because_pillow_would_run_it():
    assert reason_of(read_header, encoded(scene(9, 9), "EPS")) == "not_an_image"


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 0) + end + b"\xae\x42\x60\x82"


def test_an_image_of_too_many_pixels_is_refused_unread():
    assert reason_of(read_header, png_header(60_000, 60_000)) == "too_large"


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow warns below our limit
def test_the_limit_is_this_module_s_own(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason_of(read_header, png_header(MAX_PIXELS // 1000 + 1, 1000)) == "too_large"
    assert read_header(png_header(MAX_PIXELS // 1000, 1000)).height == 1000


def test_a_jpeg_without_exif_is_read_like_one_with_it():
    plain = encoded(scene(37, 53))
    assert read_header(plain) == read_header(encoded(scene(37, 53), exif=orientation_tag(1)))
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    assert read_header(encoded(scene(37, 53), xmp=xmp)).orientation == 6


# --- kinds of pixels


def test_jpeg_decodes_to_the_reference_decoder_s_pixels():
    data = encoded(scene(67, 91), quality=90)
    np.testing.assert_array_equal(decoded(data).pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_grey_becomes_three_equal_channels():
    grey = scene(20, 30)[..., 0]
    for image_format in ("JPEG", "PNG"):
        pixels = decoded(encoded(grey, image_format)).pixels
        assert pixels.shape == (20, 30, 3)
        np.testing.assert_allclose(pixels, np.repeat(grey[..., None], 3, 2), atol=20)
        assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(image_format):
    levels = np.array([[0, 128, 129, 257], [32768, 40000, 65406, 65535]], dtype=np.uint16)
    pixels = decoded(encoded(levels, image_format)).pixels
    assert pixels[..., 0].tolist() == [[0, 0, 1, 1], [128, 156, 254, 255]]


def test_alpha_is_dropped():
    rgba = np.dstack([scene(9, 9), np.zeros((9, 9), np.uint8)])
    np.testing.assert_array_equal(decoded(encoded(rgba, "PNG")).pixels, rgba[..., :3])


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_a_palette_becomes_its_colours(transparency):
    image = Image.fromarray(scene(9, 9)).quantize(256)
    options = {} if transparency is None else {"transparency": transparency}
    pixels = decoded(encoded(image, "PNG", **options)).pixels
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_is_converted():
    image = Image.new("CMYK", (40, 30), (255, 0, 0, 0))
    colour = decoded(encoded(image, quality=95)).pixels.mean(axis=(0, 1))
    np.testing.assert_allclose(colour, [0, 255, 255], atol=4)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data).pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_unsupported(dtype):
    data = encoded(np.ones((4, 4), dtype), "TIFF")
    assert reason_of(decoded, data) == "unsupported"


# --- damage


@pytest.mark.parametrize(
    "data",
    [
        encoded(scene(40, 56), quality=60),
        encoded(scene(40, 56), progressive=True, quality=60),
        encoded(scene(40, 56), restart_marker_blocks=2),
        encoded(Image.new("CMYK", (40, 30), (255, 9, 99, 0))),
        encoded(scene(20, 28), "PNG"),
        encoded(scene(20, 28), "WEBP"),
        encoded(scene(20, 28), "BMP"),
        encoded(scene(20, 28), "GIF"),
    ],
    ids=["jpeg", "progressive", "restarts", "cmyk", "png", "webp", "bmp", "gif"],
)
def test_no_truncation_passes_unless_nothing_is_lost(data):
    whole = decoded(data).pixels
    refused = 0
    for length in range(len(data)):
        try:
            pixels = decoded(data[:length]).pixels
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(pixels, whole)
    assert refused > 0.9 * len(data)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("reduction", [1, 2])
def test_a_file_cut_in_the_middle_is_called_truncated(image_format, reduction):
    data = encoded(scene(200, 300), image_format)
    with pytest.raises(ImageError, match="interrupted") as caught:
        decoded(data[: len(data) // 2], reduction)
    assert caught.value.reason == "truncated"


def test_a_cut_jpeg_that_was_given_an_end_is_corrupt():
    data = encoded(scene(200, 300))
    assert reason_of(decoded, data[: len(data) // 2] + b"\xff\xd9") == "corrupt"


def test_a_png_with_a_flipped_bit_is_refused():
    data = bytearray(encoded(scene(200, 300), "PNG"))
    data[len(data) // 2] ^= 0x10
    assert reason_of(decoded, bytes(data)) == "corrupt"


def with_extraneous_bytes(data, *, at_end):
    marker = b"\xff\xd9" if at_end else b"\xff\xc4"
    where = data.rindex(marker) if at_end else data.index(marker)
    return data[:where] + b"\x11\x22" + data[where:]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
def test_harmless_extraneous_bytes_are_kept(at_end, progressive):
    data = encoded(scene(67, 91), progressive=progressive)
    odd = with_extraneous_bytes(data, at_end=at_end)
    for reduction in (1, 2):
        photo = decoded(odd, reduction)
        np.testing.assert_array_equal(photo.pixels, decoded(data, photo.reduction).pixels)


def after_start(*segment):
    return lambda data: data[:2] + b"".join(segment) + data[2:]


def with_unknown_jfif_revision(data):
    return data.replace(b"JFIF\0\1", b"JFIF\0\2")


def with_odd_scan_parameters(data):
    where = data.index(b"\xff\xda")
    where += 2 + int.from_bytes(data[where + 2 : where + 4], "big")
    return data[: where - 2] + b"\0" + data[where - 1 :]


def with_bytes_before_the_scan(data):
    return data.replace(b"\xff\xda", b"\0\x11\x22\xff\xda")


HARMLESS = [
    with_bytes_before_the_scan,
    with_unknown_jfif_revision,
    with_odd_scan_parameters,
    after_start(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07"),
    after_start(b"\xff\xe5\0\x04ab" + b"junk" * 99),
    after_start(b"\xff\xe5\0\0"),
]


@pytest.mark.parametrize("oddity", HARMLESS)
def test_oddities_that_every_viewer_accepts_are_kept(oddity):
    data = encoded(scene(67, 91))
    assert oddity(data) != data
    np.testing.assert_array_equal(decoded(oddity(data)).pixels, decoded(data).pixels)
    both_ends = with_extraneous_bytes(oddity(data), at_end=True)
    np.testing.assert_array_equal(decoded(both_ends).pixels, decoded(data).pixels)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize("oddity", HARMLESS)
def test_a_harmless_warning_does_not_hide_damage(oddity, reduction, kept):
    data = encoded(scene(200, 300))
    cut = oddity(data[: int(len(data) * kept)])
    assert reason_of(decoded, cut + b"\xff\xd9", reduction) == "corrupt"
    assert reason_of(decoded, cut, reduction) == "truncated"


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_extraneous_bytes_do_not_hide_damage_of_a_progressive_jpeg(kept):
    data = encoded(scene(200, 300), progressive=True)
    start = data.index(b"\xff\xc4")
    cut = data[:start] + b"\0\x11\x22" + data[start : int(len(data) * kept)]
    assert reason_of(decoded, cut) == "truncated"
    holed = cut[: len(cut) // 2] + cut[len(cut) // 2 + 150 :] + data[int(len(data) * kept) :]
    assert reason_of(decoded, holed) == "corrupt"


def test_the_last_scan_may_be_padded_to_a_block_and_no_further():
    data = encoded(scene(200, 300))
    for count in (1, 500):
        padded = data[:-2] + bytes(count) + data[-2:]
        np.testing.assert_array_equal(decoded(padded).pixels, decoded(data).pixels)
    assert reason_of(decoded, data[:-2] + bytes(600) + data[-2:]) == "corrupt"


def test_bytes_left_over_within_the_scans_are_damage():
    restarts = encoded(scene(200, 300), restart_marker_blocks=20)
    where = restarts.index(b"\xff\xd3", restarts.index(b"\xff\xda"))
    progressive = encoded(scene(200, 300), progressive=True)
    for data, place in ((restarts, where), (progressive, progressive.rindex(b"\xff\xc4"))):
        assert reason_of(decoded, data[:place] + b"\x11" * 40 + data[place:]) == "corrupt"


def test_trailing_bytes_after_a_jpeg_are_kept():
    data = encoded(scene(67, 91))
    np.testing.assert_array_equal(decoded(data + b"\0" * 999).pixels, decoded(data).pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_extraneous_bytes_do_not_hide_a_truncation(progressive):
    data = with_extraneous_bytes(encoded(scene(67, 91), progressive=progressive), at_end=False)
    for length in range(len(data) * 2 // 3, len(data) - 2, 7):
        assert reason_of(decoded, data[:length]) == "truncated"


def test_pixels_that_differ_from_the_header_are_corrupt():
    data = encoded(scene(30, 50))
    header = ImageHeader("JPEG", width=30, height=50, orientation=1)
    assert reason_of(decode, data, header) == "corrupt"


# --- reduction


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (71, 103), (9, 128)])
def test_a_reduced_pixel_is_the_mean_of_what_it_covers(height, width, reduction):
    pixels = cv2.resize(scene(4, 4), (width, height), interpolation=cv2.INTER_LINEAR)
    photo = decoded(encoded(pixels, quality=98, subsampling=0), reduction)
    assert photo.reduction == reduction
    assert photo.source_size == (height, width)
    assert photo.pixels.shape == (-(-height // reduction), -(-width // reduction), 3)
    rows, columns = height // reduction, width // reduction
    whole = pixels[: rows * reduction, : columns * reduction].astype(float)
    means = whole.reshape(rows, reduction, columns, reduction, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(photo.pixels[:rows, :columns], means, atol=6)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.integers(1, 8))
@settings(deadline=None)
def test_a_reduced_image_has_the_size_of_its_reduction(height, width, reduction, orientation):
    data = encoded(np.zeros((height, width, 3), np.uint8), exif=orientation_tag(orientation))
    photo = decoded(data, reduction)
    assert photo.reduction <= reduction
    expected = [-(-side // photo.reduction) for side in photo.source_size]
    assert list(photo.pixels.shape[:2]) == expected


def test_an_image_smaller_than_a_block_is_not_reduced():
    # The codec's 3/8 and 1/2 of three pixels are both two pixels, which cover different ones.
    assert decoded(encoded(scene(3, 3)), reduction=2).reduction == 1


@pytest.mark.parametrize(("subsampling", "expected"), [("4:4:4", 4), ("4:2:0", 4), ("4:2:2", 2)])
def test_colour_halved_along_one_axis_is_reduced_one_step_less(subsampling, expected):
    data = encoded(scene(64, 96), subsampling=subsampling)
    assert decoded(data, reduction=4).reduction == expected


def test_formats_without_scaled_decoding_report_no_reduction():
    assert decoded(encoded(scene(64, 64), "PNG"), reduction=4).reduction == 1


# --- rendering


MARKER = (150.5, 87.25)


def marked(height, width, x, y):
    """A white Gaussian spot with its centre at (x, y), corners of pixels at whole numbers."""
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    spot = np.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 9.0**2))
    return np.repeat((spot * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image):
    # Grey padding must not weigh.
    weight = np.where(image[..., 0] == 114, 0, image[..., 0]).astype(float)
    weight[weight < 12] = 0
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (241, 319), (245, 331)])
@pytest.mark.parametrize(
    "box",
    [None, (100, 50, 210, 140), (121.3, 60.7, 399, 200), (-70, -30, 180, 120)],
    ids=["letterbox", "inside", "beyond_far_edge", "beyond_near_edge"],
)
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (160, 160)])
def test_a_marker_lands_at_its_coordinates(orientation, reduction, height, width, box, size):
    upright = Image.fromarray(marked(height, width, *MARKER))
    undo = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
    }[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    data = encoded(stored, quality=98, exif=orientation_tag(orientation))
    photo = decoded(data, reduction)
    source_size = photo.source_size
    assert source_size == (height, width)
    rect = letterbox_rect(source_size, size) if box is None else crop_rect(box, 0.1, size)
    out = np.empty((*size, 3), np.uint8)
    shown = render(photo, rect, size, out)
    assert centroid(out) == pytest.approx(source_to_stored(MARKER, shown, size), abs=0.12)


def test_outside_the_image_is_grey_and_inside_is_not():
    photo = decoded(encoded(np.full((100, 200, 3), 255, np.uint8)))
    out = np.zeros((64, 64, 3), np.uint8)
    shown = render(photo, letterbox_rect((100, 200), (64, 64)), (64, 64), out)
    assert shown == (0, -50, 200, 150)
    assert (out[:16] == 114).all()
    assert (out[48:] == 114).all()
    assert (out[16:48] > 250).all()


def test_a_full_view_overwrites_all_of_a_recycled_buffer():
    photo = decoded(encoded(np.zeros((64, 64, 3), np.uint8), "PNG"))
    out = np.full((3, 32, 32, 3), 77, np.uint8)
    render(photo, letterbox_rect((64, 64), (32, 32)), (32, 32), out[1])
    assert not out[1].any()
    assert (out[[0, 2]] == 77).all()


def test_an_image_shown_at_its_own_size_is_itself():
    pixels = scene(60, 80)
    photo = decoded(encoded(pixels, "PNG"))
    out = np.empty_like(pixels)
    rect = render(photo, np.array([0, 0, 80, 60.0]), (60, 80), out)
    np.testing.assert_array_equal(out, pixels)
    assert rect == (0, 0, 80, 60)


def test_shrinking_averages_all_pixels_and_never_skips():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 200
    out = np.empty((16, 16, 3), np.uint8)
    render(decoded(encoded(stripes, "PNG")), np.array([0, 0, 64, 64.0]), (16, 16), out)
    assert (out == 50).all()


def test_a_rectangle_next_to_the_image_shows_nothing():
    photo = decoded(encoded(scene(50, 100)))
    out = np.full((8, 8, 3), 7, np.uint8)
    assert render(photo, np.array([100, 0, 140, 40.0]), (8, 8), out) is None
    assert (out == 7).all()


@pytest.mark.parametrize(
    "rect",
    [
        (-1e9, -1e9, 1e9, 1e9),
        (-1000, -1000, 0.6, 0.6),
        (49.2, 49.2, 49.9, 49.9),
        (10.1, 10.1, 10.4, 10.4),
    ],
)
def test_extreme_rectangles_show_at_least_a_pixel(rect):
    photo = decoded(encoded(np.full((50, 50, 3), 255, np.uint8)))
    out = np.zeros((16, 16, 3), np.uint8)
    shown = render(photo, np.array(rect), (16, 16), out)
    assert np.isfinite(shown).all()
    assert (out > 250).any()


def test_many_threads_decode_and_render_the_same_pixels():
    data = encoded(scene(240, 320), exif=orientation_tag(6))

    def work(_):
        out = np.empty((64, 64, 3), np.uint8)
        photo = decoded(data, 2)
        render(photo, letterbox_rect(photo.source_size, (64, 64)), (64, 64), out)
        return out.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(64)))) == 1


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("sides", [(767, 1023), (769, 1025), (768, 1023), (683, 1021)])
def test_sizes_that_do_not_divide_are_not_shifted(sides, reduction):
    # A shift of half a reduced pixel at the far edge, as from stretching 511.5 to 512, gives less
    # than 36 dB.
    data = encoded(scene(*sides), quality=95, subsampling=0)
    size = (64 * 4 // reduction,) * 2
    full, scaled = np.empty((*size, 3), np.uint8), np.empty((*size, 3), np.uint8)
    photo = decoded(data, reduction)
    rect = letterbox_rect(photo.source_size, size)
    np.testing.assert_array_equal(
        render(photo, rect, size, scaled), render(decoded(data), rect, size, full)
    )
    assert cv2.PSNR(full, scaled) > 46


def test_shrinking_by_four_is_the_mean_of_sixteen():
    pixels = scene(64, 96)
    out = np.empty((16, 24, 3), np.uint8)
    render(decoded(encoded(pixels, "PNG")), np.array([0, 0, 96, 64.0]), (16, 24), out)
    means = pixels.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(out, means, atol=1.1)  # rounded twice


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photographs are not next to the repository")
def test_scaled_decoding_stays_close_to_full_decoding_on_real_photographs():
    ratios = []
    for path in sorted(REAL.glob("**/*.jpg"))[::6]:
        data = path.read_bytes()
        header = read_header(data)
        size = (max(header.upright_size) // 5,) * 2
        rect = letterbox_rect(header.upright_size, size)
        reduction = largest_reduction(rect, header.upright_size, size)
        assert reduction >= 2
        full, scaled = np.empty((*size, 3), np.uint8), np.empty((*size, 3), np.uint8)
        photo = decode(data, header, reduction=reduction)
        shown = render(photo, rect, size, scaled)
        np.testing.assert_array_equal(render(decode(data, header), rect, size, full), shown)
        ratios.append(cv2.PSNR(full, scaled))
    assert np.mean(ratios) > 45
    assert min(ratios) > 38


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "`git lfs pull`"),
        (b"<!DOCTYPE html><html></html>", "download the image again"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "convert it to PNG"),
    ],
)
def test_what_often_has_the_name_of_an_image_is_named_with_a_remedy(data, remedy):
    with pytest.raises(ImageError, match=remedy) as caught:
        read_header(data)
    assert caught.value.reason == "not_an_image"
