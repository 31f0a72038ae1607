"""Hydra's root logger prints each line of the log once, and no name commands the terminal."""

import io
import logging

import pytest

from training.log_lines import prepare_log


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
    prepare_log()
    assert lightning_logger.handlers == [file]


def test_lightning_prints_its_lines_if_nothing_else_does(lightning_logger, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    prepare_log()
    assert len(lightning_logger.handlers) == 1


def test_names_in_the_log_are_escaped_in_the_format_of_each_handler(lightning_logger, monkeypatch):
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("\x1b[32m%(name)s\x1b[0m %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for _ in range(2):
        prepare_log()
        logging.getLogger("any").warning("left out: %s", "\x1b[2Jevil.jpg")
    assert handler.stream.getvalue() == "\x1b[32many\x1b[0m left out: \\u001b[2Jevil.jpg\n" * 2
