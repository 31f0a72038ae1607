"""``python -m benchmarks.scaling``: processing on each engine, and the limit of many cores.

All contenders make the same shards. The share of time in which a thread holds the interpreter, with
one decoding thread, tells how many decoding threads one process can keep busy.
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import results
from benchmarks.harness import Result, measure
from benchmarks.processing import add_photographs, photographs
from benchmarks.writers import SIDE, Writer, photographs_in
from benchmarks.writers.writer import Photograph, Sample
from processing import DataProcessor, open_dataset
from processing.core.cpus import available_cpus

PACKAGES: Final = ("numpy", "distributed", "ray")
SHARDS: Final = 16
CORES: Final = 64
"""Cores of the machine that is estimated."""
ENGINES: Final = ("threads", "processes", "dask", "ray")
_NAP: Final = 0.001
"""Seconds between two looks at the interpreter."""
_IDLE_LOOKS: Final = 2_000


class OnEngine(Writer):
    """`process_detector` in shards, on one engine.

    Args:
        engine: a name of `executor`.
        workers: threads or processes.
    """

    def __init__(self, engine: str, workers: int) -> None:
        super().__init__()
        self.engine, self.workers = engine, workers
        self.name = f"{engine}, {workers}"
        self.files = f"{engine}-{workers}"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Process the whole raw folder."""
        raw = output.parents[1] / "raw"
        _process(raw, output, len(photographs), executor=self.engine, num_workers=self.workers)

    def stored(self, output: Path) -> Iterator[Sample]:
        """Yield the rows of the set."""
        with open_dataset(output, "train_detector") as dataset:
            for index in range(len(dataset)):
                row = dataset[index]
                yield Sample(row["image"], row["bboxes"], row["image_path"])


def _process(raw: Path, output: Path, images: int, **options: Any) -> None:
    processor = DataProcessor(
        raw,
        output,
        image_size=SIDE,
        progress=False,
        samples_per_shard=-(-images // SHARDS),
        **options,
    )
    processor.process_detector(train_split=1.0)


def held_share(raw: Path, output: Path, images: int) -> tuple[float, float]:
    """Process with one decoding thread, and look often whether a thread holds the interpreter.

    A thread that sleeps needs the interpreter to go on. If nobody holds it, the thread wakes as
    late as in an idle process; a later one had to wait. Looks at independent times see it held in
    as large a share as it is held.

    Returns:
        The share of the looks, and images per second.
    """
    idle = [_lateness() for _ in range(_IDLE_LOOKS)]
    limit = float(np.quantile(idle, 0.99))
    late: list[bool] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            late.append(_lateness() > limit)

    looker = threading.Thread(target=look)
    shutil.rmtree(output, ignore_errors=True)
    looker.start()
    start = time.perf_counter()
    try:
        _process(raw, output, images, num_workers=1)
    finally:
        seconds = time.perf_counter() - start
        done.set()
        looker.join()
    return statistics.mean(late), images / seconds


def _lateness() -> float:
    start = time.perf_counter()
    time.sleep(_NAP)
    return time.perf_counter() - start - _NAP


def contenders() -> list[OnEngine]:
    """Return each engine with one worker, and with one for each CPU."""
    return [OnEngine(engine, n) for engine in ENGINES for n in (1, available_cpus())]


def table(measured: dict[str, Result]) -> str:
    """Return the rates, as shares of one thread in the same turn."""
    reference = measured["threads, 1"].passes
    rows = []
    for name, result in measured.items():
        if result.problem is not None:
            rows.append([name, result.problem])
            continue
        rows.append(
            [
                name,
                results.median_and_range(results.rates(result), ",.0f"),
                results.median_and_range(results.ratios(result.passes, reference), ".2f"),
                f"{results.cpu_per_10_000(result):.0f}",
            ]
        )
    heads = ["engine, workers", "images/s", "of one thread", "CPU s per 10,000 images"]
    return results.markdown_table(heads, rows)


def estimate(saved: dict[str, Any]) -> str:
    """Return an estimate for many cores, from the share of the interpreter."""
    share, rate = saved["held_share"], saved["held_rate"]
    most = min(CORES, 1 / share)
    return (
        f"With one decoding thread, a thread held the interpreter in {share:.0%} of the time. So"
        f" one process keeps at most {1 / share:.0f} decoding threads busy: on {CORES} cores,"
        f" threads reach about {most * rate:,.0f} images/s, and processes {CORES * rate:,.0f}, if"
        f" the disk reads {CORES * rate * saved['bytes'] / 1e9:.1f} GB/s and writes"
        f" {CORES * rate * SIDE**2 * 3 / 1e9:.1f} GB/s. This is an estimate, not a measurement."
    )


def section(saved: dict[str, Any], measured: dict[str, Result]) -> str:
    """Return the section of the page."""
    return "\n".join(
        [
            "## Engines\n",
            "Written by `python -m benchmarks.scaling --write-docs`."
            f" {saved['photographs']} `process_detector` makes {SHARDS} shards of"
            f" {SIDE}x{SIDE}; starting an engine's processes, and reading the annotations in each"
            f" of them, counts. {results.most_passes([measured])} interleaved passes: median"
            " (minimum to maximum); ratios are formed within a pass.\n",
            table(measured),
            estimate(saved) + "\n",
            f"Machine: {saved['machine']}. Versions: {saved['versions']}.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and update the page if asked to."""
    parser = results.argument_parser("scaling", __doc__)
    add_photographs(parser, images=2_000)
    results.add_passes(parser, default=3)
    results.add_only(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    saved_file = options.work / "results.json"
    if not options.from_saved:
        work, described = photographs(options)
        listed = photographs_in(work / "raw")
        share, rate = held_share(work / "raw", work / "held", len(listed))
        chosen = [
            one
            for one in contenders()
            if one.name == "threads, 1" or results.is_chosen(one.name, options.only)
        ]
        measured = measure(chosen, data=work / "raw", work=work, passes=options.passes)
        results.save(
            saved_file,
            photographs=described,
            held_share=share,
            held_rate=rate,
            bytes=statistics.mean(one.file.stat().st_size for one in listed),
            machine=results.machine(work),
            versions=results.versions(PACKAGES),
            results=measured,
        )
    saved = json.loads(saved_file.read_text())
    measured = results.load_results(saved["results"])
    print(table(measured))
    print(estimate(saved))
    if options.write_docs:
        results.write_section(results.DOCS / "benchmarks.md", "scaling", section(saved, measured))


if __name__ == "__main__":
    main()
