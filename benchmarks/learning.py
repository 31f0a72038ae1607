"""``python -m benchmarks.learning --raw DIR``: scores of the example on small real data sets.

Runs ``train_example.py`` with its default settings on each set, as a user would, and prints a table
of scores and CPU times. DIR holds the data sets in folders of their names. The enlarged sets are
made by ``DIR/enlarge.py``: it crops and scales the photographs. All copies of a photograph share
a split. A set that is not in DIR is left out. ``--write-docs`` updates ``docs/training.md``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import results
from processing.commands.console import EXIT_REJECTIONS, EXIT_SUCCESS

PACKAGES: Final = ("numpy", "torch", "lightning", "faster-coco-eval")
SCRIPT: Final = Path(__file__).parents[1] / "train_example.py"
THREADS: Final = 1
COPIES: Final = 1600
"""Photographs of an enlarged set."""


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        task: the task to train.
        folder: the data set, below the raw directory.
        enlarged: whether the set is made from the photographs of DIR, not one of its folders.
        sources: for an enlarged set: how many photographs it is made of; copy i is of photograph
            i modulo this number.
    """

    task: str
    folder: str
    enlarged: bool = False
    sources: int = 0

    @property
    def name(self) -> str:
        """The set's name in the table."""
        return f"{self.folder}, enlarged" if self.enlarged else self.folder


CASES: Final = (
    Case("detector", "voc_raccoon"),
    Case("detector", "objects", enlarged=True, sources=82),
    Case("detector", "coco_det"),
    Case("landmarker", "csv_faces"),
    Case("landmarker", "faces", enlarged=True, sources=32),
    Case("teacher", "voc_raccoon"),
    Case("teacher", "objects", enlarged=True, sources=82),
)


def enlarge(case: Case, raw: Path, work: Path) -> Path:
    """Make an enlarged set, with the copies of each photograph in a folder of their own."""
    folder = work / case.folder
    if folder.exists():
        return folder
    partial = work / f"{case.folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    options = ["--keypoints"] if case.task == "landmarker" else []
    command = [sys.executable, str(raw / "enlarge.py"), str(partial), f"--images={COPIES}"]
    subprocess.run([*command, *options], check=True)
    (annotations,) = (partial / "annotations").glob("*.json")
    data = json.loads(annotations.read_text())
    for image in data["images"]:
        name = image["file_name"]
        group = f"photograph_{int(Path(name).stem) % case.sources:03}"
        (partial / "images" / group).mkdir(exist_ok=True)
        (partial / "images" / name).rename(partial / "images" / group / name)
        image["file_name"] = f"{group}/{name}"
    annotations.write_text(json.dumps(data))
    partial.rename(folder)
    return folder


def measure(case: Case, raw: Path, work: Path) -> dict[str, Any]:
    """Train on one set; return its row."""
    folder = enlarge(case, raw, work) if case.enlarged else raw / case.folder
    run_dir = work / "runs" / f"{case.task} {case.folder}"
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [
        sys.executable, str(SCRIPT), f"datamodule={case.task}", f"raw_data_dir={folder}",
        f"output_dir={work / 'npz' / case.folder}", f"'hydra.run.dir={run_dir}'",
        "trainer=cpu", "trainer.enable_progress_bar=false",
    ]  # fmt: skip
    command = [argument.strip("'") for argument in command]
    if case.enlarged:
        command.append("datamodule.processor.group_by='photograph_\\d+'")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=work
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (EXIT_SUCCESS, EXIT_REJECTIONS):  # a set may hold bad photographs
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"task": case.task, "set": case.name, "cpu_seconds": seconds} | parse(
        done.stdout, run_dir
    )


def parse(printed: str, run_dir: Path) -> dict[str, Any]:
    """Return numbers of samples and steps, and the words about the score.

    Args:
        printed: the output of the training.
        run_dir: its directory.

    Raises:
        ValueError: the training did not print its data or its score.
    """
    data = re.search(r"^data: .*?: train (\d+), val (\d+) samples", printed, re.MULTILINE)
    score = re.search(
        r"^\w+: (.*) on \d+ validation images(?: \((.*)\))?; predictions", printed, re.M
    )
    if data is None or score is None:
        raise ValueError(f"no line with the data or the score in:\n{printed}")
    return {
        "train": int(data[1]), "val": int(data[2]), "score": score[1], "verdict": score[2] or "",
        **progress(next(run_dir.rglob("metrics.csv")), score[1].partition(" = ")[0]),
    }  # fmt: skip


def progress(metrics: Path, name: str) -> dict[str, Any]:
    """Return the number of steps, and the score of the last validation.

    Args:
        metrics: the file ``metrics.csv`` of a training.
        name: the score's column.
    """
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = 1 + max(int(row["step"]) for row in rows)
    return {"steps": steps, "last": [float(row[name]) for row in rows if row[name]][-1]}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    heads = ["task", "data set", "train", "val", "steps", "CPU time", "score", "last"]
    lines = []
    for row in rows:
        # Said once, above the table.
        score = row["score"].replace(" of the diagonal of the box around the landmarks", "")
        time = f"{row['cpu_seconds'] / 60:.0f} min"
        counts = [f"{row[name]:,}" for name in ("train", "val", "steps")]
        lines.append([row["task"], row["set"], *counts, time, score, f"{row['last']:.3g}"])
    return results.markdown_table(heads, lines)


def section(saved: dict[str, Any]) -> str:
    """Return the section of the page."""
    return (
        "Written by `python -m benchmarks.learning --raw DIR --write-docs`. CPU time is that of the"
        f" whole command, with {THREADS} thread of computation. Train and val count samples:"
        " photographs of a detector, crops of the other tasks. The score is that of the best"
        " validation, which chooses the checkpoint; *last* is that of the last validation. An"
        f" enlarged set holds {COPIES:,} crops of small sets in different sizes; all crops of a"
        f" photograph are in one split.\n\n{table(saved['rows'])}\n"
        f"Machine: {saved['machine']}. Versions: {saved['versions']}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on all sets, print the table, and update the page if asked to."""
    parser = results.argument_parser("learning", __doc__)
    parser.add_argument("--raw", type=Path, metavar="DIR", help="folder of the data sets")
    results.add_only(parser)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    saved_file = options.work / "results.json"
    rows = {}
    if saved_file.exists():
        rows = {
            (row["task"], row["set"]): row for row in json.loads(saved_file.read_text())["rows"]
        }
    if not options.from_saved:
        if options.raw is None:
            parser.error("--raw is required: the folder of the data sets")
        for case in CASES:
            there = options.raw / ("enlarge.py" if case.enlarged else case.folder)
            if there.exists() and results.is_chosen(f"{case.task} {case.name}", options.only):
                rows[case.task, case.name] = measure(case, options.raw.absolute(), options.work)
                results.save(
                    saved_file,
                    machine=results.machine(options.work),
                    versions=results.versions(PACKAGES),
                    rows=list(rows.values()),
                )
                print(rows[case.task, case.name], flush=True)
    saved = json.loads(saved_file.read_text())
    order = [(case.task, case.name) for case in CASES]
    saved["rows"].sort(key=lambda row: order.index((row["task"], row["set"])))
    print(table(saved["rows"]))
    if options.write_docs:
        results.write_section(results.DOCS / "training.md", "learning", section(saved))


if __name__ == "__main__":
    main()
