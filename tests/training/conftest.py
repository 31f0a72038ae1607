"""Keeps the loggers of this process as they are, whatever Hydra does to them."""

import logging

import pytest


@pytest.fixture(autouse=True)
def loggers_stay_as_they_are():
    """Hydra sets the root's level and disables other loggers: later tests would see no warning."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
