"""Code blocks of a Markdown page."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    language: str
    code: str
    line: int


def code_blocks(path):
    text = path.read_text()
    return [
        CodeBlock(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


def run_python(block, namespace, path):
    """Executes a block; its lines keep their numbers in the page, for tracebacks."""
    exec(compile("\n" * (block.line - 1) + block.code, str(path), "exec"), namespace)
