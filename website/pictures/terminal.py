"""Pictures of a terminal: the real output of a command."""

from __future__ import annotations

import textwrap

from website.pictures.demo import Demo
from website.pictures.svg import Drawing

_PAPER, _BAR, _TEXT, _SOFT, _PROMPT = "#11161d", "#1c242e", "#d7dfe8", "#8b98a8", "#5eead4"
_SIZE = 12.6
_ADVANCE = 0.602
"""Width of a letter of a monospaced font, as a fraction of its size."""


def process(demo: Demo) -> Drawing:
    """Show a run that makes all files."""
    return _terminal("The report of a run", [(demo.command, demo.report, 0)])


def verify(demo: Demo) -> Drawing:
    """Show a sound file, and what is reported of a damaged one."""
    sound, damaged = demo.stored / "val_detector.npz", demo.folder / "demo" / "damaged.npz"
    content = bytearray(sound.read_bytes())
    content[len(content) // 3] ^= 1
    damaged.write_bytes(content)
    runs = []
    for path in (sound, damaged):
        name = path.relative_to(demo.folder).as_posix()
        status, text = demo.run("verify", name)
        runs.append((f"npz-vision verify {name}", text, status))
    return _terminal("A sound file, and one in which a single bit was changed", runs)


def _terminal(title: str, runs: list[tuple[str, str, int]]) -> Drawing:
    """Draw a window with commands and their output."""
    lines: list[tuple[str, str]] = []
    for command, text, status in runs:
        lines.append(("prompt", command))
        for line in text.rstrip().splitlines():
            lines += [("output", part) for part in _wrapped(line, 96)]
        if status:
            lines += [("prompt", "echo $?"), ("output", str(status))]
        lines.append(("output", ""))
    lines.pop()
    height = 56 + len(lines) * _SIZE * 1.5 + 8
    spoken = "; ".join(f"{command} prints: {text.strip()}" for command, text, _ in runs)
    drawing = Drawing(800, round(height), title, spoken)
    drawing.rect(0, 0, 800, round(height), fill=_PAPER, radius=10)
    drawing.rect(0, 0, 800, 34, fill=_BAR, radius=10)
    drawing.rect(0, 22, 800, 12, fill=_BAR)
    for number, colour in enumerate(("#f87171", "#fbbf24", "#4ade80")):
        drawing.dot_plain(20 + 18 * number, 17, colour)
    drawing.coloured(400, 22, title, _SOFT, 12.5, anchor="middle")
    for row, (kind, line) in enumerate(lines):
        y = 60 + row * _SIZE * 1.5
        if kind == "prompt":
            drawing.coloured(20, y, "$", _PROMPT, _SIZE, code=True)
            drawing.coloured(20 + 2 * _ADVANCE * _SIZE, y, line, "#ffffff", _SIZE, code=True)
        else:
            drawing.coloured(20, y, line, _TEXT, _SIZE, code=True)
    return drawing


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line in pieces of at most this width, broken at spaces."""
    return [line] if len(line) <= width else textwrap.wrap(line, width)
