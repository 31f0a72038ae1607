"""Runs contenders in turns, each in a process of its own that rests while others run.

All contenders make pass 1, then all make pass 2, and so on: whatever disturbs the machine disturbs
neighbours alike, so ratios within one pass mean more than times. Linux only: CPU time and memory
are those of the contender's whole process tree, read from /proc. A contender that lacks its
library, fails, or delivers something wrong is reported with the reason, never left out.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from benchmarks.process_tree import PeakMemory, cpu_ticks, own_cpu_seconds

ANSWER_SECONDS: Final = 900.0
"""A contender that gives no answer for so long has failed."""
END_SECONDS: Final = 30.0
"""It may take so long to end, then it is killed."""
REST_SECONDS: Final = 5.0
"""So has one whose workers stay busy for so long after a pass."""

_log = logging.getLogger(__name__)


class Contender(Protocol):
    """One row of a benchmark's table.

    Instances are pickled to the contender's process; what they open there, they may keep. Optional
    libraries are imported in methods only, so that a missing one is this contender's problem alone.
    """

    name: str
    """As in the table; unique."""
    files: str
    """Name of the folder it keeps its files in; contenders that prepare the same files share it."""

    def prepare(self, data: Path, folder: Path) -> None:
        """Makes its files in the empty `folder` from the benchmark's `data`; kept between runs."""

    def make_ready(self, folder: Path) -> None:
        """Undoes what others did to the machine meanwhile; before each pass, not measured."""

    def run(self, folder: Path) -> int:
        """Makes one pass and returns how many samples it handled."""

    def check(self, data: Path, folder: Path) -> None:
        """Raises if what it delivers is not right; called once, after the pass that warms up."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One measured pass: wall and CPU seconds (of the process tree) for so many samples."""

    samples: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.samples / self.seconds


@dataclass(slots=True)
class Result:
    """What became of one contender.

    Args:
        passes: in order; all of them, or those before it failed.
        peak_memory: bytes, see `PeakMemory`; 0 if it was not sampled.
        problem: why it could not be measured; None if it was.
    """

    passes: list[Pass] = field(default_factory=list)
    peak_memory: int = 0
    problem: str | None = None


def measure(
    contenders: Sequence[Contender], *, data: Path, work: Path, passes: int
) -> dict[str, Result]:
    """Measures contenders, interleaved.

    Each first makes a pass that warms it up and during which its memory is sampled; the measured
    passes are not sampled, because a sample walks the page tables of all that is mapped.

    Args:
        contenders: in the order in which they take turns.
        data: handed to them.
        work: directory with one folder for each contender's `files`, kept between runs.
        passes: measured passes of each.

    Returns:
        By name, in the given order.
    """
    results = {contender.name: Result() for contender in contenders}
    if len(results) < len(contenders):
        raise ValueError(f"names must be unique, got {[c.name for c in contenders]}")
    with contextlib.ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        for contender in contenders:
            with _reported(results[contender.name], contender.name):
                prepare(contender, data, work)
                process = stack.enter_context(ContenderProcess(contender, data, work))
                with PeakMemory(process.pid) as memory:
                    process.call("run")
                results[contender.name].peak_memory = memory.peak
                process.call("check")
                process.pause()
                processes[contender.name] = process
        for number in range(passes):
            for name, process in processes.items():
                if results[name].problem is None:
                    with _reported(results[name], name):
                        results[name].passes.append(process.timed_pass())
            _log.info("pass %d of %d is done", number + 1, passes)
    return results


def prepare(contender: Contender, data: Path, work: Path) -> None:
    """Makes a contender's files unless they are there, in a process that ends afterwards."""
    folder = work / contender.files
    done = work / f"{contender.files}.prepared"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _log.info("%s: preparing %s", contender.name, folder)
    with ContenderProcess(contender, data, work) as process:
        process.call("prepare")
    done.touch()


class ContenderError(RuntimeError):
    """A contender could not do what it was asked for; the message says why."""


@contextlib.contextmanager
def _reported(result: Result, name: str) -> Iterator[None]:
    try:
        yield
    except ContenderError as error:
        result.problem = str(error)
        _log.warning("%s: %s", name, error)


@dataclass(frozen=True, slots=True)
class _Answer:
    value: Any = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    problem: str | None = None


class ContenderProcess:
    """The process in which one contender lives; as a context manager, ends it and its children.

    Args:
        contender: pickled to the process, which is spawned.
        data: handed to the contender.
        work: directory of the contender's folder; what it prints goes to ``FILES.log`` there.
    """

    def __init__(self, contender: Contender, data: Path, work: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._log = work / f"{contender.files}.log"
        self._process = context.Process(
            target=_serve, args=(other_end, contender, data, work / contender.files, self._log)
        )
        self._process.start()
        self._pidfd = os.pidfd_open(self.pid)
        other_end.close()
        self.call("started")

    @property
    def pid(self) -> int:
        """Process id, which is that of its process group as well."""
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()  # the process takes it as its end
        self._end()
        os.close(self._pidfd)

    def call(self, what: Literal["started", "prepare", "make_ready", "run", "check"]) -> _Answer:
        """Has the contender do something.

        Raises:
            ContenderError: it failed, or it died or gave no answer.
        """
        try:
            self._connection.send(what)
            if not self._connection.poll(ANSWER_SECONDS):
                self._end()
                raise ContenderError(f"{what}: no answer for {ANSWER_SECONDS:.0f} s")
            answer: _Answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._end()
            raise ContenderError(
                f"{what}: died with exit code {self._process.exitcode}; see {self._log}"
            ) from error
        if answer.problem is not None:
            raise ContenderError(answer.problem)
        return answer

    def timed_pass(self) -> Pass:
        """Has the contender make one pass, and waits until it rests again."""
        self.call("make_ready")
        answer = self.call("run")
        self.pause()
        return Pass(answer.value, answer.seconds, answer.cpu_seconds)

    def pause(self) -> None:
        """Waits until workers have finished what they had begun, so that others are alone.

        Raises:
            ContenderError: they are busy without end.
        """
        deadline = time.monotonic() + REST_SECONDS
        before, now = -1.0, cpu_ticks(self.pid)
        while before != now:
            if time.monotonic() > deadline:
                raise ContenderError(f"still busy {REST_SECONDS:.0f} s after its pass")
            time.sleep(0.05)
            before, now = now, cpu_ticks(self.pid)

    def _end(self) -> None:
        """Waits for the process, and ends what did not end by itself, children included."""
        # Not by join, which waits for children that were forked as well.
        wait([self._pidfd], timeout=END_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()


def _serve(
    connection: Connection, contender: Contender, data: Path, folder: Path, log: Path
) -> None:
    """The contender's process: does what it is told until the other end closes."""
    os.setsid()  # a group of its own, to be ended as one
    # A spawned process would spawn its own workers, too: back to what is usual on this system.
    multiprocessing.set_start_method(None, force=True)
    with log.open("a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    tasks: dict[str, Callable[[], Any]] = {
        "started": lambda: None,
        "prepare": lambda: contender.prepare(data, folder),
        "make_ready": lambda: contender.make_ready(folder),
        "run": lambda: contender.run(folder),
        "check": lambda: contender.check(data, folder),
    }
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        try:
            cpu, start = own_cpu_seconds(), time.perf_counter()
            value = tasks[what]()
            seconds = time.perf_counter() - start
            answer = _Answer(value, seconds, own_cpu_seconds() - cpu)
        except ModuleNotFoundError as error:
            answer = _Answer(problem=f"not installed ({error.name})")
        except Exception as error:  # whatever fails, it is one contender's result
            traceback.print_exc()
            answer = _Answer(problem=f"{what}: {type(error).__name__}: {error}"[:300])
        connection.send(answer)
