"""How the log is printed: each line once, and without characters that command a terminal."""

from __future__ import annotations

import logging

from processing.commands.console import escape_controls


def prepare_log() -> None:
    """Prepare the handlers that Hydra and Lightning have made.

    Names in the data are escaped. The console handler of Lightning is removed, because Hydra's root
    logger prints its lines as well.
    """
    for handler in logging.getLogger().handlers:
        escape_controls(handler)
    logger = logging.getLogger("lightning")
    if not logging.getLogger().hasHandlers():
        return
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:  # not its subclasses, such as FileHandler
            logger.removeHandler(handler)
