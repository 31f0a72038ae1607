"""Programs that wait at a moment, and get Ctrl-C there as at a terminal: in all their processes."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds, only used up by a program that fails


def wait_here(folder):
    """Called by one process of a program: says that the moment is there, and waits to go on."""
    (folder / "reached").write_text(".")
    with (folder / "go").open("rb", buffering=0) as go:
        go.read(1)


def interrupt(folder, module, *arguments, goes_on):
    """Runs a program and sends SIGINT to its processes when one calls `wait_here(folder)`.

    Args:
        folder: for the FIFOs.
        module: the program, run with ``python -m``.
        arguments: of the program.
        goes_on: whether the process that waits is told to go on after the signal.

    Returns:
        The exit status and the standard error of all processes.
    """
    channels = {}
    for name in ("reached", "go"):
        os.mkfifo(folder / name)
        channels[name] = os.open(folder / name, os.O_RDWR)
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert select.select([channels["reached"]], [], [], PATIENCE)[0]
            os.killpg(process.pid, signal.SIGINT)
            if goes_on:
                os.write(channels["go"], b".")
            _, printed = process.communicate(timeout=PATIENCE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            for channel in channels.values():
                os.close(channel)
    return process.returncode, printed
