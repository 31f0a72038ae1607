"""Prints each line of Lightning's log once."""

from __future__ import annotations

import logging


def print_once() -> None:
    """Remove the console handler of Lightning, whose lines Hydra's root logger prints as well."""
    logger = logging.getLogger("lightning")
    if not logging.getLogger().hasHandlers():
        return
    for handler in list(logger.handlers):
        if type(handler) is logging.StreamHandler:  # not its subclasses, such as FileHandler
            logger.removeHandler(handler)
