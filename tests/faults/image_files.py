"""Hostile image files, written from the formats' specifications, each with its expected verdict.

Every file that is kept shows `PIXELS`, or as much of them as the format can hold, so that a row of
24x24 pixels stores them unscaled.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, features

SIDE = 24
_Y, _X = np.mgrid[:SIDE, :SIDE]
PIXELS = np.stack([_X * 10, _Y * 10, (_X + 2 * _Y) * 3], axis=-1).astype(np.uint8)
"""Colours that rise to the right and downwards, so that every turned or mirrored copy differs."""


@dataclass(frozen=True)
class Kept:
    """The file is stored, with this size, and with these pixels up to a tolerance if given."""

    pixels: np.ndarray | None = None
    size: tuple[int, int] = (SIDE, SIDE)
    tolerance: int = 0


@dataclass(frozen=True)
class Rejected:
    """The file is left out for one of these reasons; its message matches the pattern `says`."""

    reasons: str
    says: str = "."
    stage: str = "decode"


@dataclass(frozen=True)
class ImageFile:
    """A file: its name, its bytes and the expected verdict."""

    name: str
    data: bytes
    verdict: Kept | Rejected

    def __str__(self):
        return self.name


def encoded(pixels, image_format, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def jpeg(pixels=PIXELS, **options):
    return encoded(pixels, "JPEG", **{"quality": 95, "subsampling": 0} | options)


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width=SIDE, height=SIDE, depth=8, colour=2, rows=None, before=b"", signature=True):
    """A PNG made by hand; without `rows` it has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = b"" if rows is None else chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows)))
    start = b"\x89PNG\r\n\x1a\n" if signature else b""
    return start + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def tiled_tiff(side, compression=1, data=b""):
    """A TIFF of 24x24 pixels in one tile."""
    offset = 8
    tags = {
        256: (4, SIDE), 257: (4, SIDE), 258: (3, 8), 259: (3, compression), 262: (3, 1),
        277: (3, 1), 322: (4, side), 323: (4, side), 324: (4, offset), 325: (4, len(data)),
    }  # fmt: skip
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", offset + len(data)) + data + directory


def rgb_png(before=b""):
    return png(rows=[row.tobytes() for row in PIXELS], before=before)


def changed(data, place, new):
    """Overwrites bytes with `new` at `place`: a position, or bytes that come right before it."""
    at = data.index(place) + len(place) if isinstance(place, bytes) else place
    return data[:at] + new + data[at + len(new) :]


def flipped(data, at):
    return changed(data, at, bytes([data[at] ^ 1]))


def tiff_with(data, **values):
    """A little-endian TIFF with some tags replaced by values of type LONG."""
    at = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, at)[0]):
        entry = at + 2 + 12 * i
        value = values.get(f"tag{struct.unpack_from('<H', data, entry)[0]}")
        if value is not None:
            data = changed(data, entry + 2, struct.pack("<HII", 4, 1, value))
    return data


def tiff_loop(data):
    """A TIFF whose first directory points to itself as the next."""
    at = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, at)[0]
    return changed(data, at + 2 + 12 * entries, struct.pack("<I", at))


def without_segment(data, marker):
    at = data.index(marker)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def with_segment(data, marker, body):
    return data[:2] + marker + struct.pack(">H", len(body) + 2) + body + data[2:]


def webp_of(width, height):
    """An animated WebP's header without a frame."""
    canvas = struct.pack("<I", 10) + b"\2\0\0\0" + (width - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + canvas + (height - 1).to_bytes(3, "little")
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def as_reference(data):
    """Pixels of the reference decoder."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _files(verdict, files):
    return [ImageFile(name, data, verdict) for name, data in files.items()]


def no_images():
    """Other files with an image's name."""
    text_and_more = _files(
        Rejected("not_an_image", "expected one of JPEG, PNG"),
        {
            "one_byte.jpg": b"\xff",
            "text.jpg": b"this is a text\n" * 40,
            "error_page.jpg": b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
            "json.png": b'{"error": "rate limit"}',
            "lfs_pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "zeros.jpg": bytes(4096),
            "pdf.jpg": b"%PDF-1.7\n" + bytes(200),
            "zip.png": b"PK\3\4" + bytes(200),
            "gzip.jpg": b"\x1f\x8b\x08" + bytes(200),
            "wave.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
            "postscript.jpg": encoded(PIXELS, "EPS"),
            "film.jpg": b"\0\0\0\x18ftypisom" + bytes(200),
            "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        },
    )
    empty = ImageFile("empty.jpg", b"", Rejected("not_an_image", "the file is empty"))
    telephones = _files(
        Rejected("unsupported", "cannot be decoded here: convert it to JPEG or PNG"),
        {
            "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(200),
            "photo.heic": b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(200),
            "photo.jxl": b"\xff\x0a" + bytes(200),
        },
    )
    return [*text_and_more, empty, *telephones]


def avifs():
    """AVIF: whole, cut, and with a header that claims more pixels than are ever decoded."""
    if not features.check("avif"):
        return []
    whole = encoded(PIXELS, "AVIF", quality=98, subsampling="4:4:4")
    claim = changed(whole, whole.index(b"ispe") + 8, struct.pack(">II", 100_000, 100_000))
    return [
        ImageFile("whole.avif", whole, Kept(PIXELS, tolerance=40)),
        ImageFile("avif_named.jpg", whole, Kept(PIXELS, tolerance=40)),
        *_files(
            Rejected("corrupt truncated"),
            {
                "cut.avif": whole[: len(whole) * 3 // 4],
                "only_header.avif": whole[: whole.index(b"mdat") + 4],
                "brand.avif": whole[:32],
                "no_pixels.avif": changed(whole, whole.index(b"mdat") + 4, bytes(100)),
            },
        ),
        ImageFile("bomb.avif", claim, Rejected("corrupt too_large")),
    ]


def bombs():
    """Headers that claim more pixels than are ever decoded."""
    jp2 = encoded(PIXELS, "JPEG2000")
    side = struct.pack(">II", 100_000, 100_000)
    jp2 = changed(changed(jp2, b"ihdr", side), jp2.index(b"\xff\x51") + 6, side)
    bmp = changed(encoded(PIXELS, "BMP"), 18, struct.pack("<ii", 100_000, 100_000))
    return _files(
        Rejected("too_large", "178,?956,?970"),
        {
            "bomb.jpg": changed(jpeg(), jpeg().index(b"\xff\xc0") + 5, b"\xff\xdc\xff\xdc"),
            "bomb_exif.jpg": changed(
                jpeg(exif=orientation(6)),
                jpeg(exif=orientation(6)).index(b"\xff\xc0") + 5,
                b"\xff\xdc\xff\xdc",
            ),
            "bomb.png": png(100_000, 100_000, rows=[bytes(300)]),
            "bomb_1bit.png": png(100_000, 100_000, 1, 0, rows=[bytes(100)]),
            "bomb_2_31.png": png(2**31 - 1, 2**31 - 1, rows=[b""]),
            "bomb_line.png": png(200_000_000, 1, rows=[b""]),
            "bomb.webp": webp_of(16_383, 16_383),
            "bomb_100k.webp": webp_of(100_000, 100_000),
            "bomb.gif": changed(encoded(PIXELS, "GIF"), 6, b"\xff\xff\xff\xff"),
            "bomb.bmp": bmp,
            "bomb.tif": tiff_with(encoded(PIXELS, "TIFF"), tag256=100_000, tag257=100_000),
            "bomb.ppm": b"P6 100000 100000 255\n" + bytes(300),
            "bomb.jp2": jp2,
        },
    ) + _files(Rejected("too_large", "tiles of 19200x19200"), {"bomb_tile.tif": tiled_tiff(19_200)})


ARITHMETIC = (
    b"\xff\xd8\xff\xdb\0C\0" + b"\x10" * 64 + b"\xff\xc9\0\x0b\x08\0\x18\0\x18\1\1\x11\0"
    b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\xe5\x20\x11\x90" + b"\xff\xd9"
)
"""A grey JPEG of 24x24 with arithmetic coding (SOF9): any bytes are valid codes."""


def jpegs():
    """Odd and damaged JPEGs."""
    whole = jpeg()
    cmyk = jpeg(Image.fromarray(PIXELS).convert("CMYK"))
    ycck = changed(cmyk, cmyk.index(b"Adobe") + 11, b"\2")
    grey = jpeg(PIXELS[..., 0])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kept = {
        "progressive.jpg": jpeg(progressive=True),
        "restarts.jpg": jpeg(restart_marker_blocks=1),
        "half_colour.jpg": jpeg(subsampling="4:2:2"),
        "grey.jpg": grey,
        "cmyk.jpg": cmyk,
        "cmyk_no_adobe.jpg": without_segment(cmyk, b"\xff\xee"),
        "ycck.jpg": ycck,
        "arithmetic.jpg": ARITHMETIC,
        "trailing.jpg": whole + b"\0" * 10_000,
        "padded.jpg": whole[:-2] + bytes(300) + whole[-2:],
        "two_bytes_left.jpg": whole[:-2] + b"\x11\x22" + whole[-2:],
        "two_in_one.jpg": whole + jpeg(255 - PIXELS),
        "comment.jpg": with_segment(whole, b"\xff\xfe", b"x" * 65_000),
        "icc.jpg": jpeg(icc_profile=profile),
        "icc_garbage.jpg": with_segment(whole, b"\xff\xe2", b"ICC_PROFILE\0\1\1" + b"junk" * 99),
        "png_inside.png": whole,
        "tiff_inside.tif": whole,
    }
    corrupt = {
        "only_start.jpg": b"\xff\xd8\xff",
        "only_header.jpg": whole[: whole.index(b"\xff\xda")],
        "height_0.jpg": changed(whole, whole.index(b"\xff\xc0") + 5, b"\0\0"),
        "lossless.jpg": whole.replace(b"\xff\xc0", b"\xff\xc3", 1),
        "no_quantization.jpg": without_segment(whole, b"\xff\xdb"),
        "hole.jpg": whole[: len(whole) // 2] + whole[len(whole) // 2 + 90 :],
        "zeroed_tail.jpg": whole[:-200] + bytes(200),
        "bytes_left.jpg": whole[:-2] + b"\x11\x22\x33" * 20 + whole[-2:],
        "segment_in_scan.jpg": whole[:-90] + b"\xff\xe5\0\x06abcd" + whole[-90:],
    }
    return (
        [
            ImageFile(name, data, Kept(as_reference(data), tolerance=3))
            for name, data in kept.items()
        ]
        + _files(Rejected("corrupt truncated", "damaged|cut short|interrupted"), corrupt)
        + [
            ImageFile(
                "12_bit.jpg",
                changed(whole, whole.index(b"\xff\xc0") + 4, b"\x0c"),
                Rejected("corrupt"),
            )
        ]
    )


def orientations():
    """EXIF: a turned image comes out upright; an invalid orientation changes nothing."""
    turns = Image.Transpose
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of Image.Transpose
    files = []
    for value in range(1, 9):
        image = Image.fromarray(PIXELS)
        stored = image if value == 1 else image.transpose(turns(undo[value]))
        exact = {"PNG": "png", "TIFF": "tif"}
        for name, suffix in exact.items() if value in (1, 6, 7) else ():
            data = encoded(stored, name, exif=orientation(value))
            files.append(ImageFile(f"orientation_{value}.{suffix}", data, Kept(PIXELS)))
            if name == "PNG":
                plain, exif = encoded(stored, name), orientation(value).tobytes()[6:]
                data = plain[:-12] + chunk(b"eXIf", exif) + plain[-12:]
                files.append(ImageFile(f"orientation_{value}_last.png", data, Kept(PIXELS)))
        data = jpeg(stored, exif=orientation(value))
        files.append(ImageFile(f"orientation_{value}.jpg", data, Kept(PIXELS, tolerance=9)))
    broken = {
        "orientation_0.jpg": jpeg(exif=orientation(0)),
        "orientation_9.jpg": jpeg(exif=orientation(9)),
        "orientation_65535.jpg": jpeg(exif=orientation(65_535)),
        "exif_garbage.jpg": jpeg(exif=b"Exif\0\0garbage"),
        "exif_cut.jpg": jpeg(exif=orientation(6).tobytes()[:-9]),
        "exif_far.jpg": jpeg(exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "exif_loop.jpg": jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08"),
        "exif_endless.jpg": jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1\x12\0\3" * 99),
    }
    return files + _files(Kept(PIXELS, tolerance=9), broken)


def odd_pngs():
    """PNGs of other kinds than most, and PNGs with damage that no pixel suffers from."""
    whole = rgb_png()
    grey = PIXELS[..., :1].repeat(3, axis=2)
    image = Image.fromarray(PIXELS)
    deep = png(depth=16, rows=[row.astype(">u2").tobytes() for row in PIXELS.astype(int) * 257])
    grey_deep = encoded((PIXELS[..., 0].astype(np.uint16) * 257), "PNG")
    alpha = np.dstack([PIXELS, PIXELS[..., :1]])
    palette = image.quantize(64)
    two = np.where(PIXELS[..., :1] > 99, 255, 0).astype(np.uint8).repeat(3, axis=2)
    frames = [image, Image.fromarray(255 - PIXELS)]
    kept = {
        "deep.png": (deep, PIXELS),
        "grey_deep.png": (grey_deep, grey),
        "grey_alpha.png": (
            encoded(Image.fromarray(alpha).getchannel(0).convert("LA"), "PNG"),
            grey,
        ),
        "alpha.png": (encoded(alpha, "PNG"), PIXELS),
        "palette.png": (
            encoded(palette, "PNG", transparency=3),
            np.asarray(palette.convert("RGB")),
        ),
        "one_bit.png": (encoded(Image.fromarray(two[..., 0]).convert("1"), "PNG"), two),
        "apng.png": (encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), PIXELS),
        "text_5MB.png": (rgb_png(chunk(b"tEXt", b"key\0" + b"a" * (5 << 20))), PIXELS),
        "icc_garbage.png": (rgb_png(chunk(b"iCCP", b"name\0\0zzz")), PIXELS),
        "trailing.png": (whole + b"\0" * 9999, PIXELS),
        "named.jpg": (whole, PIXELS),
        # The chunk's checksum is wrong, but the one inside the compressed pixels is right.
        "chunk_crc.png": (flipped(whole, len(whole) - 13), PIXELS),
    }
    return [ImageFile(name, data, Kept(pixels)) for name, (data, pixels) in kept.items()]


def damaged_pngs():
    """PNGs that are no whole picture, or take far more memory than they should."""
    whole = rgb_png()
    text_crc = chunk(b"tEXt", b"key\0value")
    at = whole.index(b"IDAT")
    bomb = zlib.compress(bytes(1 << 26))
    corrupt = {
        "text_bomb.png": (rgb_png(chunk(b"zTXt", b"key\0\0" + bomb)), "MAX_TEXT_CHUNK"),
        "unicode_text_bomb.png": (
            rgb_png(chunk(b"iTXt", b"key\0\1\0\0\0" + bomb)),
            "MAX_TEXT_CHUNK",
        ),
        "icc_bomb.png": (rgb_png(chunk(b"iCCP", b"name\0\0" + bomb)), "MAX_TEXT_CHUNK"),
        "text_crc.png": (rgb_png(flipped(text_crc, len(text_crc) - 1)), "damaged"),
        "header_crc.png": (flipped(whole, 29), "damaged"),
        "pixels.png": (flipped(whole, at + 60), "damaged"),
        "checksum.png": (flipped(whole, len(whole) - 17), "damaged"),
        "no_pixels.png": (png(), "damaged|interrupted"),
        "size_0.png": (png(0, 0), "damaged"),
        "fewer_rows.png": (
            png(height=48, rows=[r.tobytes() for r in PIXELS]),
            "damaged|interrupted",
        ),
        "no_palette.png": (png(colour=3, rows=[bytes(SIDE)] * SIDE), "."),
        "no_signature.png": (png(rows=[r.tobytes() for r in PIXELS], signature=False), "."),
    }
    return [
        ImageFile(name, data, Rejected("corrupt truncated not_an_image", says))
        for name, (data, says) in corrupt.items()
    ]


def others():
    """GIF, WebP, TIFF, BMP, PPM and JPEG 2000 that are read."""
    image = Image.fromarray(PIXELS)
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - PIXELS)]}
    alpha = np.dstack([PIXELS, np.full((SIDE, SIDE), 255, np.uint8)])
    gif = encoded(image, "GIF", **frames)
    tiff = encoded(PIXELS, "TIFF")
    grey = PIXELS[..., :1].repeat(3, axis=2)
    deep = PIXELS[..., 0].astype(">u2") * 257
    two = np.where(PIXELS[..., 0] > 99, 255, 0).astype(np.uint8)
    kept = {
        "lossless.webp": (encoded(PIXELS, "WEBP", lossless=True), PIXELS),
        "alpha.webp": (encoded(alpha, "WEBP", lossless=True, exact=True), PIXELS),
        "animated.webp": (encoded(image, "WEBP", lossless=True, **frames), PIXELS),
        "animated.gif": (gif, as_reference(gif)),
        "gif_named.webp": (gif, as_reference(gif)),
        "pages.tif": (encoded(image, "TIFF", **frames), PIXELS),
        "lzw.tif": (encoded(PIXELS, "TIFF", compression="tiff_lzw"), PIXELS),
        "deep.tif": (encoded(PIXELS[..., 0].astype(np.uint16) * 257, "TIFF"), grey),
        "fax.tif": (
            encoded(Image.fromarray(two).convert("1"), "TIFF", compression="group4"),
            two[..., None].repeat(3, axis=2),
        ),
        "loop.tif": (tiff_loop(tiff), PIXELS),
        "downwards.bmp": (
            changed(encoded(PIXELS[::-1], "BMP"), 22, struct.pack("<i", -SIDE)),
            PIXELS,
        ),
        "deep.pgm": (b"P5 24 24 65535\n" + deep.tobytes(), grey),
        "text.ppm": (b"P3 24 24 255\n" + " ".join(map(str, PIXELS.ravel())).encode(), PIXELS),
        "lossless.jp2": (encoded(PIXELS, "JPEG2000"), PIXELS),
        "tiled.jp2": (encoded(PIXELS, "JPEG2000", tile_size=(12, 12)), PIXELS),
        "codestream.jp2": (encoded(PIXELS, "JPEG2000", no_jp2=True), PIXELS),
    }
    return [
        *(ImageFile(name, data, Kept(pixels)) for name, (data, pixels) in kept.items()),
        ImageFile("lossy.webp", encoded(PIXELS, "WEBP", quality=95), Kept(PIXELS, tolerance=40)),
    ]


def refused_others():
    """GIF, WebP, TIFF, PPM and JPEG 2000 that are damaged, or hold numbers instead of colours."""
    gif = encoded(Image.fromarray(PIXELS), "GIF")
    tiff = encoded(PIXELS, "TIFF")
    numbers = {
        "float.tif": encoded(PIXELS[..., 0].astype(np.float32), "TIFF"),
        "int32.tif": encoded(PIXELS[..., 0].astype(np.int32), "TIFF"),
    }
    untiled = encoded(PIXELS, "JPEG2000")
    tiled = encoded(PIXELS, "JPEG2000", tile_size=(12, 12))
    second_tile = tiled.index(b"\xff\x90", tiled.index(b"\xff\x90") + 2)
    broken = {
        "missing_strips.tif": tiff_with(tiff, tag278=3),
        "tile_of_text.tif": changed(
            tiled_tiff(SIDE, data=bytes(SIDE * SIDE)),
            tiled_tiff(SIDE, data=bytes(SIDE * SIDE)).index(struct.pack("<HHI", 322, 4, 1)),
            struct.pack("<HHI", 322, 2, 4),
        ),
        "one_plane_of_three.tif": tiff_with(encoded(PIXELS, "TIFF"), tag284=2),
        "tiles_missing.jp2": tiled[:second_tile],
        # OpenJPEG reports no error for these two; it leaves the remaining tiles black.
        "tile_marker.jp2": tiled[: second_tile + 2],
        "only_tile_marker.jp2": untiled[: untiled.index(b"\xff\x90") + 2],
        "no_tile.jp2": tiled[: tiled.index(b"\xff\x90") + 12],
        "no_end.jp2": untiled[:-2],
        "no_frame.gif": gif[: 13 + 3 * 256],
        "far_strip.tif": tiff_with(tiff, tag273=1 << 30),
        "size_0.tif": tiff_with(tiff, tag256=0),
        "only_header.webp": webp_of(SIDE, SIDE),
        "odd_numbers.ppm": b"P3 24 24 255\n1 2 x",
        "cut.jp2": untiled[:120],
    }
    return [
        *_files(Rejected("unsupported", "32-bit pixels .* expected 8 or 16 bits"), numbers),
        *_files(Rejected("corrupt truncated not_an_image"), broken),
    ]


def sizes():
    """The smallest and the longest images."""
    black = [
        ImageFile("1x1.png", png(1, 1, rows=[bytes(3)]), Kept(size=(1, 1))),
        ImageFile("1x65500.png", png(1, 65_500, rows=[bytes(3)] * 65_500), Kept(size=(65_500, 1))),
        ImageFile("65500x1.png", png(65_500, 1, rows=[bytes(3 * 65_500)]), Kept(size=(1, 65_500))),
    ]
    for width, height in ((1, 1), (1, 65_500), (65_500, 1)):
        data = jpeg(np.zeros((height, width, 3), np.uint8))
        black.append(ImageFile(f"{width}x{height}.jpg", data, Kept(size=(height, width))))
    return black


def hostile_images():
    """All files of this module."""
    return [
        *no_images(), *bombs(), *jpegs(), *avifs(), *orientations(), *odd_pngs(),
        *damaged_pngs(), *others(), *refused_others(), *sizes(),
    ]  # fmt: skip
