"""Hooks of MkDocs: pages from outside ``docs/``, and the reference that is made from the code.

The pages are read on GitHub too, where a link leads from file to file. So nothing is written in a
form of its own for the site; links to files outside of ``docs/`` are changed here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from website.notebook_page import as_markdown
from website.reference import fill_in
from website.tables import for_phones

ROOT: Final = Path(__file__).parents[1]
OUTSIDE: Final = {
    "README.md": "readme.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.txt",
}
"""Files of the repository that become pages; the license stays plain text."""
NOTEBOOKS: Final = {"quickstart.ipynb": "quickstart.md"}
"""Notebooks of ``docs/`` that become pages. The notebooks are part of the site, too."""
MODULES: Final = {"processing/npz/format.py": "api.md#processing.npz.format"}
"""Modules that pages link to, with the place of their documentation."""

_PICTURE: Final = re.compile(r"(!\[[^\]]*\])\(([^)\s]+)\)")
_LINK: Final = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files outside of ``docs/`` and the notebooks as pages."""
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for name, page in NOTEBOOKS.items():
        content = as_markdown(ROOT / "docs" / name)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Change links that lead out of ``docs/``, and fill in what is made from the code.

    Each picture becomes a link to itself, because a phone shows it small. One with the name
    ``…-light.png`` is shown on light pages, and ``…-dark.png`` in its place on dark ones.
    """
    here = page.file.src_uri
    outside = here in OUTSIDE.values()

    def changed(link: re.Match[str]) -> str:
        return site_link(link[1], link[2] or "", outside=outside)

    # The name of a contender in a table of rates reads like a link to a reference named i.
    opened = _PICTURE.sub(_opened, markdown)
    linked = _LINK.sub(changed, opened).replace("[…][i]", "[…]&#91;i]")
    return fill_in(linked, here)


def on_page_content(html: str, **_: Any) -> str:
    """Make tables fit on phones."""
    return for_phones(html)


def _opened(picture: re.Match[str]) -> str:
    text, path = picture[1], picture[2]
    name, light, ending = path.partition("-light.")
    if not light:
        return f"[{text}({path})]({path})"
    dark = f"{name}-dark.{ending}"
    return f"[{text}({path}#only-light)]({path}) [{text}({dark}#only-dark)]({dark})"


def site_link(target: str, anchor: str, *, outside: bool) -> str:
    """Return the link of the site for a link between files.

    Args:
        target: the path as written, without its anchor.
        anchor: ``#place`` or an empty text.
        outside: whether the page lies in the root of the repository instead of ``docs/``.

    Raises:
        PluginError: the link leads to a file that is not part of the site.
    """
    if outside:
        inside = target.removeprefix("docs/")
        # Of two pages in the root, one links to the other by its name.
        path = inside if inside != target else f"../{target}"
    else:
        path = target
    if not path.startswith("../"):
        return NOTEBOOKS.get(path, path) + anchor
    path = path.removeprefix("../")
    if path in MODULES:
        return MODULES[path]
    if path in OUTSIDE:
        return OUTSIDE[path] + anchor
    known = ", ".join([*OUTSIDE, *MODULES])
    raise PluginError(
        f"the link to {target} leads out of docs/, and the site has no such page; expected one of "
        f"{known}: name the file in website/hooks.py, or write its path as text"
    )
