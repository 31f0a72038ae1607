"""The data of a run: the demo, if nothing else is there, and a few lines about the data in use."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from lightning.pytorch.callbacks import Callback

from processing.commands.console import print_result
from processing.core.errors import Rejection
from training.exit_status import SettingsError
from training.named_files import DEMO_DIR, check_directory, check_photographs

if TYPE_CHECKING:
    import lightning as L

SHARD = re.compile(r"-[0-9]{5,}-of-[0-9]{5,}")
"""The number of a shard in the name of its lists."""
LEFT_OUT = {"rejected": "left out", "dropped": "dropped from stored images"}


def render_demo_if_needed(datamodule: Any, images: int) -> None:
    """Render the demo if the data module will read the default directory and it does not exist.

    Args:
        datamodule: the data module; it needs the demo if one of its processors reads `DEMO_DIR`.
        images: number of photographs.
    """
    sources = raw_directories(datamodule)
    # Of several processes on one machine, the first processes the data; the others wait for it.
    if DEMO_DIR not in sources or DEMO_DIR.exists() or local_rank() != 0:
        return
    from filelock import FileLock

    from processing.demo import render_demo

    DEMO_DIR.parent.mkdir(parents=True, exist_ok=True)
    # Machines may share the directory, and each has a first process.
    with FileLock(DEMO_DIR.with_name(f".{DEMO_DIR.name}.lock")):
        if not DEMO_DIR.exists():
            print_result(f"{DEMO_DIR} does not exist: rendering {images} demo photographs")
            render_demo(DEMO_DIR, images=images)


def raw_directories(datamodule: Any) -> list[Path]:
    """Return the directories that the data module's processors read."""
    return [Path(one.raw_data_dir) for one in getattr(datamodule, "processors", ())]


def check_directories(datamodule: Any) -> None:
    """Check the directories to read; the demo is rendered where it belongs.

    Raises:
        SettingsError: one does not exist, is a file, or holds the photographs and the NPZ files.
    """
    processors = getattr(datamodule, "processors", ())
    for one in processors:
        raw, output = Path(one.raw_data_dir), Path(one.output_dir)
        check_photographs(raw)
        if raw.expanduser().resolve() == output.expanduser().resolve():
            raise SettingsError(
                f"output_dir={output}: is raw_data_dir, too; give the NPZ files another directory, "
                "so that they can be deleted without the photographs"
            )
    if not processors:  # a processor would make these directories
        for path in getattr(datamodule, "data_dirs", ()):
            check_directory("datamodule.data_dir", Path(path))


def local_rank() -> int:
    """Return the number of this process among those on its machine, before Lightning starts."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def bad_inputs(datamodule: Any) -> int:
    """Return how many inputs the data module's processors left out because they are bad.

    Images that only `keep_flagged` or `min_box_size` leaves out do not count.
    """
    number = 0
    for one in getattr(datamodule, "processors", ()):
        for path in _lists(Path(one.output_dir), datamodule.task, "rejected"):
            with path.open("rb") as lines:
                number += sum(
                    not msgspec.json.decode(line, type=Rejection).by_rules for line in lines
                )
    return number


class DataSummary(Callback):
    """Prints the files of a run, their numbers of samples, and the inputs that were left out."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the lines, once the data module has opened its files."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        datasets = getattr(datamodule, "datasets", None)
        if stage == "fit" and trainer.is_global_zero and isinstance(datasets, Mapping):
            for line in summary_lines(datamodule):
                print_result(line)


def summary_lines(datamodule: Any) -> Iterator[str]:
    """Return the lines about an open `LazyNPZDataModule`."""
    task = datamodule.task
    counts = ", ".join(f"{name} {len(split)}" for name, split in datamodule.datasets.items())
    directories = ", ".join(map(str, datamodule.data_dirs))
    yield f"data: {directories}, {task}: {counts} samples"
    for directory in datamodule.data_dirs:
        for kind, words in LEFT_OUT.items():
            found: Counter[str] = Counter()
            for path in _lists(Path(directory), task, kind):
                found[SHARD.sub("-*", path.name)] += _count_lines(path)
            parts = [f"{count} in {name}" for name, count in found.items() if count]
            if parts:
                yield f"{words}, listed in {directory}: {', '.join(parts)}"


def _lists(directory: Path, task: str, kind: str) -> list[Path]:
    """Return the lists of a kind, in order, of files and of shards."""
    return sorted(directory.glob(f"*_{task}*.{kind}.jsonl"))


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
