"""``python -m website.gallery RUN_DIR NAME``: a run's predictions, small enough for a page.

Reads ``predictions.png`` of a run of ``train_example.py`` and writes ``docs/images/NAME``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
_WIDTH: Final = 1200
_QUALITY: Final = 84


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="website.gallery", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("name", metavar="NAME", help="a file name that ends in .jpg")
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR")
    options = parser.parse_args(arguments)
    with Image.open(options.run_dir / "predictions.png") as picture:
        picture.thumbnail((_WIDTH, 10 * _WIDTH), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(options.output / options.name, quality=_QUALITY, optimize=True)


if __name__ == "__main__":
    main()
