"""A command with worker processes that stops at a moment, for `test_worker_processes`.

Usage: ``python -m tests.run.worker_program MOMENT FOLDER [ARGUMENT...]``. The moments:

- ``starting``: a worker is importing modules; the arguments are those of ``npz-vision``;
- ``idle``: a worker has done its only task;
- ``working``: a worker does a task that has no end.

The program writes to the FIFO ``reached`` of the folder, and goes on when it has read from ``go``.
"""

import sys
from pathlib import Path

MOMENT, FOLDER = sys.argv[1], Path(sys.argv[2])


def wait_here():
    (FOLDER / "reached").write_text(".")
    with (FOLDER / "go").open("rb", buffering=0) as go:
        go.read(1)


def do(wait):
    if wait:
        wait_here()


def main():
    from processing.__main__ import main as npz_vision
    from processing.run.executors import open_executor

    if MOMENT == "starting":
        return npz_vision(sys.argv[3:])
    with open_executor("processes", None, 1) as pool:
        pool.submit(do, MOMENT == "working").result()
        wait_here()
    return 0


if __name__ == "__mp_main__" and MOMENT == "starting":  # in a worker that is being spawned
    wait_here()
if __name__ == "__main__":
    sys.exit(main())
