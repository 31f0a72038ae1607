"""A program that reads batches in a worker process and goes on after Ctrl-C, as a training does.

Usage: ``python -m tests.datamodules.loader_program METHOD MOMENT FOLDER FILE``. The worker is
started by the method, ``fork`` or ``spawn``, and waits once while it is ``starting`` or
``working``. The exit status is the number of samples.
"""

import multiprocessing
import signal
import sys
from pathlib import Path

from datamodules.process_loader import ProcessLoader
from processing.lazy_dataset import LazyNPZDataset
from tests.interrupted import wait_here

METHOD, MOMENT, FOLDER, FILE = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]


def collate(samples):
    if MOMENT == "working" and samples[0]["index"] == 0:
        wait_here(FOLDER)
    return len(samples)


def main():
    multiprocessing.set_start_method(METHOD)
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", file=sys.stderr))
    with LazyNPZDataset(FILE, return_index=True) as dataset:
        return sum(ProcessLoader(dataset, 2, num_workers=1, collate_fn=collate))


if __name__ == "__mp_main__" and MOMENT == "starting":  # in a worker that is being spawned
    wait_here(FOLDER)
if __name__ == "__main__":
    sys.exit(main())
