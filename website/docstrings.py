"""Reads the docstrings of this project as the site's generator expects them."""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

_EXAMPLE: Final = re.compile(r"^Example:$", re.MULTILINE)


class Examples(griffe.Extension):
    """Makes code of the sections ``Example:``, which griffe knows as ``Examples:`` only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub("Examples:", obj.docstring.value)
