"""Exit statuses of the command, the same as those of ``npz-vision``."""

from __future__ import annotations

import signal

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    EXIT_USAGE,
)

__all__ = [
    "EXIT_FAILURE",
    "EXIT_INTERRUPTED",
    "EXIT_REJECTIONS",
    "EXIT_SUCCESS",
    "EXIT_TERMINATED",
    "EXIT_USAGE",
    "SettingsError",
]

EXIT_TERMINATED = 128 + signal.SIGTERM


class SettingsError(ValueError):
    """A setting is wrong: each line of the message names one, its value and what is allowed."""
