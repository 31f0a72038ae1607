"""Which columns of a CSV table hold the image, the category, the box and everything else, by name.

Names are compared without case, spaces, underscores and other marks, so that ``X_Min``, ``x min``
and ``xmin`` are one name. A prefix such as ``bbox_`` says that a column belongs to the box, a
prefix such as ``image_`` that it belongs to the image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from processing.core.annotations import Flag
from processing.sources.text import malformed

BoxStyle = Literal["corners", "size", "centre", "list"]
"""The four numbers of a box: two corners; a corner and the size; the centre and the size; or one
cell that holds all four."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Within each list, earlier names win where a table has several of them.
IMAGE: Final = _names(
    "path filepath imagepath imgpath relativeimpath filename file imagefilename imagefile fname "
    "image imagename img imgname frame imageid imgid picture photo"
)
CATEGORY: Final = _names(
    "classname labelname categoryname class label category objectclass annotationtag tag species "
    "name"
)
CATEGORY_ID: Final = _names("classid labelid categoryid classno classindex")
_SPLIT: Final = _names("split subset set usage partition")
_SCORE: Final = _names("score confidence conf prob probability")
_LIST: Final = _names("bbox box boundingbox bndbox")
_FLAGS: Final[Mapping[str, Flag]] = {
    "isgroupof": Flag.CROWD,
    "iscrowd": Flag.CROWD,
    "crowd": Flag.CROWD,
    "difficult": Flag.DIFFICULT,
    "ignore": Flag.IGNORED,
    "ignored": Flag.IGNORED,
    "invalid": Flag.INVALID,
}

# Each family names left, top, right and bottom.
_CORNERS: Final = tuple(
    _names(family)
    for family in (
        "xmin ymin xmax ymax",
        "minx miny maxx maxy",
        "left top right bottom",
        "x1 y1 x2 y2",
        "x0 y0 x1 y1",
        "xtl ytl xbr ybr",
        "topleftx toplefty bottomrightx bottomrighty",
        "upperleftx upperlefty lowerrightx lowerrighty",
        "upperleftcornerx upperleftcornery lowerrightcornerx lowerrightcornery",
        "xleft ytop xright ybottom",
    )
)
_ORIGINS: Final = (("x", "y"), *((family[0], family[1]) for family in _CORNERS))
_CENTRES: Final = tuple(
    _names(pair)
    for pair in (
        "cx cy",
        "xc yc",
        "xcenter ycenter",
        "centerx centery",
        "xcentre ycentre",
        "centrex centrey",
    )
)
_SIZES: Final = (("w", "h"), ("width", "height"))

_BOX_PREFIX: Final = re.compile(r"(?:boundingbox|bndbox|bbox|box|bb|rect|roi|region)(?=.)")
_IMAGE_PREFIX: Final = re.compile(r"(?:image|img|im|frame|original|orig|source|src|photo)(?=.)")


def plain(name: str) -> str:
    """Returns a column's name in lower case, letters and digits only."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_box_name(name: str) -> bool:
    """Whether a column is called like the corner, the centre or an edge of a box."""
    base = _BOX_PREFIX.sub("", plain(name), count=1)
    return any(base in family for family in (*_CORNERS, *_CENTRES, *_ORIGINS))


@dataclass(frozen=True)
class Box:
    """The columns of a box.

    Args:
        style: the meaning of the numbers.
        positions: of the four columns, or of the one column.
    """

    style: BoxStyle
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Roles:
    """The columns of a table, by their meaning; None or empty where a table has none.

    Args:
        image: position of the column that names the image.
        category: of the category's column.
        box: the columns of the box.
        size: of height and width of the image.
        size_is_certain: whether the names say that `size` is the image's and not the box's.
        split: of the column that names the split.
        score: of the column of a confidence.
        flags: positions with the flag that a true value sets.
    """

    image: int | None = None
    category: int | None = None
    box: Box | None = None
    size: tuple[int, int] | None = None
    size_is_certain: bool = True
    split: int | None = None
    score: int | None = None
    flags: tuple[tuple[int, Flag], ...] = ()

    @property
    def used(self) -> set[int]:
        """Positions of all columns that have a meaning."""
        box = self.box.positions if self.box else ()
        single = (self.image, self.category, self.split, self.score)
        found = {position for position in single if position is not None}
        return found.union(box, self.size or (), (position for position, _ in self.flags))


def roles_of(names: Sequence[str], reserved: Collection[int], rows: Sequence[list[str]]) -> Roles:
    """Finds the meaning of columns by their names.

    Args:
        names: the header.
        reserved: positions of columns that hold points.
        rows: the first rows, which decide between a category's name and its number.

    Raises:
        AnnotationError: the header names two boxes; reason ``malformed``.
    """
    columns: dict[str, int] = {}
    for position, name in enumerate(names):
        # The first of several equal names; `header` refuses the table if the column is used.
        if position not in reserved and plain(name):
            columns.setdefault(plain(name), position)
    box_only, own = _without_box_prefix(columns)
    box, box_size = _box(own | box_only, columns)
    size, certain = _image_size(columns, box_size)
    taken = set(box.positions if box else ()).union(size or ())
    free = {name: position for name, position in columns.items() if position not in taken}
    image = _first(IMAGE, free)
    category = _category({n: p for n, p in free.items() if p != image}, rows)
    if image is None and "name" in free:
        # A table of boxes whose only name is "name" names its images by it, if not its categories.
        others = {n: p for n, p in free.items() if n != "name"}
        image, category = free["name"], _category(others, rows)
    flags = tuple((free[name], flag) for name, flag in _FLAGS.items() if name in free)
    return Roles(
        image=image,
        category=category,
        box=box,
        size=size,
        size_is_certain=certain,
        split=_first(_SPLIT, free),
        score=_first(_SCORE, free),
        flags=flags,
    )


def _first(names: Iterable[str], columns: Mapping[str, int]) -> int | None:
    """Returns the position of the first of `names` that is a column."""
    return next((columns[name] for name in names if name in columns), None)


def _positions(names: Sequence[str], columns: Mapping[str, int]) -> tuple[int, ...] | None:
    """Returns the positions of all `names`, or None if one of them is no column."""
    if not all(name in columns for name in names):
        return None
    return tuple(columns[name] for name in names)


def _without_box_prefix(columns: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Separates columns such as ``bbox_x``, without their prefix, from all others."""
    prefixed, others = {}, {}
    for name, position in columns.items():
        base = _BOX_PREFIX.sub("", name, count=1) if _BOX_PREFIX.match(name) else ""
        if base:
            prefixed[base] = position
        else:
            others[name] = position
    return prefixed, others


def _box(
    columns: Mapping[str, int], all_columns: Mapping[str, int]
) -> tuple[Box | None, tuple[int, ...]]:
    """Finds the box, and the columns of its width and height.

    Args:
        columns: positions by name, prefixes of boxes removed.
        all_columns: positions by full name.

    Raises:
        AnnotationError: there are two boxes; reason ``malformed``.
    """
    complete = [family for family in _CORNERS if _positions(family, columns)]
    if "x0" in columns and ("x0", "y0", "x1", "y1") in complete:
        # x0, x1, x2 would be points, so x1 and x2 are no second box here.
        complete = [family for family in complete if family[0] != "x1"]
    if len(complete) > 1:
        first, second = (", ".join(family) for family in complete[:2])
        raise malformed(f"two boxes are named, {first} and {second}: remove one of them")
    corners = complete[0] if complete else _mixed_corners(columns)
    if corners:
        positions = _positions(corners, columns)
        assert positions is not None  # all four names are columns
        return Box("corners", positions), ()
    size = next(filter(None, (_positions(pair, columns) for pair in _SIZES)), None)
    if size is not None:
        for style, pairs in (("size", _ORIGINS), ("centre", _CENTRES)):
            found = next(filter(None, (_positions(pair, columns) for pair in pairs)), None)
            if found is not None:
                return Box("size" if style == "size" else "centre", (*found, *size)), size
    listed = _first(_LIST, all_columns)
    return (Box("list", (listed,)) if listed is not None else None), ()


def _mixed_corners(columns: Mapping[str, int]) -> tuple[str, ...] | None:
    """Finds the corners where their names are of several families, such as ``x, y, xmax, ymax``."""
    sides = []
    for side in range(4):
        names = dict.fromkeys(family[side] for family in _CORNERS if family[0] != "x0")
        present = [name for name in names if name in columns]
        if side < 2 and not present:
            present = [name for name in ("x", "y")[side] if name in columns]
        if len(present) != 1:
            return None
        sides += present
    return tuple(sides)


def _image_size(
    columns: Mapping[str, int], box_size: tuple[int, ...]
) -> tuple[tuple[int, int] | None, bool]:
    """Finds height and width of the image, and whether their names are beyond doubt."""
    of_image: dict[str, int] = {}
    for name, position in columns.items():
        base = _IMAGE_PREFIX.sub("", name, count=1) if _IMAGE_PREFIX.match(name) else ""
        of_image.setdefault(base, position)
    for names in (("height", "width"), ("h", "w")):
        found = _positions(names, of_image)
        if found is not None:
            return (found[0], found[1]), True
    found = _positions(("height", "width"), columns)
    if found is None or set(found) & set(box_size):
        return None, True
    return (found[0], found[1]), bool(box_size)


def _category(columns: Mapping[str, int], rows: Sequence[list[str]]) -> int | None:
    """Finds the category's column: names before numbers."""
    present = [columns[name] for name in (*CATEGORY, *CATEGORY_ID) if name in columns]
    for position in present:
        cells = [row[position] for row in rows if position < len(row) and row[position]]
        if any(not re.fullmatch(r"[-+.\d]+", cell) for cell in cells):
            return position
    return present[0] if present else None
