"""The engines that make shards: each is a `concurrent.futures.Executor`, and only `submit` is used.

An engine may run a task twice, late or elsewhere, lose it, or die: a shard has the same bytes
whoever makes it. Shards that an engine lost are made in this process. Only reports travel, a few
kilobytes for each shard.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from processing.core.engines import EXECUTORS
from processing.core.errors import ProcessingError
from processing.run.shard_records import ShardResult
from processing.run.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    from processing.run.sharded_run import ShardedRun

_LOG = logging.getLogger(__name__)
_PATIENCE: Final = 900
"""Seconds without any shard, after which this process begins to make those that are left."""


class _RayExecutor(Executor):
    """Hands tasks to a Ray cluster that this process is connected to."""

    def __init__(self, ray: Any) -> None:
        self._run = ray.remote(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Returns the future of a task; Ray repeats it if its worker dies."""
        future: Future[Any] = self._run.remote(fn, args, kwargs).future()
        return future


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def check_executor(
    executor: object, address: object, samples_per_shard: int | None
) -> tuple[str | Executor, str | None]:
    """Checks the arguments that choose an engine; returns them.

    Raises:
        TypeError: one has another type.
        ValueError: the engine is unknown, or has nothing to do, or takes no address.
    """
    if not isinstance(executor, str | Executor):
        raise TypeError(
            f"executor must be one of {', '.join(EXECUTORS)}, or a concurrent.futures.Executor, "
            f"got {executor!r}"
        )
    if isinstance(executor, str) and executor not in EXECUTORS:
        raise ValueError(f"executor must be one of {', '.join(EXECUTORS)}, got {executor!r}")
    if address is not None and not isinstance(address, str):
        raise TypeError(f"executor_address must be a text, got {address!r}")
    if address is not None and executor not in ("dask", "ray"):
        raise ValueError(f"executor_address needs executor='dask' or 'ray', got {executor!r}")
    if executor != "threads" and samples_per_shard is None:
        raise ValueError(
            f"executor={executor!r} makes shards, so it needs samples_per_shard, the number of "
            "photographs of a shard"
        )
    return executor, address


@contextlib.contextmanager
def open_executor(engine: str | Executor, address: str | None, workers: int) -> Iterator[Executor]:
    """Opens an engine, and closes it afterwards.

    Args:
        engine: one of `EXECUTORS`, but not ``threads``; or an executor, which stays open.
        address: of a running Dask scheduler or Ray cluster; None starts one on this machine.
        workers: processes to start, where the engine is started.

    Raises:
        ModuleNotFoundError: the engine is not installed; the message names the extra.
        OSError: nothing answers at the address.
    """
    if isinstance(engine, Executor):
        yield engine
    elif engine == "processes":
        with WorkerProcesses(workers) as pool:
            yield pool
    elif engine == "dask":
        with _dask(address, workers) as executor:
            yield executor
    else:
        with _ray(address, workers) as executor:
            yield executor


@contextlib.contextmanager
def _dask(address: str | None, workers: int) -> Iterator[Executor]:
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'executor="dask" needs the extra dask: pip install "npz-vision-data[dask]"'
        ) from error
    with contextlib.ExitStack() as opened:
        target: Any = address
        if address is None:
            opened.enter_context(_quiet("distributed"))
            # One task at a time in each worker: the decoder's threads are the CPUs' already.
            target = opened.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                )
            )
        with _note_address(address, "tcp://HOST:8786"):
            client = opened.enter_context(Client(target))
        # By default dask takes equal calls for one task, and keeps the first result.
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _note_address(address: str | None, example: str) -> Iterator[None]:
    """Notes the argument, and an example of it, on an error that an address causes."""
    try:
        yield
    except Exception as error:
        if address is not None:
            error.add_note(
                f"executor_address={address!r}: expected the address of a running scheduler or "
                f"cluster, such as {example}; leave it out to start workers on this machine"
            )
        raise


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Leaves out the messages below warnings of a logger: a cluster logs each connection."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _ray(address: str | None, workers: int) -> Iterator[Executor]:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'executor="ray" needs the extra ray: pip install "npz-vision-data[ray]"'
        ) from error
    # A program that is connected to Ray already stays connected.
    was_connected = ray.is_initialized()
    if not was_connected:
        local: dict[str, Any] = {}  # a running cluster has its own settings
        if address is None:
            local = {"num_cpus": workers, "include_dashboard": False}
        with _note_address(address, "HOST:6379"):
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **local)
    try:
        yield _RayExecutor(ray)
    finally:
        if not was_connected:
            ray.shutdown()


def run_tasks(
    executor: Executor, make: Callable[[int], ShardResult], numbers: Sequence[int]
) -> tuple[list[ShardResult], list[int]]:
    """Makes shards on an engine, and in this process those that the engine lost.

    Args:
        executor: the engine.
        make: makes the shard of a number, in any process.
        numbers: the shards to make.

    Returns:
        The results in the order of `numbers`, and the numbers that were made here instead.

    Raises:
        ProcessingError: a shard cannot be made; tasks that have not begun are cancelled.
        OSError: a file cannot be written by this process either.
    """
    results: dict[int, ShardResult] = {}
    lost: list[int] = []
    waiting = {executor.submit(make, number): number for number in numbers}
    try:
        while waiting:
            done, _ = wait(waiting, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
            for future in done:
                number = waiting.pop(future)
                found = _result(future, number)
                if found is None:
                    lost.append(number)
                else:
                    results[number] = found
            if not done:  # it may have forgotten a task; if not, its worker has the shard's lock
                future, number = waiting.popitem()
                _LOG.warning("no shard was made for %d s: making one here", _PATIENCE)
                results[number] = make(number)
                lost.append(number)
    finally:
        for future in waiting:
            future.cancel()
    for number in lost:
        if number not in results:
            results[number] = make(number)
    return [results[number] for number in numbers], sorted(lost)


def _result(future: Future[Any], number: int) -> ShardResult | None:
    """Returns the result of a task; None if the engine lost it.

    Raises:
        ProcessingError: the shard cannot be made; it would happen again.
    """
    try:
        found = future.result()
    except ProcessingError:
        raise
    except Exception as error:  # its worker died, the answer was lost, the disk is full
        _LOG.warning("the engine lost shard number %d: %r", number, error)
        return None
    if not isinstance(found, ShardResult):
        _LOG.warning("the engine answered shard number %d with %r", number, found)
        return None
    return found


def make_here(
    sharded: ShardedRun, numbers: Sequence[int]
) -> tuple[Sequence[ShardResult], Sequence[int]]:
    """Makes shards in this process, one after the other; see `MakeAll`."""
    return [sharded.make(sharded.shards[number]) for number in numbers], []


def make_on(
    engine: str | Executor,
    address: str | None,
    workers: int,
    plan: Callable[[], ShardedRun],
    sharded: ShardedRun,
    numbers: Sequence[int],
) -> tuple[Sequence[ShardResult], Sequence[int]]:
    """Makes shards on an engine; see `MakeAll`. It is not started if all are up to date.

    Args:
        engine: as for `open_executor`.
        address: as for `open_executor`.
        workers: as for `open_executor`.
        plan: plans the same shards in a worker; a function that can be pickled.
        sharded: the shards; workers plan for themselves, because the plan is too large to travel.
        numbers: the shards to make.
    """
    # A cluster takes seconds to start, and its workers would read all annotations first.
    if all(sharded.is_up_to_date(sharded.shards[number]) for number in numbers):
        return make_here(sharded, numbers)
    make = functools.partial(make_shard, ShardCall(uuid.uuid4().hex, plan))
    with open_executor(engine, address, workers) as executor:
        return run_tasks(executor, make, numbers)


@dataclass(frozen=True)
class ShardCall:
    """A call of a processor, as it travels to the workers of an engine.

    Args:
        key: differs between calls: a worker plans once for all shards of a call.
        plan: plans the shards.
    """

    key: str
    plan: Callable[[], ShardedRun] = field(compare=False)


def make_shard(call: ShardCall, number: int) -> ShardResult:
    """Makes one shard of a call; the function that workers of an engine run."""
    sharded = _planned(call)
    return sharded.make(sharded.shards[number])


@functools.lru_cache(maxsize=1)
def _planned(call: ShardCall) -> ShardedRun:
    return call.plan()
