"""``python -m benchmarks.processing``: converts photographs, compared with peers.

Prints the tables. ``--write-docs`` also updates the section ``processing`` of
``docs/benchmarks.md``. The photographs are synthetic: a texture with the spectrum of photographs,
drawn people, and sensor noise. At quality 90 they have 100 to 200 kB, like real ones.
``--photos DIR`` takes your own JPEGs instead, annotated in any format that this package reads.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np
import simplejpeg
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks import results
from benchmarks.harness import Result, measure
from benchmarks.memory_data import made_once
from benchmarks.writers import (
    LIMIT,
    SIDE,
    BareLoop,
    BareLoopAllTasks,
    Ours,
    OursAllTasks,
    OursDefaultSizes,
    photographs_in,
    writers,
)
from processing.core.cpus import available_cpus
from processing.demo.people import KEYPOINT_NAMES, put_person

HEIGHT, WIDTH = 768, 1024
QUALITY: Final = 90
PACKAGES: Final = (
    "numpy", "opencv-python-headless", "simplejpeg", "torch", "litdata", "mosaicml-streaming",
    "datasets", "pyarrow",
)  # fmt: skip
_ALL_TASKS: Final = {
    BareLoopAllTasks.name: BareLoop.name,
    OursAllTasks.name: Ours.name,
    OursDefaultSizes.name: Ours.name,
}
"""By contender that makes the rows of all tasks, the one that makes the detector's only."""
_TEXTURES: Final = 8
_LARGEST_FAMILY: Final = 3
_EXPOSURES: Final = 4
"""Photographs per scene; making the scene takes most of the time."""


def make_photographs(folder: Path, images: int, different: int) -> None:
    """Write JPEGs with COCO boxes and keypoints; each depends only on its number.

    Args:
        folder: an empty folder.
        images: number of files.
        different: number of files with a content of their own; the others are links to these.
    """
    (folder / "images").mkdir()
    with ProcessPoolExecutor(available_cpus(), multiprocessing.get_context("spawn")) as pool:
        scenes = [range(i, min(i + _EXPOSURES, different)) for i in range(0, different, _EXPOSURES)]
        faces_of_scenes = list(pool.map(partial(_photograph_scene, folder), scenes, chunksize=10))
    coco: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "face", "keypoints": list(KEYPOINT_NAMES)}],
    }
    for number in range(images):
        name = f"images/{number:06d}.jpg"
        coco["images"].append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        if number >= different:
            os.link(folder / f"images/{number % different:06d}.jpg", folder / name)
    for face in chain.from_iterable(faces_of_scenes):
        for number in range(face["image_id"], images, different):
            entry = {**face, "image_id": number, "id": len(coco["annotations"])}
            coco["annotations"].append(entry)
    (folder / "faces.json").write_bytes(msgspec.json.encode(coco))


def _photograph_scene(folder: Path, numbers: range) -> list[dict[str, Any]]:
    """Write the photographs of one scene; return the COCO entries of their faces, without ids."""
    rng = np.random.default_rng((1, numbers.start))
    scene = _background(rng)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.2), 0.7])
    people = int(rng.integers(1, _LARGEST_FAMILY + 1))
    family = []
    for place in range(people):
        centre = (WIDTH * (place + 0.5) / people, HEIGHT * rng.uniform(0.3, 0.6))
        (x1, y1, x2, y2), points = put_person(rng, scene, centre, rng.uniform(40, 100), light)
        bbox = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
        keypoints = np.round(points, 2).ravel().tolist()
        family.append({"category_id": 1, "bbox": bbox, "keypoints": keypoints})
    blurred = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.6, 1.0))
    for number in numbers:
        grain = rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(
            rng.uniform(0.3, 1.2)
        )
        pixels = np.clip(blurred * np.float32(rng.uniform(0.7, 1.1)) + grain, 0, 255).astype(
            np.uint8
        )
        jpeg = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling="420")
        (folder / "images" / f"{number:06d}.jpg").write_bytes(jpeg)
    return [{"image_id": number, **face} for number in numbers for face in family]


def _background(rng: Generator) -> NDArray[np.float32]:
    """Return float32 (HEIGHT, WIDTH, 3): two textures with a curve as a hard edge between them."""
    near, far = _shifted(rng), _shifted(rng)
    y = np.arange(HEIGHT)[:, None]
    ridge = HEIGHT * 0.5 + 150 * np.sin(np.arange(WIDTH) / rng.uniform(60, 200) + rng.uniform(0, 6))
    canvas = np.where((y > ridge)[..., None], near, far + np.float32(30))
    for _ in range(40):  # rectangles: photographs have hard edges, which cost bytes in a JPEG
        corner = rng.integers(0, (WIDTH, HEIGHT))
        far_corner = corner + rng.integers(8, 120, 2)
        colour = rng.uniform(20, 235, 3)
        cv2.rectangle(
            canvas, corner.tolist(), far_corner.tolist(), colour.tolist(), -1, cv2.LINE_AA
        )
    return canvas


def _shifted(rng: Generator) -> NDArray[np.float32]:
    """Return one of a few textures, moved: textures are slow to make, and repeat seamlessly."""
    texture = _texture(int(rng.integers(_TEXTURES)))
    return np.roll(texture, rng.integers(0, (HEIGHT, WIDTH)), axis=(0, 1))


@functools.cache
def _texture(number: int) -> NDArray[np.float32]:
    """Return noise with the 1/f spectrum of photographs: strong in brightness, weak in colour."""
    rng = np.random.default_rng((2, number))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    frequency[0, 0] = np.inf  # no constant part
    planes = []
    for contrast in (45, 10, 10):
        spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH), np.float32)) / frequency
        plane = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
        planes.append(contrast * plane / plane.std())
    light, red, blue = planes
    return (
        np.stack([light + red, light - (red + blue) / 2, light + blue], -1, dtype=np.float32) + 110
    )


def tables(measured: Mapping[str, Result]) -> Iterator[str]:
    """Yield a table for the detector's data set, then one for all tasks against the detector."""
    detector = {name: one for name, one in measured.items() if name not in _ALL_TASKS}
    yield results.comparison(detector, [LIMIT] if LIMIT in detector else [])
    ours = measured.get(Ours.name)
    all_tasks = {name: one for name, one in measured.items() if name in _ALL_TASKS}
    if ours is None or ours.problem or not all_tasks:
        return
    yield results.comparison({Ours.name: ours, **all_tasks}, [Ours.name])
    yield "Time for all tasks, in times of that for the detector:\n"
    for name, detector_only in _ALL_TASKS.items():
        many, one = measured.get(name), measured.get(detector_only)
        if many and one and not (many.problem or one.problem):
            costs = results.ratios(one.passes, many.passes)
            yield f"- {name}: {results.median_and_range(costs, '.2f')} of *{detector_only}*"
    yield ""


def section(saved: dict[str, Any]) -> str:
    """Return the section of the page."""
    measured = results.load_results(saved["results"])
    return "\n".join(
        [
            "## Processing\n",
            "Written by `python -m benchmarks.processing --write-docs`. "
            f"{saved['photographs']} They are letterboxed to {SIDE}x{SIDE}. Every contender stores"
            " images, boxes and paths, which are compared with the photographs first. LIMIT decodes"
            " at full size and resizes in one thread per core, and writes nothing. The bare loop"
            " reads, makes a checksum, decodes at reduced scale and writes, but is no processor: it"
            " shows what a processor can reach. With all tasks, each face also gives a row for the"
            " landmarker and one for the teacher, of the same size unless the row says otherwise."
            " The start of a contender's processes is part of its"
            " pass. Ours and the bare loop sync their files to the disk."
            f" {results.most_passes([measured])} interleaved passes: median (minimum to maximum);"
            " ratios are formed within a pass.\n",
            *tables(measured),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def add_photographs(parser: argparse.ArgumentParser, images: int) -> None:
    """Add the options that `photographs` reads; by default so many are made."""
    parser.add_argument(
        "--images", type=int, default=images, help="photographs to make (default: %(default)s)"
    )
    parser.add_argument(
        "--different",
        type=int,
        default=2000,
        help="how many of them have a content of their own (default: %(default)s)",
    )
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="folder of annotated JPEGs to take instead"
    )


def photographs(options: argparse.Namespace) -> tuple[Path, str]:
    """Return the work folder, with the photographs in ``raw``, and a sentence about them."""
    if options.photos is None:
        different = min(options.images, options.different)
        name = f"{options.images}-images-{different}-different-{WIDTH}x{HEIGHT}-q{QUALITY}"
        work: Path = options.work / name
        make = partial(make_photographs, images=options.images, different=different)
        made_once(work / "raw", make)
        kind = f"synthetic photographs of {WIDTH}x{HEIGHT} ({different:,} different ones)"
    else:
        work = options.work / "photos"
        work.mkdir(parents=True, exist_ok=True)
        (work / "raw").unlink(missing_ok=True)
        (work / "raw").symlink_to(options.photos.absolute(), target_is_directory=True)
        kind = "photographs"
    listed = photographs_in(work / "raw")
    size = sum(one.file.stat().st_size for one in listed) / len(listed) / 1e3
    return work, f"{len(listed):,} {kind}, {size:.0f} kB each."


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("processing", __doc__)
    add_photographs(parser, images=10_000)
    results.add_passes(parser, default=3)
    results.add_only(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        work, described = photographs(options)
        # The limit is always measured: the ratios need it.
        chosen = [
            one
            for one in writers()
            if one.name == LIMIT or results.is_chosen(one.name, options.only)
        ]
        measured = measure(chosen, data=work / "raw", work=work, passes=options.passes)
        results.save(
            saved_file,
            photographs=described,
            machine=results.machine(work),
            versions=results.versions(PACKAGES),
            results=measured,
        )
    saved = json.loads(saved_file.read_text())
    print("\n".join(tables(results.load_results(saved["results"]))))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "processing", section(saved))


if __name__ == "__main__":
    main()
