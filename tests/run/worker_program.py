"""A command with worker processes, for `test_worker_processes`.

Usage: ``python -m tests.run.worker_program MOMENT FOLDER [ARGUMENT...]``. It waits at the moment:

- ``starting``: a worker is importing modules; the arguments are those of ``npz-vision``;
- ``idle``: a worker has done its only task;
- ``working``: a worker does a task.
"""

import sys
from pathlib import Path

from tests.interrupted import wait_here

MOMENT, FOLDER = sys.argv[1], Path(sys.argv[2])


def do(wait):
    if wait:
        wait_here(FOLDER)


def main():
    from processing.__main__ import main as npz_vision
    from processing.run.executors import open_executor

    if MOMENT == "starting":
        return npz_vision(sys.argv[3:])
    with open_executor("processes", None, 1) as pool:
        pool.submit(do, MOMENT == "working").result()
        wait_here(FOLDER)
    return 0


if __name__ == "__mp_main__" and MOMENT == "starting":  # in a worker that is being spawned
    wait_here(FOLDER)
if __name__ == "__main__":
    sys.exit(main())
