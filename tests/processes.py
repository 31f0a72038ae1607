"""Child processes for tests: they start in milliseconds, although imports take seconds.

Each child is forked from an interpreter that has imported the package and runs nothing else, so
that no thread and no lock is inherited. There are two ways:

- `PROCESSES`: the standard library's forkserver, for functions that return or raise;
- `ForkServer`: for functions that behave like a program, with a log file and an exit status. It is
  started as ``python -m tests.processes MODULE``.
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
    """Runs functions of a module in child processes, one after the other; a context manager.

    Args:
        module: name of the module; imported once, before the first fork.
    """

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
        """Calls a function in a child process and waits for it.

        Args:
            function: name of a function of the module.
            log: file for everything that the child prints.
            arguments: of the function; sent as JSON, paths become strings.

        Returns:
            The exit status: the function's result or its SystemExit, 1 if it raised, minus the
            signal if it was killed, as in `subprocess`.
        """
        request = {"function": function, "log": str(log), "arguments": arguments}
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main():
    """The server: forks one child for each line of standard input, and answers its exit status."""
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_call(module, **json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _call(module, function, log, arguments):
    """The child: calls the function and returns the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
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
