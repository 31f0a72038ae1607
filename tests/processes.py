"""Processes of a test's own that start in milliseconds, not in the seconds that imports take.

Each is a fork of one warm interpreter, which runs nothing else: no thread and no lock is inherited.
`PROCESSES` is the standard library's way; `ForkServer` runs what is more like a program, with a log
and an exit status, from any module, by ``python -m tests.processes``.
"""

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["processing.data_processor", "tests.faults.damage"])


class ForkServer:
    """Runs functions of `module` in children, one after the other; a context manager."""

    def __init__(self, module):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)

    def run(self, function, log, **arguments):
        """Calls a function in a child, which prints to the file `log`.

        Returns its exit status: what the function returned or exited with, 1 if it raised; of one
        that was killed minus the signal, as in `subprocess`.
        """
        request = {"function": function, "log": str(log), "arguments": arguments}
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main():
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_call(module, **json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _call(module, function, log, arguments):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits none
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        return getattr(module, function)(**arguments) or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()
