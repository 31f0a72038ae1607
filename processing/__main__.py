"""``python -m processing COMMAND``: commands for NPZ files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from processing.commands.verify import add_verify_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line; that of this process if None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m processing",
        description="Commands for NPZ files.",
        epilog="To make NPZ files of photographs: python -m processing.data_processor --help",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    verify = commands.add_parser(
        "verify",
        help="check that NPZ files are as they were written",
        description="Compares every byte of NPZ files with their checksums, and the values with "
        "each other. Prints one line per file.",
        epilog="Exit status: 0 all files are sound, 1 a file is damaged or cannot be read, "
        "2 wrong usage.",
    )
    add_verify_command(verify)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
