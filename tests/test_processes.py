"""The server of child processes that all workers of the tests share."""

import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import ForkServer


def tell_the_server():
    """Prints the number of the server, which is the parent of its children."""
    print(os.getppid())


def write(path):
    """Waits for a reader of a named pipe."""
    with open(path, "w") as pipe:
        pipe.write("both run")


def read(path):
    """Waits for a writer of a named pipe, and prints the text that it gets."""
    with open(path) as pipe:
        print(pipe.read())


def leave():
    sys.exit(3)


def fail():
    raise ValueError("it is printed")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def session():
    """A process that ends with the test, or earlier if it is killed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


def test_two_workers_share_the_server_that_the_first_one_starts(session, tmp_path):
    log, numbers = tmp_path / "log", set()
    for _ in range(2):
        worker = ForkServer("json", directory=tmp_path, session=session.pid)
        assert worker.run(tell_the_server, log) == 0
        numbers.add(log.read_text())
    assert len(numbers) == 1


def test_programs_of_two_workers_run_at_the_same_time(session, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    workers = [ForkServer("json", directory=tmp_path, session=session.pid) for _ in range(2)]
    logs = tmp_path / "writer", tmp_path / "reader"
    with ThreadPoolExecutor(2) as pool:
        for future in [
            pool.submit(worker.run, function, log, path=tmp_path / "pipe")
            for worker, function, log in zip(workers, (write, read), logs, strict=True)
        ]:
            assert future.result() == 0
    assert logs[1].read_text() == "both run\n"


def test_the_server_ends_with_its_session(session, tmp_path):
    worker = ForkServer("json", directory=tmp_path, session=session.pid)
    worker.run(tell_the_server, tmp_path / "log")
    server = os.pidfd_open(int((tmp_path / "log").read_text()))
    assert select.select([server], [], [], 0)[0] == []
    session.kill()
    assert select.select([server], [], [], 60)[0] == [server]
    os.close(server)


@pytest.mark.parametrize(
    ("function", "status"), [(tell_the_server, 0), (leave, 3), (fail, 1), (die, -signal.SIGKILL)]
)
def test_the_exit_status_is_that_of_a_subprocess(session, tmp_path, function, status):
    worker = ForkServer("json", directory=tmp_path, session=session.pid)
    assert worker.run(function, tmp_path / "log") == status
