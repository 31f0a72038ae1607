"""``npz-vision VERB``, also ``python -m processing VERB``: one command for everything.

Each verb is a module of `processing.commands`, imported when the verb is used, with

- ``add_arguments(parser)``: adds the verb's arguments, its description and an example;
- ``run(options)``: does the work and returns the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final, NoReturn

from processing.commands.console import (
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    describe,
    print_error,
    print_result,
)

VERBS: Final = {
    "check": "look at raw data before anything is written",
    "process": "turn annotated photographs into NPZ files",
    "info": "show the contents of NPZ files",
    "preview": "draw rows of a file on a sheet",
    "report": "write one HTML page that shows what is in NPZ files",
    "export": "write annotations as COCO or YOLO, in pixels of the photographs",
    "verify": "compare every byte of NPZ files with its checksum",
    "completion": "print a script with which a shell completes this command",
}
"""The verbs, in the order in which people need them, and the line about each in ``--help``."""

_PATHS: Final = ("DIR", "FILE", "PICTURE", "PLACE", "RAW")
"""How arguments that are paths are called in help."""

_HANDED_THE_PROCESSOR: Final = ("check", "process")
"""Verbs whose ``add_arguments`` also takes `DataProcessor`: its arguments are their flags."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line; that of this process if None.

    Returns:
        The exit status.
    """
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        print_error("interrupted")
        return EXIT_INTERRUPTED


def _run(words: list[str]) -> int:
    """Runs the command of some words; returns the exit status."""
    # Only the verb that is used is imported: `verify` needs no torch, and help is there at once.
    parser = command_parser([words[0]] if words and words[0] in VERBS else [])
    options = parser.parse_args(words)
    if options.verb == "completion":
        print_result(_completion(options.shell))
        return EXIT_SUCCESS
    status: int = _module(options.verb).run(options)
    return status


def command_parser(verbs: Sequence[str] = tuple(VERBS)) -> argparse.ArgumentParser:
    """Returns the parser of the command.

    Args:
        verbs: those whose arguments are needed. Others have a name and a line of help.
    """
    parser = argparse.ArgumentParser(prog=_program())
    describe(
        parser,
        "Turns annotated photographs into plain, memory-mapped NPZ files, and shows what is in "
        "them. Each verb has a help of its own.",
        ["process --help", "process --all --raw-data-dir data/raw"],
    )
    parser.add_argument(
        "--version", action=_PrintVersion, nargs=0, help="show program's version number and exit"
    )
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, line in VERBS.items():
        subparser = subparsers.add_parser(verb, help=line)
        if verb == "completion":
            describe(
                subparser,
                "Prints a script for a shell. It completes the verbs and flags of npz-vision.",
                [
                    "bash > ~/.local/share/bash-completion/completions/npz-vision",
                    "fish > ~/.config/fish/completions/npz-vision.fish",
                ],
                "Exit status: 0 the script was printed, 1 it cannot be printed, 2 wrong usage, "
                "130 interrupted.",
            )
            shells = ("bash", "zsh", "fish", "tcsh")
            subparser.add_argument("shell", choices=shells, help="the shell that runs the script")
        elif verb in verbs:
            _add_arguments(verb, subparser)
    return parser


def _program() -> str:
    """Returns the name of the command for messages and examples: one that works when copied."""
    # The installed script has other names on Windows. Started by ``python -m``, this module is
    # ``sys.argv[0]``, and the script may not be on the path.
    return "python -m processing" if sys.argv[:1] == [__file__] else "npz-vision"


def _add_arguments(verb: str, parser: argparse.ArgumentParser) -> None:
    if verb in _HANDED_THE_PROCESSOR:
        from processing.data_processor import DataProcessor

        _module(verb).add_arguments(parser, DataProcessor)
    else:
        _module(verb).add_arguments(parser)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"processing.commands.{verb}")


def _completion(shell: str) -> str:
    """Returns a script that makes a shell complete the installed command."""
    import shtab

    parser = command_parser()
    parser.prog = "npz-vision"
    for verb, subparser in _subparsers(parser).items():
        subparser.description = VERBS[verb]  # shells show one line about each verb
    for action in _actions(parser):
        if action.metavar in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks
    script: str = shtab.complete(parser, shell)
    return script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields the arguments of a parser and of all its verbs."""
    for verb in (parser, *_subparsers(parser).values()):
        for action in verb._actions:
            if not isinstance(action, argparse._SubParsersAction):
                yield action


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of each verb."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    verbs: dict[str, argparse.ArgumentParser] = action.choices
    return verbs


class _PrintVersion(argparse.Action):
    """Prints the version. It is looked up only then, because that takes as long as a help."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        try:
            version = metadata.version("npz-vision-data")
        except metadata.PackageNotFoundError:
            version = "of a folder that is not installed"
        print_result(f"npz-vision-data {version}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
