"""Child processes for tests: they start in milliseconds, although imports take seconds.

Each child is forked from an interpreter that has imported the package and runs nothing else, so
that no thread and no lock is inherited. There are two ways:

- `PROCESSES`: the standard library's forkserver, for functions that return or raise;
- `ForkServer`: for functions that behave like a program, with a log file and an exit status. All
  workers of a session share its process, ``python -m tests.processes ADDRESS SESSION MODULE...``.
  The one of the fixture `programs` has imported the example, torch and Lightning.
"""

import contextlib
import faulthandler
import importlib
import json
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["processing.data_processor", "tests.faults.damage"])
RANKS_HANG_AFTER = 120  # seconds


class ForkServer:
    """Runs functions in child processes; all workers of the tests share it.

    The first worker that asks for the server starts it. The server ends with `session`.

    Args:
        modules: names of modules; imported once, before the first fork.
        directory: of the server's socket; the same one for all that share the server.
        session: number of the process that outlives all workers.
    """

    def __init__(self, *modules, directory, session):
        self._module = modules[0]
        self._address = str(directory / f"{self._module}.socket")
        with FileLock(f"{self._address}.lock"):
            if not Path(self._address).exists():
                command = ["-m", "tests.processes", self._address, str(session), *modules]
                subprocess.run([sys.executable, *command], cwd=ROOT, check=True)

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
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            with connection.makefile("rw") as lines:
                lines.write(json.dumps(request, default=str) + "\n")
                lines.flush()
                return int(lines.readline())


def main():
    """Imports the modules, and returns once the server is ready to be connected to."""
    address, session, *modules = sys.argv[1:]
    for name in modules:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        if not os.fork():
            _serve(listener, os.pidfd_open(int(session)))
    os._exit(0)  # Python would take a second to tidy up after torch


def _serve(listener, session):
    """Forks one child for each connection and answers its exit status; ends with the session."""
    running = {}  # by a descriptor that tells the end of a child: its number and its connection
    while True:
        ready, _, _ = select.select([listener, session, *running], [], [])
        if session in ready:
            return
        for descriptor in running.keys() & {*ready}:
            _answer(*running.pop(descriptor))
            os.close(descriptor)
        if listener in ready:
            connection, _ = listener.accept()
            child = _start(connection)
            running[os.pidfd_open(child)] = child, connection


def _start(connection):
    """Reads a request and forks the child that runs it; returns the child's number."""
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    # Imported here, so that the next child need not import it again.
    function = getattr(importlib.import_module(request["module"]), request["function"])
    child = os.fork()
    if not child:
        os._exit(_program(function, request["log"], request["ranks"], request["arguments"]))
    return child


def _answer(child, connection):
    """Sends the exit status of a child that has ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with connection, contextlib.suppress(BrokenPipeError):  # the worker that asked was killed
        connection.sendall(f"{status}\n".encode())


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
