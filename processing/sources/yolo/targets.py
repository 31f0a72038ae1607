r"""Finds the folders and lists that a description names, also if it comes from another machine.

A description (a data.yaml or Darknet's ``*.data``) often has paths of the machine where it was made
(``/content/fruit/train/images``, ``C:\fruit\train``), of its own former folder (``../fruit/train``)
or placeholders (``path\to\your\train``). They are resolved in three stages, and one stage must do
for all entries of a description:

1. as written, below the folder that ``path`` names, or below the description's own folder;
2. by the longest end of the path that leads to something there;
3. by the longest end among all folders below the description's own folder. The only description of
   a raw directory may also lead elsewhere in it.

An end never drops the word of a split: ``../valid/images`` must not become ``images`` or
``train/images``.
"""

from __future__ import annotations

import posixpath
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from processing.core.errors import AnnotationError
from processing.sources.paths import folder_and_parents, folder_of, is_image_name, plain_path
from processing.sources.raw_directory import RawDirectory
from processing.sources.split_names import splits_named_in
from processing.sources.text import malformed
from processing.sources.yolo.data_yaml import Entry


@dataclass(frozen=True)
class Target:
    """A folder or list that an entry leads to.

    Args:
        entry: the entry.
        path: the list file, or the prefix of the folder.
        as_written: whether the path was found as it is written.
    """

    entry: Entry
    path: str
    as_written: bool = True


@dataclass(frozen=True)
class Bases:
    """The folders that the entries of one description may be relative to.

    Args:
        own: prefix of the description's own folder.
        prefixes: all folders to try, the best one first.
        may_search: whether the whole raw directory may be searched.
        declared: the text of ``path``, or ``""``.
    """

    own: str
    prefixes: list[str]
    may_search: bool = False
    declared: str = ""


@dataclass
class Targets:
    """The result for all entries of one description."""

    found: list[Target] = field(default_factory=list)
    problems: list[tuple[Entry, AnnotationError]] = field(default_factory=list)


def bases_of(raw: RawDirectory, path: str, declared: object, *, is_only: bool) -> Bases:
    """Returns the folders that the entries of a description may be relative to.

    Args:
        raw: the raw directory.
        path: the description.
        declared: the value of ``path`` in a data.yaml, or None.
        is_only: whether it is the only description in the raw directory.
    """
    own = folder_of(path)
    prefixes = []
    if isinstance(declared, str):
        prefixes = _declared_folders(raw, own, declared)
    prefixes.append(own)
    if is_only:
        prefixes += folder_and_parents(own)
    written = declared if isinstance(declared, str) else ""
    return Bases(own, list(dict.fromkeys(prefixes)), is_only, written)


def _declared_folders(raw: RawDirectory, own: str, declared: str) -> list[str]:
    """Returns the folder with images that ``path`` leads to, as written or by its longest end."""
    try:
        as_written = _prefix(raw.inside(own, declared))
    except AnnotationError:
        as_written = None
    if as_written is not None and as_written in raw.folders_above_images:
        return [as_written]
    ends = [f"{own}{end}/" for end in _ends(declared)]
    return [end for end in ends if end in raw.folders_above_images][:1]


def _prefix(path: str) -> str:
    return "" if path == "." else f"{path}/"


def find_targets(raw: RawDirectory, bases: Bases, entries: Sequence[Entry]) -> Targets:
    """Finds the files and folders that the entries of one description name."""
    targets = Targets()
    lost = []
    for entry in entries:
        target = _as_written(raw, bases, entry)
        if target is not None:
            targets.found.append(Target(entry, target))
        else:
            lost.append(entry)
    still_lost = []
    for entry in lost:
        target = _by_end(raw, bases, entry)
        if target is not None:
            targets.found.append(Target(entry, target, as_written=False))
        else:
            still_lost.append(entry)
    searched = _Search() if targets.found else _search(raw, bases, still_lost)
    targets.found += searched.found
    for entry in still_lost:
        if all(target.entry is not entry for target in searched.found):
            candidates = searched.candidates.get(str(entry.value), [])
            targets.problems.append((entry, _problem(raw, bases, entry, candidates)))
    # The order of the description: it decides the order of the images.
    targets.found.sort(key=lambda target: entries.index(target.entry))
    return targets


def _as_written(raw: RawDirectory, bases: Bases, entry: Entry) -> str | None:
    if not isinstance(entry.value, str):
        return None
    written = entry.value.replace("\\", "/")
    # Roboflow writes ../train/images for a folder next to the yaml. It comes first, because another
    # export may be unpacked in the folder above.
    for name in dict.fromkeys([_below_own_folder(written), written]):
        for base in bases.prefixes:
            try:
                target = raw.inside(base, name)
            except AnnotationError:
                continue
            found = _existing(raw, target)
            if found is not None:
                return found
    return None


def _below_own_folder(written: str) -> str:
    while written.startswith("../"):
        written = written.removeprefix("../")
    return written


def _existing(raw: RawDirectory, path: str) -> str | None:
    if path in raw.files and not is_image_name(path):
        return path
    return _prefix(path) if _prefix(path) in raw.folders_above_images else None


def _by_end(raw: RawDirectory, bases: Bases, entry: Entry) -> str | None:
    for end in _ends(entry.value):
        for base in bases.prefixes:
            found = _existing(raw, base + end)
            if found is not None:
                return found
    return None


def _ends(written: object) -> Iterator[str]:
    """Yields the ends of a path that may stand for it, the longest one first."""
    if not isinstance(written, str):
        return
    path = posixpath.normpath(plain_path(written).lstrip("/"))
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        if _nearest_splits(parts[start:]) != _nearest_splits(parts):
            return
        yield "/".join(parts[start:])


def _nearest_splits(parts: Sequence[str]) -> set[int]:
    """Returns the splits that the last part names that names any."""
    for part in reversed(parts):
        splits = splits_named_in(part)
        if splits:
            return splits
    return set()


@dataclass
class _Search:
    """The result of a search: targets, and the candidates of entries that have several."""

    found: list[Target] = field(default_factory=list)
    candidates: dict[str, list[str]] = field(default_factory=dict)


def _search(raw: RawDirectory, bases: Bases, entries: Sequence[Entry]) -> _Search:
    """Searches for the longest ends among all folders and lists.

    All entries that are found must have the same folder in front of their ends: entries of one data
    set do not lead into different data sets.
    """
    search = _Search()
    places = sorted(raw.folders_above_images - {""}) + raw.with_suffix(".txt")
    if not bases.may_search:
        places = [place for place in places if place.startswith(bases.own)]
    fronts = set()
    for entry in entries:
        for end in _ends(entry.value):
            matching = [place for place in places if f"/{place.rstrip('/')}".endswith(f"/{end}")]
            # A single word leads anywhere, so only the description's own folder is searched for it.
            if "/" not in end:
                matching = [place for place in matching if place.startswith(bases.own)]
            if len(matching) == 1:
                search.found.append(Target(entry, matching[0], as_written=False))
                fronts.add(matching[0].rstrip("/").removesuffix(end))
            elif matching:
                search.candidates[str(entry.value)] = matching
            if matching:
                break
    if len(fronts) > 1:
        for target in search.found:
            search.candidates[str(target.entry.value)] = [target.path]
        search.found = []
    return search


def _problem(
    raw: RawDirectory, bases: Bases, entry: Entry, candidates: Sequence[str]
) -> AnnotationError:
    """Explains why an entry leads nowhere."""
    if not isinstance(entry.value, str):
        return malformed(
            f"expected a folder or a list of images, found {reprlib.repr(entry.value)}"
        )
    hint = ""
    if candidates:
        listed = ", ".join(place.rstrip("/") for place in candidates[:5])
        hint = f"; it may mean {listed}: write one of them there"
    try:
        target = raw.inside(bases.prefixes[0], _below_own_folder(entry.value.replace("\\", "/")))
    except AnnotationError as error:
        return AnnotationError(f"{error}{hint}", reason=error.reason)
    if target in raw.folders:
        return AnnotationError(
            f"{entry.value!r}: the folder {target} holds no images{hint}", reason="missing_folder"
        )
    where = " or ".join(repr(base.rstrip("/") or ".") for base in bases.prefixes)
    declared = f" (path: {bases.declared})" if bases.declared else ""
    return AnnotationError(
        f"{entry.value!r} is neither a folder with images nor a list of images in "
        f"{where}{declared}{hint}",
        reason="missing_folder",
    )
