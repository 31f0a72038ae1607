"""The data of a run: the demo, if nothing else is there, and a few lines about the data in use."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from lightning.pytorch.callbacks import Callback

from processing.commands.console import print_result
from processing.core.errors import Rejection
from processing.core.urls import URL, Location, is_url
from processing.remote.files import list_files, read_file
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
    """Return the local directories that the data module's processors read."""
    found = [one.raw_data_dir for one in getattr(datamodule, "processors", ())]
    return [Path(directory) for directory in found if not is_url(directory)]


def check_directories(datamodule: Any) -> None:
    """Check the directories to read; the demo is rendered where it belongs.

    Raises:
        SettingsError: one does not exist, is a file, or would hold photographs and NPZ files.
    """
    processors = getattr(datamodule, "processors", ())
    for one in processors:
        if is_url(one.raw_data_dir) or is_url(one.output_dir):
            continue  # its server knows what is there
        check_photographs(Path(one.raw_data_dir))
        # Of all processes, only one writes; `prepare_data` says there if it may not.
        with contextlib.suppress(OSError):
            _check_output(one)
    if not processors:  # a processor would make these directories
        for path in getattr(datamodule, "data_dirs", ()):
            if not is_url(path):
                check_directory("datamodule.data_dir", Path(path))


def _check_output(processor: Any) -> None:
    """Check that the NPZ files do not go among the photographs."""
    try:
        processor.check_output()
    except ValueError as error:
        found = str(error).removeprefix(f"output_dir {processor.output_dir}: ")
        raise SettingsError(f"output_dir={processor.output_dir}: {found}") from error


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
        for _, content in _lists(one.output_dir, datamodule.task, "rejected"):
            number += sum(
                not msgspec.json.decode(line, type=Rejection).by_rules
                for line in content.splitlines()
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
            for name, content in _lists(directory, task, kind):
                found[SHARD.sub("-*", name)] += len(content.splitlines())
            parts = [f"{count} in {name}" for name, count in found.items() if count]
            if parts:
                yield f"{words}, listed in {directory}: {', '.join(parts)}"


def _lists(directory: Location, task: str, kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the lists of a kind, in order, of files and of shards."""
    pattern = f"*_{task}*.{kind}.jsonl"
    if isinstance(directory, URL):
        if directory.is_on_web_server:
            return
        for name in sorted(file.name for file in list_files(directory)):
            if fnmatch(name, pattern):
                yield name, read_file(directory / name)
        return
    for path in sorted(directory.glob(pattern)):
        yield path.name, path.read_bytes()
