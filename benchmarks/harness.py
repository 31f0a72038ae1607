"""Runs contenders in turns, each in a process of its own that rests while the others run.

All contenders make pass 1, then all make pass 2, and so on. A disturbance of the machine affects
neighbouring passes alike, so ratios within one pass are more reliable than times. CPU time and
memory are those of the contender's whole process tree, read from /proc: Linux only. A contender
that lacks its library, fails, or delivers wrong samples is reported with the reason, never omitted.
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

from benchmarks import process_tree
from benchmarks.page_cache import files_below, write_back

Step = Literal["started", "prepare", "start", "make_ready", "run", "check"]
ANSWER_SECONDS: Final = 900.0
"""A contender that does not answer for this long has failed."""
END_SECONDS: Final = 30.0
"""Time for a process to exit by itself; then it is killed."""
REST_SECONDS: Final = 5.0
"""A contender whose workers are busy for this long after a pass has failed."""
MOST_DISTURBANCE: Final = 0.1
"""CPU seconds of other programs per second from which on a pass is reported as disturbed."""

_log = logging.getLogger(__name__)


class Contender(Protocol):
    """One row of a benchmark's table.

    Instances are pickled to the contender's process. They may keep open what they open there.
    Optional libraries are imported in methods, so that a missing one fails only its contender.
    """

    name: str
    """Name in the table; unique."""
    files: str
    """Name of the folder for its files; contenders that prepare the same files share a folder."""

    def prepare(self, data: Path, folder: Path) -> None:
        """Make its files in the empty `folder` from the benchmark's `data`."""

    def start(self, folder: Path) -> None:
        """Open its files and start its workers; called once in a process, not measured."""

    def make_ready(self, folder: Path) -> str | None:
        """Undo the effects of the other contenders, not measured; return a remark for the user."""

    def run(self, folder: Path) -> int:
        """Make one pass and return the number of samples."""

    def check(self, data: Path, folder: Path) -> None:
        """Raise an error if its samples are wrong; called once, after the warm-up pass."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One measured pass: number of samples, wall seconds, CPU seconds of the process tree."""

    samples: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Return the samples per second."""
        return self.samples / self.seconds


@dataclass(slots=True)
class Result:
    """Measurements of one contender.

    Args:
        passes: measured passes in order; fewer than asked for if the contender failed.
        peak_memory: bytes, see `PeakMemory`; 0 if it was not sampled.
        problem: reason why the contender could not be measured; None if it was.
        huge_pages: bytes of files that one of its processes maps in pages of 2 MiB.
        first: measurements of first epochs, see `measure_first_passes`; None if there are none.
    """

    passes: list[Pass] = field(default_factory=list)
    peak_memory: int = 0
    problem: str | None = None
    huge_pages: int = 0
    first: Result | None = None


def measure(
    contenders: Sequence[Contender], *, data: Path, work: Path, passes: int
) -> dict[str, Result]:
    """Measure contenders in turns.

    Memory is sampled only in a warm-up pass: a sample walks the page tables of all that is mapped.

    Args:
        contenders: in the order of their turns; files that they need were made by `prepare`.
        data: passed to each contender.
        work: directory with one folder for each contender's `files`.
        passes: measured passes of each contender.

    Returns:
        Results by name.

    Raises:
        ValueError: two contenders have the same name.
    """
    results = _empty_results(contenders)
    with contextlib.ExitStack() as stack:
        processes: dict[str, ContenderProcess] = {}
        for contender in contenders:
            with _reported(results[contender.name], contender.name):
                (work / contender.files).mkdir(parents=True, exist_ok=True)
                process = stack.enter_context(ContenderProcess(contender, data, work))
                with process_tree.PeakMemory(process.pid) as memory:
                    process.call("start")
                    process.call("run")
                results[contender.name].peak_memory = memory.peak
                process.call("check")
                process.pause()
                processes[contender.name] = process
        for number in range(passes):
            # The order of loops matters: one pass of each, so that disturbances hit all alike.
            for name, process in processes.items():
                if results[name].problem is None:
                    with _reported(results[name], name):
                        results[name].passes.append(process.timed_pass())
            _log.info("pass %d of %d is done", number + 1, passes)
        for name, process in processes.items():
            results[name].huge_pages = process_tree.huge_pages(process.pid)
    return results


def measure_first_passes(
    contenders: Sequence[Contender], *, data: Path, work: Path, repeats: int
) -> dict[str, Result]:
    """Write the files of each contender and measure its first pass over them.

    The page cache holds the files as they were written, and each pass runs in a new process: no
    earlier pass has mapped their pages. Starting does not count. Contenders with the same `files`
    share what the first of them writes. Arguments, result and errors are those of `measure`, and
    `repeats` is the number of first passes of each contender.
    """
    results = _empty_results(contenders)
    written: set[str] = set()
    for contender in contenders:
        result = results[contender.name]
        with _reported(result, contender.name):
            if contender.files not in written:
                prepare(contender, data, work)
                written.add(contender.files)
            for _ in range(repeats):
                with ContenderProcess(contender, data, work) as process:
                    process.call("start")
                    result.passes.append(process.timed_pass())
                    result.huge_pages = process_tree.huge_pages(process.pid)
    return results


def prepare(contender: Contender, data: Path, work: Path) -> None:
    """Make a contender's files anew, in a process that exits afterwards."""
    folder = work / contender.files
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _log.info("preparing %s", folder)
    with ContenderProcess(contender, data, work) as process:
        process.call("prepare")
    for file in files_below(folder):
        write_back(file)  # now, so that the disk has nothing to do during the passes


def _empty_results(contenders: Sequence[Contender]) -> dict[str, Result]:
    results = {contender.name: Result() for contender in contenders}
    if len(results) < len(contenders):
        raise ValueError(f"names must be unique, got {list(results)}")
    return results


class ContenderError(RuntimeError):
    """A contender failed; the message is the reason."""


@contextlib.contextmanager
def _reported(result: Result, name: str) -> Iterator[None]:
    """Turn a `ContenderError` into the contender's result, so that the others go on."""
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
    """The process of one contender; leaving the context ends it and its children.

    Args:
        contender: pickled to the process, which is spawned.
        data: passed to the contender.
        work: directory of the contender's folder, and of ``FILES.log`` with everything it prints.
    """

    def __init__(self, contender: Contender, data: Path, work: Path) -> None:
        # Spawned: a forked process would inherit memory and threads of this one.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._log = work / f"{contender.files}.log"
        self._process = context.Process(
            target=_serve, args=(other_end, contender, data, work / contender.files, self._log)
        )
        self._process.start()
        self._pidfd = os.pidfd_open(self.pid)
        other_end.close()  # so that the end of the process closes the connection
        self.call("started")

    @property
    def pid(self) -> int:
        """Return the process id, which is also the id of the process group."""
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
        self._connection.close()  # the process exits when the connection is closed
        self._end()
        os.close(self._pidfd)

    def call(self, step: Step) -> _Answer:
        """Call a method of the contender in its process; ``started`` only waits for the process.

        Raises:
            ContenderError: the method raised an error, or the process died or did not answer.
        """
        try:
            self._connection.send(step)
            if not self._connection.poll(ANSWER_SECONDS):
                self._end()
                raise ContenderError(f"{step}: no answer for {ANSWER_SECONDS:.0f} s")
            answer: _Answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._end()
            raise ContenderError(
                f"{step}: died with exit code {self._process.exitcode}; see {self._log}"
            ) from error
        if answer.problem is not None:
            raise ContenderError(answer.problem)
        return answer

    def timed_pass(self) -> Pass:
        """Let the contender make one pass, and wait until its processes rest again."""
        remark = self.call("make_ready").value
        if remark:
            _log.warning("%s", remark)
        busy = process_tree.busy_cpu_seconds()
        answer = self.call("run")
        others = process_tree.busy_cpu_seconds() - busy - answer.cpu_seconds
        if others > MOST_DISTURBANCE * answer.seconds:
            _log.warning("other programs took %.1f s of CPU time in a pass: too busy", others)
        self.pause()
        return Pass(answer.value, answer.seconds, answer.cpu_seconds)

    def pause(self) -> None:
        """Wait until the contender's workers are idle, so that they do not disturb the others.

        Raises:
            ContenderError: they are still busy after `REST_SECONDS`.
        """
        deadline = time.monotonic() + REST_SECONDS
        # Idle means that the whole process tree used no CPU time between two looks.
        before, now = -1.0, process_tree.cpu_ticks(self.pid)
        while before != now:
            if time.monotonic() > deadline:
                raise ContenderError(f"still busy {REST_SECONDS:.0f} s after its pass")
            time.sleep(0.05)
            before, now = now, process_tree.cpu_ticks(self.pid)

    def _end(self) -> None:
        """Wait for the process; kill it and its children if they do not exit by themselves."""
        wait([self._pidfd], timeout=END_SECONDS)  # join would also wait for forked children
        with contextlib.suppress(ProcessLookupError):  # no process of the group is left
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()


def _serve(
    connection: Connection, contender: Contender, data: Path, folder: Path, log: Path
) -> None:
    """Call the contender's methods, in its process, until the connection is closed."""
    os.setsid()  # a process group of its own, so that one signal ends all its children
    # A spawned process would also spawn its workers: restore the default of this system.
    multiprocessing.set_start_method(None, force=True)
    with log.open("a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    steps: dict[str, Callable[[], Any]] = {
        "started": lambda: None,
        "prepare": lambda: contender.prepare(data, folder),
        "start": lambda: contender.start(folder),
        "make_ready": lambda: contender.make_ready(folder),
        "run": lambda: contender.run(folder),
        "check": lambda: contender.check(data, folder),
    }
    while True:
        try:
            step = connection.recv()
        except EOFError:
            return
        try:
            cpu, start = process_tree.own_cpu_seconds(), time.perf_counter()
            value = steps[step]()
            seconds = time.perf_counter() - start
            answer = _Answer(value, seconds, process_tree.own_cpu_seconds() - cpu)
        except ModuleNotFoundError as error:
            answer = _Answer(problem=f"not installed ({error.name})")
        except Exception as error:  # any failure is the result of this contender
            traceback.print_exc()
            answer = _Answer(problem=f"{step}: {type(error).__name__}: {error}"[:300])
        connection.send(answer)
