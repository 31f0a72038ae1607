"""Runs the command: one line for whatever is wrong, and an exit status that says which kind."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from processing.commands.console import discard_output, print_error
from processing.core.error_notes import format_error
from processing.core.errors import ProcessingError
from training.exit_status import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, SettingsError
from training.help import asks_for_help, print_help
from training.run_directory import shared_directory

FULL_ERROR = "HYDRA_FULL_ERROR"
_SET_HERE = ContextVar("_SET_HERE", default=False)
"""Whether the command has set `FULL_ERROR`, not the user."""
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Options of Hydra that may be followed by a path with an equals sign."""


def command(conf: Path, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator of a function that `hydra.main` made.

    Called without settings, the function reads the command line, and settings that cannot be
    composed end the process with status 2. Called with settings, it raises its errors.

    Args:
        conf: directory of the settings.
        name: name of the main file in it.
    """

    def decorate(main: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(main)
        def run(config: Any = None) -> Any:
            if config is not None:
                return main(config)
            # Modules of the project from whose folder the script is run, for _target_.
            if str(Path.cwd()) not in sys.path:
                sys.path.append(str(Path.cwd()))
            # Hydra has no other way to choose nothing in a group.
            none = {
                f"{group}=null": f"{group}=none" for group in ("logger", "callbacks", "augment")
            }
            sys.argv[1:] = [none.get(argument, argument) for argument in sys.argv[1:]]
            sys.argv += shared_directory(sys.argv[1:])
            sys.argv[1:] = _settings_first(sys.argv[1:])
            act: Callable[[], Any] = main
            if asks_for_help(sys.argv[1:]):
                act = functools.partial(print_help, conf, name, sys.argv[1:])
            with _lost_reader():
                if _wants_traceback():
                    return act()
                return _without_traceback(act, conf, name)

        return run

    return decorate


def _settings_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with settings before options such as ``--multirun``.

    Hydra refuses settings on both sides of an option.
    """
    settings: list[str] = []
    others: list[str] = []
    for before, one in zip(["", *arguments], arguments, strict=False):
        setting = one.startswith("~") or ("=" in one and not one.startswith("-"))
        (settings if setting and before not in WITH_VALUE else others).append(one)
    return settings + others


@contextmanager
def _lost_reader() -> Iterator[None]:
    """End quietly, or train on, if ``| head`` has read enough of the output.

    The errors of a run never come here: `exit_statuses` has turned them into a status.
    """
    # Hydra's handler writes to standard output, and would show a traceback for every line.
    shows_errors, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    except BrokenPipeError:
        discard_output(sys.stdout)
    finally:
        logging.raiseExceptions = shows_errors
        _flush_output()


def _flush_output() -> None:
    """Write the rest of a text now: at exit, Python would complain about a lost reader."""
    if sys.stdout is None:  # Python found it closed
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)


def _wants_traceback() -> bool:
    return os.environ.get(FULL_ERROR) == "1"


def _without_traceback(main: Callable[..., Any], conf: Path, name: str) -> Any:
    arguments = sys.argv[1:]
    # Hydra would print several lines and exit with status 1; so it hands the error on.
    os.environ[FULL_ERROR] = "1"
    token = _SET_HERE.set(True)
    try:
        return main()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        os.environ.pop(FULL_ERROR)
        from training.overrides import explain

        print_error(explain(error, arguments, conf, name))
        raise SystemExit(EXIT_USAGE) from error
    except KeyboardInterrupt as error:  # before the run began: `exit_statuses` takes later ones
        print_error("interrupted")
        raise SystemExit(EXIT_INTERRUPTED) from error
    finally:
        _SET_HERE.reset(token)
        os.environ.pop(FULL_ERROR, None)


@contextmanager
def exit_statuses() -> Iterator[None]:
    """Turn errors of the settings and of the data into a message and an exit status.

    With ``HYDRA_FULL_ERROR=1`` in the environment they stay exceptions with a traceback.
    """
    if _wants_traceback() and not _SET_HERE.get():
        yield
        return
    # Processes that are started must not take the command's own setting for the user's.
    set_here = os.environ.pop(FULL_ERROR, None)
    try:
        yield
    except SettingsError as error:
        print_error(str(error))
        raise SystemExit(EXIT_USAGE) from error
    except (ProcessingError, FileNotFoundError) as error:
        # About the user's files: a traceback would not say more.
        print_error(format_error(error))
        raise SystemExit(EXIT_FAILURE) from error
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        print_error(f"{format_error(error)}\n(set {FULL_ERROR}=1 to see the traceback)")
        raise SystemExit(EXIT_FAILURE) from error
    except KeyboardInterrupt as error:
        print_error("interrupted: the same command continues")
        raise SystemExit(EXIT_INTERRUPTED) from error
    finally:
        if set_here is not None:
            os.environ[FULL_ERROR] = set_here
