"""A small writer of SVG: text, shapes, arrows and photographs on a sheet of paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Point = tuple[float, float]

_STYLE: Final = """
:root { --paper:#ffffff; --edge:#d5dbe3; --ink:#1d2733; --soft:#5a6878; --panel:#f3f6f9;
  --teal:#00796b; --teal-pale:#d7efec; --orange:#c2410c; --orange-pale:#fde8d8;
  --blue:#1d5fa8; --blue-pale:#dbe9f8; --violet:#6d3fb0; --violet-pale:#eae0f7; }
@media (prefers-color-scheme: dark) { :root { --paper:#1b2129; --edge:#3a4452; --ink:#e8edf3;
  --soft:#a3b1c2; --panel:#242c37; --teal:#4fc3b5; --teal-pale:#17403c; --orange:#ff9c61;
  --orange-pale:#4a2a17; --blue:#7db8f7; --blue-pale:#1c3757; --violet:#c3a3f5;
  --violet-pale:#38294f; } }
text { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial,
  sans-serif; fill: var(--ink); }
.code { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "Liberation Mono",
  monospace; }
.soft { fill: var(--soft); } .bold { font-weight: 600; }
.teal { fill: var(--teal); } .orange { fill: var(--orange); }
.blue { fill: var(--blue); } .violet { fill: var(--violet); }
"""

COLOURS: Final = ("teal", "orange", "blue", "violet")


class Drawing:
    """A picture. Lengths are pixels of the picture, y grows downwards.

    Args:
        width: of the paper.
        height: of the paper.
        title: the picture's name for people who do not see it.
        description: the picture's message for people who do not see it.
    """

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse">'
            '<path d="M0 0 10 5 0 10z" style="fill:var(--soft)"/></marker></defs>',
        ]
        self.rect(0.5, 0.5, width - 1, height - 1, fill="paper", stroke="edge", radius=12)

    def text(
        self, x: float, y: float, text: str, kind: str = "", *, size: float = 14,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Write one line.

        Args:
            x: of its anchor.
            y: of its base line.
            text: spaces are kept.
            kind: classes of the style, such as ``bold soft``.
            size: of the letters.
            anchor: start, middle or end.
        """
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" '
            f'class="{kind}" xml:space="preserve">{escape(text)}</text>'
        )

    def pair(self, x: float, y: float, first: str, kind: str, second: str, *, size: float) -> None:
        """Write a name, and after it an explanation in soft, smaller letters.

        The second text follows the first wherever that ends: fonts differ from reader to reader.
        """
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}"><tspan class="bold {kind}" font-size="{_n(size)}">'
            f'{escape(first)}</tspan><tspan dx="10" class="soft" font-size="13.5">'
            f"{escape(second)}</tspan></text>"
        )

    def coloured(
        self, x: float, y: float, text: str, colour: str, size: float, *, code: bool = False,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Write one line in a colour that does not depend on the page."""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}" '
            f'class="{"code" if code else ""}" style="fill:{colour}" xml:space="preserve">'
            f"{escape(text)}</text>"
        )

    def lines(
        self, x: float, y: float, lines: Iterable[str], kind: str = "", *, size: float = 14,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Write lines below each other, the first with its base line at `y`."""
        for row, line in enumerate(lines):
            self.text(x, y + row * size * 1.4, line, kind, size=size, anchor=anchor)

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str = "",
        stroke: str = "", radius: float = 0, line: float = 1, dashes: str = "",
    ) -> None:  # fmt: skip
        """Draw a rectangle; `fill` and `stroke` are names of colours, empty for none."""
        style = f"fill:{_colour(fill)};stroke:{_colour(stroke)};stroke-width:{_n(line)}"
        if dashes:
            style += f";stroke-dasharray:{dashes}"
        self._parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
            f'rx="{_n(radius)}" style="{style}"/>'
        )

    def line(self, points: Iterable[Point], colour: str = "soft", *, width: float = 1.4) -> None:
        """Draw a line through points."""
        self._path(points, colour, width, "")

    def arrow(self, points: Iterable[Point], colour: str = "soft", *, width: float = 1.6) -> None:
        """Draw a line through points with a tip at its end."""
        self._path(points, colour, width, ' marker-end="url(#tip)"')

    def area(self, points: Iterable[Point], fill: str) -> None:
        """Fill a polygon."""
        corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._parts.append(f'<polygon points="{corners}" style="fill:{_colour(fill)}"/>')

    def dot(self, x: float, y: float, colour: str, radius: float = 3) -> None:
        """Draw a point with a rim that shows on any photograph."""
        self._parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" '
            f'style="fill:{_colour(colour)};stroke:#fff;stroke-width:1.2"/>'
        )

    def dot_plain(self, x: float, y: float, colour: str, radius: float = 5.5) -> None:
        """Draw a point without a rim."""
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{colour}"/>')

    def image(
        self, x: float, y: float, width: float, height: float, image: Image, alt: str
    ) -> None:
        """Place a photograph (H, W, 3) RGB, as a JPEG inside the file.

        Args:
            x: left edge.
            y: upper edge.
            width: drawn width.
            height: drawn height.
            image: at the size that the file shall have.
            alt: its content in words.
        """
        quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
        sound, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        assert sound
        content = base64.b64encode(data.tobytes()).decode()
        self._parts.append(
            f'<image x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
            f'preserveAspectRatio="none" aria-label={quoteattr(alt)} '
            f'href="data:image/jpeg;base64,{content}"/>'
        )

    def boxes(
        self, x: float, y: float, scale: float, boxes: Any, colour: str, *, line: float = 2
    ) -> None:
        """Draw boxes (k, 4) of a photograph that lies at x, y and is drawn at `scale`."""
        for x1, y1, x2, y2 in np.asarray(boxes, float).tolist():
            self.rect(
                x + x1 * scale, y + y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale,
                stroke=colour, line=line,
            )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self._parts, "</svg>", ""]), encoding="utf-8")

    def _path(self, points: Iterable[Point], colour: str, width: float, more: str) -> None:
        corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        self._parts.append(
            f'<polyline points="{corners}" style="fill:none;stroke:{_colour(colour)};'
            f'stroke-width:{_n(width)}"{more}/>'
        )


def _n(number: float) -> str:
    """Return a short number: files stay small, and equal pictures are equal files."""
    return f"{number:.2f}".rstrip("0").rstrip(".")


def _colour(name: str) -> str:
    if not name:
        return "none"
    return name if name.startswith(("#", "rgb")) else f"var(--{name})"
