"""The type of arguments that name files."""

from __future__ import annotations

from processing.core.arguments import check_location
from processing.core.urls import Location


def location(text: str) -> Location:
    """Returns an argument as a path or URL.

    Raises:
        ValueError: the argument is empty, or a URL that cannot be read. The name of this function
            is in argparse's message about it.
    """
    return check_location("FILE", text)
