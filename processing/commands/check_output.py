"""Runs a check and prints its report: for the verb ``check`` and for ``process --dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_REJECTIONS,
    EXIT_SUCCESS,
    FAILURES,
    print_error,
    print_result,
    standard_descriptors,
)
from processing.core.error_notes import format_error

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor


def run_check(
    processor: DataProcessor,
    task_names: Sequence[str],
    train_split: float,
    *,
    skip_missing: bool = True,
    as_json: bool = False,
    examples: int | None = None,
) -> int:
    """Checks the raw directory of a processor, and prints the report.

    Args:
        processor: the processor.
        task_names: the tasks that would be made.
        train_split: as for `DataProcessor.process_all`.
        skip_missing: as for `DataProcessor.process`.
        as_json: whether to print JSON.
        examples: findings of each kind that are printed for people; None for a few.

    Returns:
        The exit status.
    """
    try:
        with standard_descriptors():
            report = processor.check(task_names, train_split, skip_missing=skip_missing)
    except FAILURES as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print_error("interrupted: nothing was written")
        return EXIT_INTERRUPTED
    if as_json:
        print_result(report.to_json())
    else:
        print_result(str(report) if examples is None else report.text(examples))
    return EXIT_REJECTIONS if report.needs_a_look else EXIT_SUCCESS
