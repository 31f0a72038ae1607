"""``python -m processing COMMAND``: what can be done with NPZ files from a shell.

Exit status: 0 success, 1 failure, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from processing.commands.verify import add_verify_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m processing", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    verify = "compare NPZ files with their checksums: exit status 0 all sound, 1 some are not"
    add_verify_command(commands.add_parser("verify", help=verify, description=verify))
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
