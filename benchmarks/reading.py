"""``python -m benchmarks.reading``: random batches from a warm page cache, compared with peers.

All files are written first, and the first epoch over each is measured at once, by new processes.
Then all files are dropped from the page cache and read in sequence, so that they lie in it alike,
and the contenders make their passes in turns. The files stay only for the next step of the run.

Prints the tables. ``--write-docs`` also updates the section ``reading`` of ``docs/benchmarks.md``
and its chart. The measurements are saved as JSON in the work directory, so that the page can be
written again without measuring (``--from-saved``).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32, crc32_combine

from benchmarks import results
from benchmarks.contenders import arrays, ffcv, limit, ours, records, storage, streaming
from benchmarks.contenders.reader import Reader, Workload
from benchmarks.harness import Result, measure, measure_first_passes
from benchmarks.page_cache import drop, files_below, read_in_sequence
from processing.core.cpus import available_cpus
from processing.npz.writer import NPZWriter
from website.pictures.reading import chart

SAMPLES: Final = {128: 20_000, 256: 6_000}
"""Number of samples by image size: about 1 GB each."""
LIMITS: Final = ("LIMIT-1", "LIMIT-2")
PACKAGES: Final = (
    "numpy", "torch", "litdata", "mosaicml-streaming", "datasets", "pyarrow", "h5py", "zarr",
    "lmdb", "webdataset", "grain", "array-record", "tensordict", "ffcv", "numba",
)  # fmt: skip
FIRST_EPOCHS: Final = 3
"""Measured first epochs of each contender, each in a new process."""


def contenders(workload: Workload, only: Sequence[str] = ()) -> list[Reader]:
    """Return all contenders, or the limits and those whose name contains a word of `only`."""
    everyone: list[Reader] = []
    for group in (limit, ours, arrays, ffcv, records, storage, streaming):
        everyone += group.contenders(workload)
    # The limits are always measured: the ratios need them.
    return [one for one in everyone if one.name in LIMITS or results.is_chosen(one.name, only)]


def write_samples(workload: Workload) -> None:
    """Write the samples with this project's writer, unless they exist."""
    if workload.data.exists():
        return
    workload.data.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is complete: an interrupted run must not leave half a file.
    partial = workload.data.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    bboxes, paths, checksums = [], [], []
    total = 0  # CRC-32 of all images
    with contextlib.closing(NPZWriter(partial)) as writer:
        writer.begin("images", np.uint8, (workload.size, workload.size, 3))
        for index in range(workload.samples):
            sample = workload.sample(index)
            writer.append([sample.image])
            checksums.append(crc32(sample.image))
            # The checksum of all images follows from those of the rows: no byte is read twice.
            total = crc32_combine(total, checksums[-1], writer.row_bytes)
            bboxes.append(sample.bboxes)
            paths.append(sample.path)
        writer.end(total)
        offsets = np.cumsum([0, *map(len, bboxes)])
        for name, column in {
            "bboxes": np.concatenate(bboxes),
            "bboxes_offsets": offsets,
            "image_paths": np.array(paths),
            "image_crc32": np.array(checksums, np.uint32),
        }.items():
            writer.write(name, column)
        writer.finish()
    partial.rename(workload.data)


def measure_size(size: int, work: Path, passes: int, only: Sequence[str]) -> dict[str, Result]:
    """Measure all contenders on images of one size."""
    workload = Workload.below(work, SAMPLES[size], size)
    workload.data.unlink(missing_ok=True)  # it has to be in the page cache as it was written
    write_samples(workload)
    return measure_readers(partial(contenders, only=only), workload, passes=passes)


def measure_readers(
    make: Callable[[Workload], Sequence[Reader]], workload: Workload, *, passes: int
) -> dict[str, Result]:
    """Measure first epochs over files as they were written, then passes in turns.

    Args:
        make: makes the contenders.
        workload: the samples; the files of all contenders are written next to its data.
        passes: measured passes of each contender.

    Returns:
        The results by name, in the given order.
    """
    folder = workload.data.parent
    one_epoch = make(replace(workload, least_seconds=0.0))
    first = measure_first_passes(one_epoch, data=workload.data, work=folder, repeats=FIRST_EPOCHS)
    for file in files_below(folder):
        drop(file)
        read_in_sequence(file)
    sound = [one for one in make(workload) if first[one.name].problem is None]
    later = measure(sound, data=workload.data, work=folder, passes=passes)
    for name, result in later.items():
        result.first = first[name]
    return first | later


def tables(by_size: dict[int, dict[str, Result]]) -> Iterator[str]:
    """Yield a heading and a table for each size."""
    for size, of_size in by_size.items():
        yield f"### {SAMPLES[size]:,} images of {size}x{size}\n"
        yield results.comparison(of_size, LIMITS)


def section(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> str:
    """Return the section of the page."""
    passes = results.most_passes(by_size.values())
    return "\n".join(
        [
            "## Reading\n",
            "Written by `python -m benchmarks.reading --write-docs`. Batches of 64 in random order;"
            " each image has 0 to 20 boxes and a path. Every contender delivers images, boxes and"
            " paths in its natural form; a few batches of each are compared with the truth first."
            " LIMIT-t is `np.take` of the same rows of the mapped file into an existing buffer, by"
            " t threads, without boxes and paths. The bare loop copies into two buffers in turns"
            " and makes lists of boxes and paths, but is no loader: it shows what a loader in"
            " Python can reach. The first epoch is measured right after the files"
            f" were written, {FIRST_EPOCHS} times, each in a new process. Then all files are"
            " dropped from the page cache and read in sequence."
            f" {passes} interleaved passes: median (minimum to maximum); ratios are formed within"
            " a pass. FilePmdMapped is the part of the files that is mapped in pages of 2 MiB."
            " Memory is the largest proportional set size of a contender's processes, without"
            " pages of files, because those belong to the page cache.\n",
            *tables(by_size),
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def write_docs(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> None:
    """Update the section and the chart."""
    results.write_section(results.DOCS / "benchmarks.md", "reading", section(saved, by_size))
    chart().save(results.DOCS / "images" / "reading.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and update the page if asked to."""
    parser = results.argument_parser("reading", __doc__)
    results.add_sizes(parser, SAMPLES)
    results.add_passes(parser)
    results.add_only(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        measured = {
            size: measure_size(size, options.work, options.passes, options.only)
            for size in options.sizes
        }
        results.save(
            saved_file,
            machine=results.machine(options.work),
            cores=available_cpus(),
            versions=results.versions(PACKAGES),
            sizes=measured,
        )
    saved = json.loads(saved_file.read_text())
    by_size = results.load_by_size(saved)
    print("\n".join(tables(by_size)))
    if options.write_docs:
        write_docs(saved, by_size)


if __name__ == "__main__":
    main()
