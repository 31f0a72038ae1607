"""Finds out whether VOC files count pixels from 1 or from 0. The rule is in `pascal_voc.reader`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

from processing.core.annotations import UNASSIGNED
from processing.sources.pascal_voc.files import VocFile
from processing.sources.paths import folder_of, parent_of
from processing.sources.split_names import split_of_folders

ANNOTATION_FOLDERS = frozenset(
    ("annotations", "annots", "annot", "annos", "anno", "xmls", "xml", "labels", "annotation")
)
"""Names in lower case of the folders that usually hold annotation files."""


class Base(NamedTuple):
    """The number of the first pixel, and the reason in words."""

    number: int
    details: str


def coordinate_bases(files: Sequence[VocFile], chosen: int | None) -> dict[str, Base]:
    """Returns the base of each folder with annotation files, by its prefix.

    Args:
        files: all files of one raw directory.
        chosen: the base that the user names, or None.
    """
    folders = dict.fromkeys(folder_of(file.path) for file in files)
    if chosen is not None:
        base = Base(chosen, f"coordinates count from {chosen}, as coordinate_base says")
        return dict.fromkeys(folders, base)
    proofs: dict[str, str] = {}
    for file in files:
        if file.counts_from_zero:
            proof = f"{file.path} has {file.counts_from_zero}"
            proofs.setdefault(_data_set_of(folder_of(file.path)), proof)
    bases = {}
    for folder in folders:
        proof = proofs.get(_data_set_of(folder), "")
        if proof:
            bases[folder] = Base(0, f"coordinates count from 0: {proof}")
        else:
            bases[folder] = Base(1, "coordinates count from 1: none is 0 or has a decimal point")
    return bases


def _data_set_of(folder: str) -> str:
    """Returns the prefix of the folder that holds a data set.

    It is the parent of ``Annotations``, also for its subfolders, and above folders of splits.
    """
    parts = [part for part in folder.split("/") if part]
    for i in reversed(range(len(parts))):
        if parts[i].lower() in ANNOTATION_FOLDERS:
            above = "".join(f"{part}/" for part in parts[:i])
            break
    else:
        above = parent_of(folder)
    while above and split_of_folders(f"{posixpath.basename(above[:-1])}/") != UNASSIGNED:
        above = parent_of(above)
    return above
