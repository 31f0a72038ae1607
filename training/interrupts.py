"""Ctrl-C and SIGTERM: the first asks the training to stop after a step, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from processing.commands.console import print_error


class Stopped(Exception):
    """The training has stopped after an optimizer step, because of a signal.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopRequest:
    """Notes SIGINT and SIGTERM, so that the training can stop where it can be continued.

    Attributes:
        signum: the signal that came first; 0 until then.
    """

    def __init__(self, *, announces: bool = True) -> None:
        """Args: announces: whether to tell the user that the step is finished first."""
        self.signum = 0
        self._announces = announces
        self._former: dict[int, Any] = {}

    def install(self) -> None:
        """Take the place of the signal handlers, of Lightning too.

        Lightning's handler of SIGTERM lets ranks communicate inside a signal handler, and stops in
        the middle of gradient accumulation.

        Outside the main thread nothing happens, because Python allows no handlers to be set there.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (signal.SIGINT, signal.SIGTERM):
            # None: a handler of another library, which could not be put back.
            if signal.getsignal(signum) is not None:
                self._former[signum] = signal.signal(signum, self._note)

    def restore(self) -> None:
        """Put the former signal handlers back; a second call does nothing."""
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        self._former.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and signum == signal.SIGINT:
            # The way a program without a handler ends: the shell sees the signal.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        if not self.signum and self._announces:
            again = "; Ctrl-C again ends at once" if signum == signal.SIGINT else ""
            print_error(f"{signal.Signals(signum).name}: stopping after this step{again}")
        self.signum = self.signum or signum
