"""``python -m benchmarks.reading``: random batches out of a warm page cache, beside the peers.

Prints the tables; ``--write-docs`` renews the section ``reading`` of ``docs/benchmarks.md`` and its
chart. The measurements are kept as JSON in the work directory, so the page can be written again
without measuring (``--from-saved``).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal.isal_zlib import crc32, crc32_combine

from benchmarks import results
from benchmarks.contenders import arrays, ffcv, limit, ours, records, storage, streaming
from benchmarks.contenders.reader import Reader, Workload
from benchmarks.harness import Result, measure
from processing.npz.writer import NPZWriter

SAMPLES: Final = {128: 20_000, 256: 6_000}
"""By image size: about 1 GB each."""
LIMITS: Final = ("LIMIT-1", "LIMIT-2")
PACKAGES: Final = (
    "numpy", "torch", "litdata", "mosaicml-streaming", "datasets", "pyarrow", "h5py", "zarr",
    "lmdb", "webdataset", "grain", "array-record", "tensordict", "ffcv", "numba",
)  # fmt: skip
CHUNK: Final = 256


def contenders(workload: Workload, only: Sequence[str] = ()) -> list[Reader]:
    """All contenders, or those with one of the words of `only` in their name, and the limits."""
    groups = (limit, ours, arrays, ffcv, records, storage, streaming)
    everyone = itertools.chain.from_iterable(group.contenders(workload) for group in groups)
    return [
        one
        for one in everyone
        if not only or one.name in LIMITS or any(word.lower() in one.name.lower() for word in only)
    ]


def write_samples(workload: Workload) -> None:
    """Writes the samples with this project's writer, unless they are there."""
    if workload.data.exists():
        return
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
    """Measures all contenders on images of one size."""
    folder = work / str(size)
    folder.mkdir(parents=True, exist_ok=True)
    workload = Workload(folder / "samples.npz", SAMPLES[size], size)
    write_samples(workload)
    return measure(contenders(workload, only), data=workload.data, work=folder, passes=passes)


def tables(by_size: dict[int, dict[str, Result]]) -> Iterator[str]:
    """A heading and a table for each size."""
    for size, of_size in by_size.items():
        yield f"### {SAMPLES[size]:,} images of {size}x{size}\n"
        yield results.comparison(of_size, LIMITS)


def section(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> str:
    """The section of the page."""
    passes = max(len(result.passes) for of in by_size.values() for result in of.values())
    return "\n".join(
        [
            "## Reading\n",
            "`python -m benchmarks.reading --write-docs` made this section. Batches of 64 in random"
            " order, each image with 0 to 20 boxes and its path; every contender delivers images,"
            " boxes and paths as it does naturally, and a few batches of each are compared with the"
            " truth first. LIMIT-t is `np.take` of the same rows of the mapped file into a buffer"
            " that is there already, by t threads: no boxes, no paths. Files are in the page cache,"
            f" read there in sequence. {passes} interleaved passes: median (least to greatest);"
            " ratios are formed within a pass. Memory is the greatest proportional set size of a"
            " contender's processes, without pages of files: those belong to the page cache.\n",
            *tables(by_size),
            "![Reading rate, of LIMIT-2](images/reading.png)\n",
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def write_docs(saved: dict[str, Any], by_size: dict[int, dict[str, Result]]) -> None:
    """Renews the section and the chart."""
    results.write_section(results.DOCS / "benchmarks.md", "reading", section(saved, by_size))
    panels = {
        f"{size}x{size}": {
            name: results.ratios(result.passes, of_size[LIMITS[1]].passes)
            for name, result in of_size.items()
            if result.problem is None and name not in LIMITS
        }
        for size, of_size in by_size.items()
    }
    chart = results.DOCS / "images" / "reading.png"
    results.bar_chart(chart, panels, label=f"samples/s, of {LIMITS[1]}", highlight="ours")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes what it is asked to."""
    parser = results.argument_parser("reading", __doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=list(SAMPLES), default=list(SAMPLES)
    )
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="parts of names")
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
            versions=results.versions(PACKAGES),
            sizes=measured,
        )
    saved = json.loads(saved_file.read_text())
    by_size = {int(size): results.load_results(of) for size, of in saved["sizes"].items()}
    print("\n".join(tables(by_size)))
    if options.write_docs:
        write_docs(saved, by_size)


if __name__ == "__main__":
    main()
