"""One run: prepares the data, does the action, and reports where a signal stopped it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch.utilities.exceptions import SIGTERMException

from training.actions import ACTIONS
from training.data import bad_inputs, check_directories, render_demo_if_needed
from training.exit_status import EXIT_REJECTIONS, SettingsError
from training.interrupts import Stopped
from training.report import report_stop

if TYPE_CHECKING:
    from training.build import Run


def act(action: str, run: Run, *, demo_images: int) -> float | None:
    """Do an action; return its score, if it has one.

    Args:
        action: a name in `ACTIONS`.
        run: the parts.
        demo_images: photographs to render if the data is the demo and does not exist.

    Raises:
        SettingsError: a directory does not exist, or a test has no checkpoint.
        SystemExit: a signal stopped it, with status 128 + signal; or the command has finished, and
            the processor left out bad inputs, with status 3.
    """
    if action == "test" and run.ckpt_path is None:
        raise SettingsError("action=test: give ckpt_path, the checkpoint to use")
    with _reported_stop(run):
        check_directories(run.datamodule)
        render_demo_if_needed(run.datamodule, demo_images)
        score = ACTIONS[action](run)
    if _answers_the_shell(run) and bad_inputs(run.datamodule):
        raise SystemExit(EXIT_REJECTIONS)
    return score


def _answers_the_shell(run: Run) -> bool:
    """Whether the exit status of this process is that of the user's command.

    Launchers such as torchrun and SLURM take each status but 0 for a failure, and stop the other
    processes. Of several runs in one command, each hands its score to the search.
    """
    environment = getattr(run.trainer.strategy, "cluster_environment", None)
    launched = environment is not None and environment.creates_processes_externally
    return run.is_command and run.trainer.is_global_zero and not launched


@contextmanager
def _reported_stop(run: Run) -> Iterator[None]:
    try:
        yield
    except Stopped as stop:
        report_stop(run, stop.signum)
        raise SystemExit(128 + stop.signum) from stop
    except SIGTERMException as stop:  # from a loop in which `LastCheckpoint` takes no part
        report_stop(run, signal.SIGTERM)
        raise SystemExit(128 + signal.SIGTERM) from stop
    except KeyboardInterrupt as stop:
        report_stop(run, signal.SIGINT, getattr(stop, "__notes__", ()))
        raise SystemExit(128 + signal.SIGINT) from stop
    except SystemExit as stop:
        # Lightning turns Ctrl-C into an exit with status 1.
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        report_stop(run, signal.SIGINT, getattr(stop.__context__, "__notes__", ()))
        raise SystemExit(128 + signal.SIGINT) from stop
