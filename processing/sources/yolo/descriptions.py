"""Reads descriptions of data sets: a data.yaml, or Darknet's ``*.data``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.core.errors import AnnotationError, Note, Rejection
from processing.sources.paths import folder_and_parents, folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import collecting, rejection
from processing.sources.text import malformed
from processing.sources.yolo import darknet, data_yaml
from processing.sources.yolo.data_yaml import Entry
from processing.sources.yolo.dataset import Dataset
from processing.sources.yolo.labels import expected_places
from processing.sources.yolo.lists import read_list
from processing.sources.yolo.names import ClassNames, read_names
from processing.sources.yolo.targets import Bases, Target, bases_of, find_targets

_VAL: Final = SPLITS.index("val")
_TEST: Final = SPLITS.index("test")


def find_descriptions(raw: RawDirectory) -> tuple[list[str], list[str]]:
    """Lists the descriptions, and the YAML files that name only classes; both sorted."""
    descriptions: list[str] = []
    names_only: list[str] = []
    for path in raw.with_suffix(*data_yaml.SUFFIXES):
        whole, only_names = data_yaml.keys_of_data_yaml(raw, path)
        if whole:
            descriptions.append(path)
        elif only_names:
            names_only.append(path)
    data_files = raw.with_suffix(darknet.SUFFIX)
    descriptions += [path for path in data_files if darknet.looks_like_data_file(raw, path)]
    return descriptions, names_only


class Description:
    """A data.yaml or Darknet data file.

    Args:
        raw: the raw directory.
        path: the file.
        is_only: whether it is the only description of the raw directory.

    Attributes:
        dataset: its images, and everything that was wrong with it.
        problems: the entries that lead nowhere, and why; they are not in `dataset` yet.
        leads_nowhere: whether no entry leads to a folder or a list, or there is no entry.

    Raises:
        AnnotationError: the file cannot be used; reason ``malformed``.
    """

    def __init__(self, raw: RawDirectory, path: str, *, is_only: bool) -> None:
        self._raw = raw
        self._path = path
        self.dataset = Dataset(path, names_scope={folder_of(path)})
        content: Mapping[str, Any] = {}
        if path.lower().endswith(data_yaml.SUFFIXES):
            content = data_yaml.load_yaml(raw, path)
            entries = data_yaml.entries_of(content)
            names = data_yaml.class_names(content)
            names_file = data_yaml.names_file(content)
            self.dataset.names = ClassNames(path, names) if names else None
            count = self.dataset.class_count = data_yaml.class_count(content)
            if names and count and count != len(names):
                message = f"{path}: nc is {count}, but names has {len(names)}: the names are used"
                self.dataset.notes.append(Note("class_count", path, message))
            self.dataset.keypoint_shape = data_yaml.keypoint_shape(content)
            bases = bases_of(raw, path, content.get("path"), is_only=is_only)
        else:
            entries, names_file = darknet.load_data_file(raw, path)
            bases = bases_of(raw, path, None, is_only=is_only)
            # Darknet is started in a folder above, and its paths are relative to that one.
            prefixes = list(dict.fromkeys([*bases.prefixes, *folder_and_parents(bases.own)]))
            bases = Bases(bases.own, prefixes, bases.may_search)
        if names_file:
            with collecting(self.dataset.rejections, path, "names"):
                self._read_names_file(bases, names_file)
        self._empty = data_yaml.empty_splits(content)
        targets = find_targets(raw, bases, entries)
        self.problems = []
        for entry, error in targets.problems:
            if entry.split == _TEST and targets.found and error.reason == "missing_folder":
                # Roboflow names a test split in every export, also where there is none.
                message = f"{path}: {entry.key}: {error}; there is no test split"
                self.dataset.notes.append(Note("no_test_split", path, message))
            else:
                self.problems.append((entry, error))
        self.leads_nowhere = not targets.found
        self._empty_lists: list[str] = []
        for target in self._with_one_split(targets.found):
            self._use(bases, target)
        if self._empty_lists:
            self.dataset.rejections.append(self._why_empty(bases))

    def _read_names_file(self, bases: Bases, written: str) -> None:
        """Reads the file of class names that the description refers to.

        Raises:
            AnnotationError: there is no such file; reason ``malformed``.
        """
        entry = Entry("names", UNASSIGNED, written)
        found = find_targets(self._raw, bases, [entry]).found
        if not found or found[0].path.endswith("/") or not found[0].path:
            raise AnnotationError(
                f"{written!r}: expected a list or mapping of names, or the path of a file that "
                "lists them",
                reason="malformed",
            )
        path = found[0].path
        names = read_names(self._raw, path, self.dataset.rejections)
        self.dataset.names = ClassNames(path, names) if names else None

    def _with_one_split(self, targets: Sequence[Target]) -> list[Target]:
        """Settles the splits of folders and lists that several entries name.

        If all entries name the same one, as those of Yolo_mark and coco128 do, it has no split. A
        second name of the validation is left out, so that none of its images is divided anew.
        """
        splits = {target.entry.split for target in targets}
        if len(splits) > 1 and len({target.path for target in targets}) == 1:
            return [replace(targets[0], entry=replace(targets[0].entry, split=UNASSIGNED))]
        in_val = {target.path for target in targets if target.entry.split == _VAL}
        kept = []
        for target in targets:
            if target.entry.split == _TEST and target.path in in_val:
                message = (
                    f"{self._path}: val and test name {target.path or '.'}: its images are val"
                )
                self.dataset.notes.append(Note("ambiguous_split", self._path, message))
            else:
                kept.append(target)
        return kept

    def _use(self, bases: Bases, target: Target) -> None:
        """Adds the images of one folder or list."""
        entry, path = target.entry, target.path
        # Darknet's paths begin at the folder in which it was started, so they never fit.
        is_usual = self._path.endswith(darknet.SUFFIX) and folder_of(path) == bases.own
        if not target.as_written and not is_usual:
            found = f"{entry.key}: {entry.value!r} was taken to be {path.rstrip('/') or '.'}"
            self.dataset.notes.append(paths_ignored(self._path, found))
        images = []
        if path.endswith("/") or not path:
            images = self._raw.images_below(path)
        else:
            with collecting(self.dataset.rejections, self._path, entry.key):
                images = self._images_of_list(bases, path)
        for image in images:
            splits = self.dataset.splits[image]
            if entry.split != UNASSIGNED:
                splits.add(entry.split)

    def _images_of_list(self, bases: Bases, path: str) -> list[str]:
        listed = read_list(self._raw, path, bases.prefixes)
        self.dataset.rejections += listed.rejections
        self.dataset.notes += listed.notes
        if listed.is_empty:
            self._empty_lists.append(path)
        return listed.images

    def _why_empty(self, bases: Bases) -> Rejection:
        lists = list(dict.fromkeys(self._empty_lists))
        found = f"{' and '.join(lists)} {'is' if len(lists) == 1 else 'are'} empty, expected images"
        error = AnnotationError(f"{found}{_offer(self._raw, bases.own)}", reason="empty_list")
        return rejection(self._path, error)

    def why_unusable(self) -> list[Rejection]:
        """Returns the rejections of all entries that lead nowhere."""
        rejections = [rejection(self._path, error, entry.key) for entry, error in self.problems]
        if self.leads_nowhere and not self.problems:
            error = malformed(
                f"expected {self.describe_entries()} to name a folder or a list of images, found "
                f"nothing{_offer(self._raw, folder_of(self._path))}"
            )
            rejections.append(rejection(self._path, error))
        return rejections

    def describe_entries(self) -> str:
        """Describes the entries that lead nowhere, such as ``train: 'x', val: 'y'``."""
        named = [f"{entry.key}: {entry.value!r}" for entry, _ in self.problems]
        return ", ".join(named) or " and ".join(self._empty) or "train or val"


def paths_ignored(path: str, message: str) -> Note:
    """Returns the note that paths of a description do not lead where they say."""
    return Note("yaml_paths_ignored", path, f"{path}: {message}")


def _offer(raw: RawDirectory, own: str) -> str:
    """Names folders with images and labels next to a description, as part of a sentence."""
    for images in sorted(raw.folders_above_images):
        labels = expected_places(f"{images}x.jpg")[0].removesuffix("x.txt")
        if images.startswith(own) and labels != images and labels.rstrip("/") in raw.folders:
            return f"; {images} and {labels} are there: name {images.rstrip('/')} in its place"
    return ""
