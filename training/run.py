"""One run: prepares the data, does the action, and reports where a signal stopped it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning.pytorch.utilities.exceptions import SIGTERMException

from training.actions import ACTIONS
from training.data import check_directories, render_demo_if_needed
from training.exit_status import SettingsError
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
        SystemExit: a signal stopped it, with status 128 + signal.
    """
    if action == "test" and run.ckpt_path is None:
        raise SettingsError("action=test: give ckpt_path, the checkpoint to use")
    with _reported_stop(run):
        check_directories(run.datamodule)
        render_demo_if_needed(run.datamodule, demo_images)
        return ACTIONS[action](run)


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
