"""Finds and runs the code blocks of a Markdown page."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    language: str
    code: str
    line: int


def code_blocks(path):
    """Returns the fenced code blocks of a page, each with the number of its first line."""
    text = path.read_text()
    return [
        CodeBlock(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


def run_python(block, namespace, path):
    """Executes a block; tracebacks show the line numbers of the page."""
    exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), namespace)


def section(path, heading):
    """The text below a heading, down to the next heading of that or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    _, _, below = path.read_text().partition(f"\n{heading}\n")
    assert below, f"{path.name} has no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def table_rows(text):
    """The cells of each row of the first table in a text, without the header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows[2:]


def anchors(path):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
