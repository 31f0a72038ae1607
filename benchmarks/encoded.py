"""``python -m benchmarks.encoded``: rows stored as JPEG, compared with decoding and with FFCV.

The first table has their bytes and their likeness to raw rows, the next ones the rates of reading
them, measured like those of `benchmarks.reading`. ``--photos DIR`` takes your own JPEGs: bytes and
likeness depend on them. ``--read-mb N`` adds a table about a file that is not in memory, on a disk
that is slowed down to N megabytes per second (Linux, as root).
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks import results
from benchmarks.contenders import encoded
from benchmarks.contenders.encoded import QUALITY, SUBSAMPLINGS, Photographs
from benchmarks.contenders.reader import Reader, Workload
from benchmarks.page_cache import drop
from benchmarks.processing import add_photographs, photographs
from benchmarks.reading import measure_readers
from benchmarks.slow_disk import reads_limited
from processing import BatchLoader, LazyNPZDataset

SIZE: Final = 256
PACKAGES: Final = ("numpy", "opencv-python-headless", "simplejpeg", "torch", "ffcv", "numba")
_COMPARED: Final = 1000
"""At most so many rows are compared with raw ones."""


def workload_of(raw: Path, work: Path) -> Photographs:
    """Store the photographs of a directory as raw rows; return the samples to read."""
    folder = work / f"{SIZE}px"
    shutil.rmtree(folder, ignore_errors=True)  # it has to be in the page cache as it was written
    data = encoded.process(raw, folder, SIZE)
    with LazyNPZDataset(data) as dataset:
        return Photographs(data, len(dataset), SIZE, raw=raw.absolute())


def chosen(workload: Workload, only: Sequence[str]) -> list[Reader]:
    """Return the limits and the contenders whose name contains one of the words."""
    assert isinstance(workload, Photographs)
    everyone = encoded.contenders(workload)
    return [
        one
        for one in everyone
        if isinstance(one, encoded.Decode) or results.is_chosen(one.name, only)
    ]


def likeness(workload: Photographs) -> list[dict[str, Any]]:
    """Compare the rows of each encoding with raw rows: share of the bytes, PSNR in dB."""
    rows = []
    indices = range(0, workload.samples, -(-workload.samples // _COMPARED))
    with LazyNPZDataset(workload.data) as raw:
        for subsampling, name in SUBSAMPLINGS.items():
            one = encoded.OursEncoded(workload, 0, subsampling)
            file = one.file(workload.data.parent / one.files)
            with np.load(file) as arrays:
                share = arrays["images_jpeg"].nbytes / raw.images.nbytes
            with LazyNPZDataset(file) as jpeg:
                decibels = [cv2.PSNR(raw[i]["image"], jpeg[i]["image"]) for i in indices]
            rows.append({"kind": f"quality {QUALITY}, {name}", "share": share, "psnr": decibels})
    return rows


def slow_epochs(workload: Photographs, megabytes: int, passes: int) -> dict[str, list[float]]:
    """Return the samples/s of epochs over files that are not in memory, in turns.

    Args:
        workload: the samples; rows of all forms were stored.
        megabytes: limit of the disk, megabytes per second.
        passes: epochs of each file.
    """
    files = {"raw": workload.data}
    for subsampling, name in SUBSAMPLINGS.items():
        one = encoded.OursEncoded(workload, 0, subsampling)
        files[name] = one.file(workload.data.parent / one.files)
    found: dict[str, list[float]] = {name: [] for name in files}
    with reads_limited(workload.data.parent, megabytes):
        for _ in range(passes):
            for name, file in files.items():
                drop(file)
                found[name].append(_epoch_rate(file, workload.batch_size))
    return found


def _epoch_rate(file: Path, batch_size: int) -> float:
    start = time.perf_counter()
    with LazyNPZDataset(file) as dataset:
        loader = BatchLoader(dataset, batch_size, shuffle=True, num_workers=1)
        samples = sum(len(batch["image"]) for batch in loader)
    return samples / (time.perf_counter() - start)


def tables(saved: dict[str, Any]) -> list[str]:
    """Return a table about bytes and likeness, then one about reading for each subsampling."""
    rows = []
    for one in saved["likeness"]:
        middle, worst = statistics.median(one["psnr"]), min(one["psnr"])
        rows.append([one["kind"], f"{one['share']:.3f}", f"{middle:.1f}", f"{worst:.1f}"])
    heads = ["JPEG", "bytes, of raw rows", "PSNR, median, dB", "PSNR, worst, dB"]
    texts = [results.markdown_table(heads, rows)]
    measured = results.load_results(saved["results"])
    for subsampling in SUBSAMPLINGS.values():
        # The name of a contender begins with the form of the rows that it reads.
        group = {n: one for n, one in measured.items() if n.startswith((subsampling, "raw"))}
        references = [name for name in group if "decode" in name or "FFCV" in name]
        texts += [f"### {subsampling}\n", results.comparison(group, references)]
    if saved["slow"]:
        rates = saved["slow"]
        raw = rates["raw"]
        lines = []
        for name, of_form in rates.items():
            of_raw = [one / other for one, other in zip(of_form, raw, strict=True)]
            form = results.median_and_range
            lines.append([name, form(of_form, ",.0f"), form(of_raw, ".2f")])
        table = results.markdown_table(["rows", "samples/s", "ratio to raw"], lines)
        texts += [f"### From a disk limited to {saved['read_mb']} MB/s\n", table]
    return texts


def section(saved: dict[str, Any]) -> str:
    """Return the section of the page."""
    passes = results.most_passes([results.load_results(saved["results"])])
    return "\n".join(
        [
            "## Encoded rows\n",
            "Written by `python -m benchmarks.encoded --write-docs`."
            f" {saved['photographs']} They are stored at {SIZE}x{SIZE}, raw and as JPEG. Decode"
            " alone is `simplejpeg` on the same bytes, into an existing buffer, without a loader."
            f" FFCV encodes the raw rows. {passes} interleaved passes, measured like reading. An"
            " epoch from a limited disk is that of a new BatchLoader with one worker, over a file"
            " that was just dropped from the page cache.\n",
            *tables(saved),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("encoded", __doc__)
    add_photographs(parser, images=3000)
    results.add_passes(parser)
    results.add_only(parser)
    parser.add_argument(
        "--read-mb", type=int, metavar="N", help="also read from a disk slowed down to N MB/s"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        work, described = photographs(options)
        workload = workload_of(work / "raw", work)
        make = partial(chosen, only=options.only)
        measured = measure_readers(make, workload, passes=options.passes)
        slow = {}
        if options.read_mb:
            slow = slow_epochs(workload, options.read_mb, options.passes)
        results.save(
            saved_file,
            photographs=described,
            machine=results.machine(work),
            versions=results.versions(PACKAGES),
            likeness=likeness(workload),
            results=measured,
            read_mb=options.read_mb,
            slow=slow,
        )
    saved = json.loads(saved_file.read_text())
    print("\n".join(tables(saved)))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "encoded", section(saved))


if __name__ == "__main__":
    main()
