"""ForkServer: functions run in fresh child processes, each a fork of one warm interpreter.

A child costs milliseconds, not the half second of importing everything, and none inherits threads:
the parent of them runs nothing but this. Run by ``python -m tests.faults.forks``.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]


class ForkServer:
    """Runs functions of `module` in children, one after the other; a context manager."""

    def __init__(self, module):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks", module],
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

        Returns its exit status: what the function returned, 1 if it raised; of one that was killed
        minus the signal, as in `subprocess`.
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
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()
