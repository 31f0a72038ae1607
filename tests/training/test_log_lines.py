"""Hydra's root logger prints the lines of Lightning's log; Lightning need not print them again."""

import logging

import pytest

from training.log_lines import print_once


@pytest.fixture
def lightning_logger(monkeypatch):
    """Lightning's logger as after its import: with a handler of its own for the console."""
    logger = logging.getLogger("lightning")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler()])
    return logger


def test_lines_are_printed_by_the_root_logger_only(lightning_logger, monkeypatch, tmp_path):
    file = logging.FileHandler(tmp_path / "log", delay=True)
    lightning_logger.addHandler(file)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler()])
    print_once()
    assert lightning_logger.handlers == [file]


def test_lightning_prints_its_lines_if_nothing_else_does(lightning_logger, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    print_once()
    assert len(lightning_logger.handlers) == 1
