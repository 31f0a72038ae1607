"""``python -m website.pictures``: draws the pictures of the documentation into ``docs/images/``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from website.pictures import augmenting, diagrams, looking, placing, reading, terminal
from website.pictures.demo import Demo


class Picture(Protocol):
    """What each function of `PICTURES` returns."""

    def save(self, path: Path) -> None:
        """Write the picture to a file."""


IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
PICTURES: Final[dict[str, Callable[[Demo], Picture]]] = {
    "augmentation.svg": augmenting.before_and_after,
    "crop-margin.svg": placing.crop_margin,
    "file-layout.svg": diagrams.file_layout,
    "letterbox.svg": placing.letterbox,
    "path.svg": diagrams.path,
    "preview.jpg": looking.preview,
    "reading.svg": lambda _: reading.chart(),
    "tasks.svg": placing.tasks,
    "terminal-process.svg": terminal.process,
    "terminal-verify.svg": terminal.verify,
}
"""The pictures by the names of their files."""
PHOTOGRAPHS: Final = 100


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures that were asked for."""
    parser = argparse.ArgumentParser(prog="website.pictures", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="pictures to draw, such as path.svg (default: all)"
    )
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR")
    parser.add_argument(
        "--photographs",
        type=int,
        default=PHOTOGRAPHS,
        help="photographs of the demo to process; fewer are quicker, and pictures state their "
        "numbers (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(PICTURES))
    if unknown:
        parser.error(f"no picture {', '.join(unknown)}; expected names of {', '.join(PICTURES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder), options.photographs)
        for name in options.names or PICTURES:
            PICTURES[name](demo).save(options.output / name)
            print(options.output / name)


if __name__ == "__main__":
    main()
