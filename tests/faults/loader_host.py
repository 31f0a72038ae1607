"""Iterates over loaders in a process that a test can inspect, kill and fork.

``python -m tests.faults.loader_host DIRECTORY MODE [METHOD]`` reads cases as JSON lines. It answers
each with a line that reports how the case ended, and which processes, open files and shared memory
it left. The mode ``here`` runs cases in this process and starts worker processes by METHOD. The
mode ``apart`` runs each case in a process of its own, which may be killed.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from zlib import crc32

import numpy as np
from torch.utils.data import DataLoader

from processing.datasets.loader import BatchLoader
from processing.lazy_dataset import LazyNPZDataset

SAMPLES, BATCH_SIZE, DAMAGED_ROW = 64, 4, 37
ATTEMPTS = 20
PATIENCE = 60  # seconds; torch's workers check every five seconds whether their parent is alive
_PR_SET_CHILD_SUBREAPER = 36
TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"/tmp\w{8}$")
NONE = re.compile(r"(?!)")  # matches nothing


def with_process(sample):
    """Adds the id of the process that the transform runs in."""
    return {**sample, "pid": os.getpid()}


def serve(directory, mode, method=None):
    if mode == "here":
        _prepare(method)
    else:  # orphans become children of this process
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        importlib.import_module("datamodules")  # once, not in each of the processes apart
    for line in sys.stdin:
        case = json.loads(line)
        answer = _here(case, directory) if mode == "here" else _apart(case, directory)
        print(json.dumps(answer), flush=True)


def _prepare(method):
    """Starts the helper processes that multiprocessing keeps until a process ends."""
    multiprocessing.set_start_method(method)
    if method != "fork":
        multiprocessing.resource_tracker.ensure_running()
    if method == "forkserver":
        multiprocessing.set_forkserver_preload([LazyNPZDataset.__module__])
        multiprocessing.forkserver.ensure_running()


def _here(case, directory):
    # torch reports a dead worker by an exception in a signal handler, at any time. If that is in a
    # `__del__`, Python drops the exception, and what was to be closed there stays open. Such a run
    # says nothing about the loader.
    for _ in range(ATTEMPTS):
        with _interrupted_finalizers() as interrupted:
            answer = _here_once(case, directory, interrupted)
        if not interrupted:
            return answer
    raise RuntimeError(f"{case}: torch's signal interrupted each of {ATTEMPTS} runs: {interrupted}")


@contextlib.contextmanager
def _interrupted_finalizers():
    """Gives a list of the finalizers in which the signal of a dead worker raised."""
    interrupted, usual = [], sys.unraisablehook

    def note(unraisable):
        if re.match(r"DataLoader worker \(pid.* killed by signal", str(unraisable.exc_value)):
            interrupted.append(repr(unraisable.object))
        else:
            usual(unraisable)

    sys.unraisablehook = note
    try:
        yield interrupted
    finally:
        sys.unraisablehook = usual


def _here_once(case, directory, interrupted):
    helpers = {pid for pid, _ in descendants(os.getpid())}

    def opened():
        # torch opens temporary files to test whether it can. The signal that reports a dead worker
        # may interrupt this test, and then the files stay open.
        excused = TEMPORARY if case["end"] == "worker killed" else NONE
        return {file for file in _open_files() if not excused.match(str(file[1]))}

    shared, files = _listing("/dev/shm"), opened()
    try:
        answer = _play(case, directory)
    except RuntimeError as error:
        # The signal may arrive also while this process closes its files after another error.
        answer = {"ended": f"RuntimeError: {error}", "epochs": []}
    gc.collect()
    if interrupted:
        return {}
    answer["files"] = _remaining(lambda: opened() - files)
    answer["processes"] = _remaining(
        lambda: [child for child in descendants(os.getpid()) if child[0] not in helpers]
    )
    answer["shared"] = _remaining(lambda: _listing("/dev/shm") - shared)
    return answer


def _apart(case, directory):
    shared = _listing("/dev/shm")
    pid = os.fork()
    if pid == 0:
        _prepare(case["method"])
        _play(case, directory)
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    answer = {"ended": signal.Signals(os.WTERMSIG(status)).name if status & 127 else status}
    answer["processes"] = _remaining(lambda: _reap() or descendants(os.getpid()))
    answer["shared"] = _remaining(lambda: _listing("/dev/shm") - shared)
    return answer


def _play(case, directory):
    """Iterates as the case asks; returns how it ended, and the indices of each epoch."""
    loader, close = _loader(case, Path(directory) / case["data"])
    warnings.simplefilter("error")
    for this_machine in (".*pin_memory.* no accelerator is found", "This DataLoader will create 4"):
        warnings.filterwarnings("ignore", this_machine, UserWarning)
    epochs = []
    try:
        for _ in range(2 if case["persistent"] else 1):
            epochs.append([])
            batches = iter(loader)
            if case["end"] == "parent killed at once":
                os.kill(os.getpid(), signal.SIGKILL)
            for batch in batches:
                values = batch["image"].flatten(1)
                assert (values == batch["index"][:, None]).all(), batch["index"]
                epochs[-1] += batch["index"].tolist()
                if case["end"] == "left":
                    break
                # Workers take turns: each has given a batch, none is still starting.
                at_work = len(epochs[-1]) >= BATCH_SIZE * case["workers"]
                if case["end"] == "parent killed" and at_work:
                    os.kill(os.getpid(), signal.SIGKILL)
                if case["end"] == "worker killed":
                    os.kill(batch["pid"][0].item(), signal.SIGKILL)
    except Exception as error:  # the test decides which errors are right
        # The traceback holds the iterator in a reference cycle. torch waits 5 seconds for each
        # worker of an iterator that the garbage collector finds.
        error.__traceback__ = None
        return {"ended": f"{type(error).__name__}: {error}", "epochs": epochs}
    else:
        return {"ended": "", "epochs": epochs}
    finally:
        close()


def _loader(case, directory):
    """Returns the loader of a case, and a function that closes its data."""
    options = {"batch_size": BATCH_SIZE, "pin_memory": case["pin"], "num_workers": case["workers"]}
    if case["loader"].startswith("datamodule"):
        # Here, because the import takes seconds, and each spawned worker would repeat it.
        from datamodules import LazyNPZDataModule

        options["train_transform"] = with_process if case["loader"] != "datamodule" else None
        options["persistent_workers"] = case["persistent"]
        module = LazyNPZDataModule(data_dir=directory, verify=True, **options)
        module.setup("fit")
        return module.train_dataloader(), module.teardown
    transform = with_process if case["end"] == "worker killed" else None
    path = directory / "train_detector.npz"
    dataset = LazyNPZDataset(path, verify=True, return_index=True, transform=transform)
    if case["loader"] == "DataLoader":
        loader = DataLoader(dataset, persistent_workers=case["persistent"], **options)
    else:
        loader = BatchLoader(dataset, **options)
    return loader, dataset.close


def write_data(directory):
    """Writes files of images that show their index; in the damaged files, one checksum is wrong."""
    images = np.broadcast_to(
        np.arange(SAMPLES, dtype=np.uint8)[:, None, None, None], (SAMPLES, 8, 8, 3)
    )
    members = {
        "images": images,
        "bboxes": np.zeros((SAMPLES, 4), np.float32),
        "bboxes_offsets": np.arange(SAMPLES + 1),
        "image_paths": np.array([f"{i}.jpg" for i in range(SAMPLES)]),
        "image_crc32": np.array([crc32(image.tobytes()) for image in images], np.uint32),
    }
    for data in ("sound", "damaged"):
        (directory / data).mkdir()
        for split in ("train", "val"):
            np.savez(directory / data / f"{split}_detector.npz", **members)
        members["image_crc32"][DAMAGED_ROW] ^= 1
    return directory


def descendants(pid):
    """Returns pid and command of all children of a process, of their children, and so on."""
    found = set()
    for task in _listing(f"/proc/{pid}/task"):
        for child in _text(task / "children").split():
            command = _text(f"/proc/{child}/cmdline").replace("\0", " ")
            found |= {(int(child), command), *descendants(child)}
    return found


def _reap():
    """Collects the exit status of orphans that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _remaining(find):
    """Waits until nothing is found any more; returns whatever is still found after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return sorted(map(str, found))


def _open_files():
    found = set()
    for file in _listing("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found.add((file.name, file.readlink()))
    return found


def _listing(directory):
    try:
        return set(Path(directory).iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return set()  # a process that ended meanwhile


def _text(file):
    try:
        return Path(file).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


if __name__ == "__main__":
    serve(*sys.argv[1:])
