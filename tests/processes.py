"""Child processes for tests: they start in milliseconds, although imports take seconds.

Each child is forked from an interpreter that has imported the package and runs nothing else, so
that no thread and no lock is inherited. There are two ways:

- `PROCESSES`: the standard library's forkserver, for functions that return or raise;
- `ForkServer`: for functions that behave like a program, with a log file and an exit status. It is
  started as ``python -m tests.processes MODULE...``. The fixture `programs` is one for the whole
  session that has imported the example, torch and Lightning.
"""

import faulthandler
import importlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["processing.data_processor", "tests.faults.damage"])
RANKS_HANG_AFTER = 120  # seconds


class ForkServer:
    """Runs functions in child processes, one after the other; a context manager.

    Args:
        modules: names of modules; imported once, before the first fork.
    """

    def __init__(self, *modules):
        self._module = modules[0]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes", *modules],
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
            function: a function of any module of the tests, or the name of one of the first module.
            log: file for everything that the child prints.
            arguments: of the function; sent as JSON, paths become strings.

        Returns:
            The exit status: the function's result or its SystemExit, 1 if it raised, minus the
            signal if it was killed, as in `subprocess`.
        """
        return self._request(function, log, None, arguments)

    def run_ranks(self, function, log, ranks, **arguments):
        """Calls a function in several processes, with the environment that torchrun gives them.

        Args:
            function: gets `ranks` and the arguments.
            log: file for everything that they print.
            ranks: number of processes.
            arguments: as for `run`.

        Returns:
            The exit status of the first process that fails, or 0. The others are killed, because
            they might wait for it; so are all after `RANKS_HANG_AFTER` seconds.
        """
        return self._request(function, log, ranks, {"ranks": ranks, **arguments})

    def _request(self, function, log, ranks, arguments):
        module = self._module
        if callable(function):
            module, function = function.__module__, function.__name__
        request = {"module": module, "function": function, "arguments": arguments}
        request |= {"log": str(log), "ranks": ranks}
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main():
    """The server: forks one child for each line of standard input, and answers its exit status."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        # Imported here, so that the next child need not import it again.
        function = getattr(importlib.import_module(request["module"]), request["function"])
        child = os.fork()
        if not child:
            os._exit(_program(function, request["log"], request["ranks"], request["arguments"]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)  # Python would take a second to tidy up after torch


def _program(function, log, ranks, arguments):
    """The child: calls the function, or forks the ranks that do, and returns the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if ranks is None:
        return _call(function, arguments)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = set()
    for rank in range(ranks):
        child = os.fork()
        if not child:
            os.environ |= _torchrun(rank, ranks, port)
            faulthandler.dump_traceback_later(RANKS_HANG_AFTER, exit=True)
            os._exit(_call(function, arguments))
        running.add(child)
    status = 0
    while running:
        child, waited = os.wait()
        running.discard(child)
        if waited and not status:
            status = os.waitstatus_to_exitcode(waited)
            for other in running:
                os.kill(other, signal.SIGKILL)
    return status


def _torchrun(rank, ranks, port):
    """Returns the environment of a rank."""
    return {
        "TORCHELASTIC_RUN_ID": "tests", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
    }  # fmt: skip


def _call(function, arguments):
    """Calls the function and returns the exit status."""
    try:
        return function(**arguments) or 0
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
