"""``python -m benchmarks.processing``: photographs into stored data sets, beside the peers.

Prints the tables; ``--write-docs`` renews the section ``processing`` of ``docs/benchmarks.md``. The
photographs are made: a texture whose spectrum falls off as that of photographs does, people drawn
on it, sensor noise. At quality 90 that takes 100 to 200 kB, as photographs do. ``--photos DIR``
takes your own JPEGs instead, annotated in any format that this package reads.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
from benchmarks.writers import LIMIT, SIDE, Ours, OursAllTasks, photographs_in, writers
from processing.core.cpus import available_cpus
from processing.demo.people import KEYPOINT_NAMES, put_person

HEIGHT, WIDTH = 768, 1024
QUALITY: Final = 90
PACKAGES: Final = (
    "numpy", "opencv-python-headless", "simplejpeg", "torch", "litdata", "mosaicml-streaming",
    "datasets", "pyarrow",
)  # fmt: skip
_TEXTURES: Final = 8
_LARGEST_FAMILY: Final = 3
_EXPOSURES: Final = 4
"""Photographs of one scene; most of the time goes into scenes."""


def make_photographs(folder: Path, images: int) -> None:
    """Writes so many JPEGs with COCO boxes and keypoints; each depends on its number alone."""
    (folder / "images").mkdir()
    with ProcessPoolExecutor(available_cpus(), multiprocessing.get_context("spawn")) as pool:
        scenes = [range(i, min(i + _EXPOSURES, images)) for i in range(0, images, _EXPOSURES)]
        made = list(pool.map(partial(_photograph_scene, folder), scenes, chunksize=10))
    faces = [face for of_scene in made for face in of_scene]
    coco = {
        "images": [
            {"id": i, "file_name": f"images/{i:06d}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in range(images)
        ],
        "annotations": [{"id": i, **face} for i, face in enumerate(faces)],
        "categories": [{"id": 1, "name": "face", "keypoints": list(KEYPOINT_NAMES)}],
    }
    (folder / "faces.json").write_bytes(msgspec.json.encode(coco))


def _photograph_scene(folder: Path, numbers: range) -> list[dict[str, Any]]:
    """Writes photographs of one scene; returns COCO's entries of their faces."""
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
    """Float32 (HEIGHT, WIDTH, 3): two textures divided by a curve, which is a hard edge."""
    near, far = (_shifted(rng) for _ in range(2))
    y = np.arange(HEIGHT)[:, None]
    ridge = HEIGHT * 0.5 + 150 * np.sin(np.arange(WIDTH) / rng.uniform(60, 200) + rng.uniform(0, 6))
    canvas = np.where((y > ridge)[..., None], near, far + np.float32(30))
    for _ in range(40):
        corner = rng.integers(0, (WIDTH, HEIGHT))
        far_corner = corner + rng.integers(8, 120, 2)
        colour = rng.uniform(20, 235, 3)
        cv2.rectangle(
            canvas, corner.tolist(), far_corner.tolist(), colour.tolist(), -1, cv2.LINE_AA
        )
    return canvas


def _shifted(rng: Generator) -> NDArray[np.float32]:
    texture = _texture(int(rng.integers(_TEXTURES)))
    return np.roll(texture, rng.integers(0, (HEIGHT, WIDTH)), axis=(0, 1))


@functools.cache
def _texture(number: int) -> NDArray[np.float32]:
    """Noise with a spectrum of 1/f, as photographs have: much brightness, less colour."""
    rng = np.random.default_rng((2, number))
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    frequency[0, 0] = np.inf
    planes = []
    for contrast in (45, 10, 10):
        spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH), np.float32)) / frequency
        plane = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
        planes.append(contrast * plane / plane.std())
    light, red, blue = planes
    return (
        np.stack([light + red, light - (red + blue) / 2, light + blue], -1, dtype=np.float32) + 110
    )


def tables(measured: dict[str, Result]) -> Iterator[str]:
    """Writing a detector's data set; then all tasks beside the detector alone."""
    detector = {name: one for name, one in measured.items() if name != OursAllTasks.name}
    yield results.comparison(detector, [LIMIT] if LIMIT in detector else [])
    ours, all_tasks = measured.get(Ours.name), measured.get(OursAllTasks.name)
    if ours and all_tasks and not (ours.problem or all_tasks.problem):
        costs = results.ratios(ours.passes, all_tasks.passes)
        yield results.comparison({Ours.name: ours, OursAllTasks.name: all_tasks}, [Ours.name])
        yield (
            f"`process_all` takes {results.median_and_range(costs, '.2f')} times as long as "
            "`process_detector` alone.\n"
        )


def section(saved: dict[str, Any]) -> str:
    """The section of the page."""
    measured = results.load_results(saved["results"])
    return "\n".join(
        [
            "## Processing\n",
            "`python -m benchmarks.processing --write-docs` made this section. "
            f"{saved['photographs']} To {SIDE}x{SIDE}, letterboxed; every contender stores images,"
            " boxes and paths, which are compared with the photographs first. LIMIT decodes in full"
            " and resizes in a thread a core and writes nothing. Starting its processes is part of"
            " a contender's pass, and ours syncs its files to the disk. Interleaved passes, "
            f"{max(len(one.passes) for one in measured.values())} of them: median (least to"
            " greatest); ratios are formed within a pass.\n",
            *tables(measured),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def photographs(options: argparse.Namespace) -> tuple[Path, str]:
    """The folder to work in, whose ``raw`` has the photographs, and a sentence about these."""
    if options.photos is None:
        work: Path = options.work / str(options.images)
        made_once(work / "raw", partial(make_photographs, images=options.images))
        what = f"made photographs of {WIDTH}x{HEIGHT}"
    else:
        work = options.work / "photos"
        work.mkdir(parents=True, exist_ok=True)
        (work / "raw").unlink(missing_ok=True)
        (work / "raw").symlink_to(options.photos.absolute(), target_is_directory=True)
        what = "photographs"
    listed = photographs_in(work / "raw")
    size = sum(one.file.stat().st_size for one in listed) / len(listed) / 1e3
    return work, f"{len(listed):,} {what}, {size:.0f} kB each."


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes what it is asked to."""
    parser = results.argument_parser("processing", __doc__)
    parser.add_argument("--images", type=int, default=2000, help="photographs to make")
    parser.add_argument("--photos", type=Path, help="a folder of annotated JPEGs to take instead")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="parts of names")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        work, described = photographs(options)
        words = [word.lower() for word in options.only]
        chosen = [
            one
            for one in writers()
            if not words or one.name == LIMIT or any(word in one.name.lower() for word in words)
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
