"""``python -m benchmarks.memory``: checks that memory does not grow with the amount of data.

Each measurement runs in a process of its own, on data made for it: small photographs, sparse files.
Times are listed as well. Unlike memory, they are meaningful only on an otherwise idle machine.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import memory_data, results
from benchmarks import memory_probes as probes
from benchmarks.memory_chart import MIB, Sample, chart
from benchmarks.process_tree import tree_memory

MEASUREMENTS: Final = ("processing", "opening", "workers", "coco")
READERS: Final = 8
SIZES: Final = (1_000, 10_000, 100_000)

_STORED_BYTES: Final = 3 * probes.STORED_SIDE**2


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table.

    Args:
        what: name of the measured quantity.
        found: its value with a unit.
        goal: its goal with a unit; empty if there is none.
        reached: whether the goal was reached; None if there is none.
    """

    what: str
    found: str
    goal: str = ""
    reached: bool | None = None

    @classmethod
    def below(cls, what: str, value: float, goal: float, unit: str) -> Finding:
        """Return the row of a value that must be below its goal."""
        return cls(what, f"{value:.3g} {unit}", f"< {goal:g} {unit}", value < goal)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new interpreter; return its result."""
    with _fresh_process() as process:
        return process.submit(function, *arguments).result()


def _fresh_process() -> ProcessPoolExecutor:
    # Spawned: a forked process would begin with the memory of this one.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def processing_curve(work: Path, images: int) -> list[Sample]:
    """Return samples of the memory while `process_all` makes three tasks of so many images."""
    data = memory_data.made_once(
        work / f"photographs-{images}", partial(memory_data.small_photographs, images=images)
    )
    output = work / "output"
    shutil.rmtree(output, ignore_errors=True)
    samples = []
    with _fresh_process() as process:
        pid = process.submit(os.getpid).result()
        run: Future[int] = process.submit(probes.process, data / "raw", output)
        # The process is watched from here: a thread in it would change what is measured.
        while not wait([run], timeout=0.02).done:
            samples.append(Sample(_rows_written(output), tree_memory(pid)["Pss"]))
        if run.result() != images:
            raise RuntimeError(f"{run.result()} detector rows were stored of {images} images")
    shutil.rmtree(output)
    return samples


def _rows_written(output: Path) -> int:
    """Return the number of rows in the detector's files, finished or not."""
    while True:
        try:
            size = sum(file.stat().st_size for file in output.glob("*_detector.npz*"))
        except FileNotFoundError:  # renamed between listing and looking, when it was published
            continue
        return size // _STORED_BYTES


def processing(work: Path, sizes: Iterable[int]) -> tuple[list[Finding], dict[int, list[Sample]]]:
    """Return the peak memory of processing by number of images, and the curves."""
    curves, peaks, findings = {}, {}, []
    for images in sizes:
        curves[images] = processing_curve(work, images)
        peaks[images] = max(sample.pss for sample in curves[images])
        title = f"processing {images:,} images: peak PSS"
        findings.append(Finding(title, f"{peaks[images] / MIB:.0f} MiB"))
    least, most = min(peaks), max(peaks)
    if least < most:
        grown = (peaks[most] - peaks[least]) / (most - least)
        findings.append(
            Finding(f"growth from {least:,} to {most:,} images", f"{grown:.0f} bytes per image")
        )
    return findings, curves


def opening(work: Path) -> list[Finding]:
    """Measure the opening of a file of 1 TB."""
    path = work / "terabyte.npz"
    memory_data.sparse_npz(path, rows=5_600_000, side=256, boxes_per_row=0)
    found: probes.Opening = in_fresh_process(probes.open_file, path)
    title = f"opening {path.stat().st_size / 1e12:.1f} TB"
    path.unlink()  # it takes no space, but tools that copy folders may fill its holes
    return [
        Finding(f"{title}, the first file of a process", f"{found.first * 1e3:.1f} ms"),
        Finding.below(f"{title}, median of 20", found.again * 1e3, 10, "ms"),
        Finding.below(f"{title}, growth of peak RSS", found.memory / MIB, 10, "MiB"),
        Finding.below("its first batch, 64 random rows", found.batch * 1e3, 100, "ms"),
        Finding(
            "first batch of a BatchLoader, which shuffles all rows", f"{found.shuffled_batch:.2f} s"
        ),
        Finding.below("its pickled dataset", found.pickled / 1024, 10, "KiB"),
    ]


def workers(work: Path, rows: int = 1_000_000) -> list[Finding]:
    """Measure the private memory of the workers that read an epoch."""
    shape = {"rows": rows, "side": 32, "boxes_per_row": 5}
    path = memory_data.made_once(
        work / "-".join(f"{key}-{value}" for key, value in shape.items()),
        lambda folder: memory_data.sparse_npz(folder / "d.npz", **shape),
    )
    findings = []
    for name, read in (
        ("worker processes", probes.read_by_processes),
        ("threads", probes.read_by_threads),
    ):
        epoch: probes.Epoch = in_fresh_process(read, path / "d.npz", READERS)
        if epoch.rows != rows:
            raise RuntimeError(f"{epoch.rows} of {rows} rows were read")
        grown = (epoch.peak - epoch.before) / MIB
        title = f"an epoch of {rows:,} rows, {READERS} {name}"
        findings += [
            Finding.below(f"{title}: growth of private memory", grown, 200, "MiB"),
            Finding("private memory before the epoch", f"{epoch.before / MIB:.0f} MiB"),
            Finding("pages of the file that only one reader maps", f"{epoch.cached / MIB:.0f} MiB"),
            Finding("time", f"{epoch.seconds:.0f} s"),
        ]
    return findings


def coco(work: Path, images: int = 1_000_000, boxes: int = 5_000_000) -> list[Finding]:
    """Measure the reading of a large COCO file whose images exist."""
    folder = memory_data.made_once(
        work / f"coco-{images}-{boxes}", partial(memory_data.coco, images=images, boxes=boxes)
    )
    size = (folder / "annotations" / "instances.json").stat().st_size
    found: probes.Parsing = in_fresh_process(probes.parse, folder)
    if (found.images, found.boxes) != (images, boxes):
        raise RuntimeError(f"{found.images} images and {found.boxes} boxes were read")
    title = f"COCO of {images:,} images, {boxes:,} boxes, {size / 1e6:.0f} MB"
    return [
        Finding.below(f"{title}: time", found.seconds, 60, "s"),
        Finding("CPU time", f"{found.cpu_seconds:.1f} s"),
        Finding("of which listing the raw directory", f"{found.listing:.1f} s"),
        Finding.below("growth of peak RSS", found.memory / size, 3, "times the file's size"),
    ]


def as_table(findings: Iterable[Finding]) -> str:
    """Return the findings as a Markdown table."""
    marks = {None: "", True: "reached", False: "**missed**"}
    rows = [(one.what, one.found, one.goal, marks[one.reached]) for one in findings]
    return results.markdown_table(["quantity", "found", "goal", ""], rows)


def measure(name: str, work: Path) -> dict[str, Any]:
    """Make one measurement; return the part of the results file that it fills."""
    if name == "processing":
        findings, curves = processing(work, SIZES)
        return {"findings": findings, "curves": curves}
    return {"findings": {"opening": opening, "workers": workers, "coco": coco}[name](work)}


def findings_in(saved: dict[str, Any]) -> list[Finding]:
    """Return all saved findings, in the order of the measurements."""
    rows: list[dict[str, Any]] = []
    for name in MEASUREMENTS:
        rows += saved["measured"].get(name, {}).get("findings", [])
    return [Finding(**fields) for fields in rows]


def write_docs(saved: dict[str, Any]) -> None:
    """Update the section and the chart."""
    text = [
        "## Memory\n",
        "Written by `python -m benchmarks.memory --coco --write-docs`. Each measurement runs in a"
        " process of its own. PSS is the proportional set size of all its processes.\n",
        as_table(findings_in(saved)),
        f"Machine: {saved['machine']}.",
    ]
    if "processing" in saved["measured"]:
        curves = saved["measured"]["processing"]["curves"]
        runs = {int(n): [Sample(*one) for one in curve] for n, curve in curves.items()}
        chart(runs).save(results.DOCS / "images" / "memory.svg")
        alt = "Memory of processing over the images stored so far, one line for each size of run"
        text.insert(-1, f"![{alt}](images/memory.svg)\n")
    results.write_section(results.DOCS / "benchmarks.md", "memory", "\n".join(text))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and update the page if asked to.

    Measurements that are not repeated keep their saved results.
    """
    parser = results.argument_parser("memory", __doc__)
    parser.add_argument(
        "only",
        nargs="*",
        metavar="MEASUREMENT",
        help=f"{', '.join(MEASUREMENTS[:-1])} (default: all of these)",
    )
    parser.add_argument(
        "--coco", action="store_true", help="also create and read a COCO set of a million images"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.only) - set(MEASUREMENTS)
    if unknown:
        wrong = ", ".join(sorted(unknown))
        parser.error(f"unknown measurement {wrong}: choose from {', '.join(MEASUREMENTS)}")
    names = list(options.only or MEASUREMENTS[:-1])
    names += ["coco"] if options.coco else []
    options.work.mkdir(parents=True, exist_ok=True)
    saved_file = options.work / "results.json"
    measured = json.loads(saved_file.read_text())["measured"] if saved_file.exists() else {}
    for name in [] if options.from_saved else names:
        measured[name] = measure(name, options.work)
        results.save(saved_file, machine=results.machine(options.work), measured=measured)
    saved = json.loads(saved_file.read_text())
    print(as_table(findings_in(saved)))
    if options.write_docs:
        write_docs(saved)


if __name__ == "__main__":
    main()
