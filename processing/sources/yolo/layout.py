"""Finds the YOLO data sets of a raw directory. The rules are in `yolo.reader`."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from functools import cached_property

from processing.core.annotations import UNASSIGNED
from processing.core.errors import AnnotationError, Note
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import collecting, rejection
from processing.sources.split_names import split_of_folders
from processing.sources.yolo import data_yaml
from processing.sources.yolo.dataset import Dataset
from processing.sources.yolo.descriptions import Description, find_descriptions, paths_ignored
from processing.sources.yolo.labels import LabelFiles
from processing.sources.yolo.lists import names_images, read_list
from processing.sources.yolo.names import find_names, with_parents
from processing.sources.yolo.trees import (
    LabelFolder,
    find_label_folders,
    find_misplaced_labels,
    group_by_key,
    images_of_group,
    key_of,
)


def find(raw: RawDirectory) -> list[str]:
    """Finds descriptions of data sets, and folders of labels that belong to none of them."""
    return Layout(raw).paths


class Layout:
    """The YOLO data sets of a raw directory.

    Args:
        raw: the raw directory.

    Attributes:
        labels: its label files.
        names_files: the files that name classes, but describe no data set.
    """

    def __init__(self, raw: RawDirectory) -> None:
        self._raw = raw
        self.labels = LabelFiles(raw)
        self._descriptions, names_only = find_descriptions(raw)
        self.names_files = [*names_only, *find_names(raw)]
        self._names_only = names_only

    @property
    def paths(self) -> list[str]:
        """The descriptions, and the folders of labels that belong to none of them."""
        return self._descriptions + [folder.path for folder in self._free]

    def datasets(self, paths: Collection[str]) -> list[Dataset]:
        """Returns the data sets of some of `paths`."""
        datasets = [self._described[path] for path in self._descriptions if path in paths]
        described = len(datasets)
        chosen = [folder for folder in self._free if folder.path in paths]
        datasets += [self._from_folders(group) for group in group_by_key(chosen)]
        if described:
            datasets[0].notes += self._unlisted_labels()
        if datasets:
            datasets[0].notes += self._unused_labels()
        allowed = self._raw.images_in
        for dataset in datasets:
            if allowed is not None:
                for image in [path for path in dataset.splits if not path.startswith(allowed)]:
                    del dataset.splits[image]
        return datasets

    def _unlisted_labels(self) -> list[Note]:
        """Notes the folders of labels below a description that names none of their images."""
        described = {image for dataset in self._described.values() for image in dataset.splits}
        notes = []
        for folder in self._folders:
            if folder not in self._free and described.isdisjoint(folder.images):
                holds = f"labels of {len(folder.images)} images, but "
                if not folder.images:
                    holds = "labels without images; "
                message = (
                    f"{folder.path}: it holds {holds}"
                    f"{' and '.join(self._descriptions[:3])} names none of them"
                )
                notes.append(Note("unlisted_labels", folder.path, message))
        return notes

    def _unused_labels(self) -> list[Note]:
        """Notes folders of label files whose images use none of them, such as labels_old."""
        notes = []
        for folder in find_misplaced_labels(self._raw, self.labels):
            if folder not in self._folders:
                message = f"{folder.path}: it holds label files that no image uses, so none is read"
                notes.append(Note("unlisted_labels", folder.path, message))
        return notes

    @cached_property
    def _folders(self) -> list[LabelFolder]:
        if not self._descriptions and not self._raw.with_suffix(".txt"):
            return []
        named = bool(self._descriptions or self.names_files)
        found = find_label_folders(self._raw, named=named)
        return found or (
            [] if self._descriptions else find_misplaced_labels(self._raw, self.labels)
        )

    @cached_property
    def _described(self) -> dict[str, Dataset]:
        """The data sets of the descriptions."""
        datasets: dict[str, Dataset] = {}
        lost: list[tuple[str, Description]] = []
        for path in self._descriptions:
            try:
                is_only = len(self._descriptions) == 1
                description = Description(self._raw, path, is_only=is_only)
            except AnnotationError as error:
                datasets[path] = Dataset(path, rejections=[rejection(path, error)])
                continue
            datasets[path] = description.dataset
            if description.leads_nowhere:
                lost.append((path, description))
            else:
                datasets[path].rejections += description.why_unusable()
        taken = {image for dataset in datasets.values() for image in dataset.splits}
        for path, description in lost:
            rivals = [other for other, _ in lost if folder_of(other) == folder_of(path)]
            group = self._group_next_to(path, taken) if len(rivals) == 1 else []
            if group:
                self._read_as_tree(path, description, group)
            else:
                description.dataset.rejections += description.why_unusable()
        return datasets

    def _group_next_to(self, path: str, taken: Collection[str]) -> list[LabelFolder]:
        """Returns the label folders next to a description, or the only data set below it.

        Args:
            path: the description.
            taken: images of other descriptions, which must not get the names of this one.
        """
        own = folder_of(path)
        groups = []
        for group in group_by_key(self._folders):
            images = images_of_group(self._raw, group)
            inside = all(folder.prefix.startswith(own) for folder in group)
            if inside and images and not any(image in taken for image in images):
                groups.append(group)
        for group in groups:
            if group[0].key[1:] == key_of(own):
                return group
        return groups[0] if len(groups) == 1 else []

    def _read_as_tree(
        self, path: str, description: Description, group: Sequence[LabelFolder]
    ) -> None:
        """Takes the images of label folders for those that a description means."""
        dataset = description.dataset
        listed = ", ".join(folder.path for folder in group)
        message = (
            f"{description.describe_entries()}: nothing there, so the images of {listed} are read"
        )
        dataset.notes.append(paths_ignored(path, message))
        self._add_images(dataset, group)

    def _from_folders(self, group: Sequence[LabelFolder]) -> Dataset:
        """Returns the data set of label folders without description."""
        dataset = Dataset(", ".join(folder.path for folder in group))
        self._add_images(dataset, group)
        folders = {folder_of(image) for image in dataset.splits}
        dataset.names_scope = with_parents([*folders, *(folder.prefix for folder in group)])
        for path in self._names_only:
            if folder_of(path) in dataset.names_scope and dataset.keypoint_shape is None:
                with collecting(dataset.rejections, path):
                    content = data_yaml.load_yaml(self._raw, path)
                    dataset.keypoint_shape = data_yaml.keypoint_shape(content)
        return dataset

    def _add_images(self, dataset: Dataset, group: Sequence[LabelFolder]) -> None:
        """Adds the images of label folders, with the splits of lists or folder names."""
        dataset.label_prefixes.update(folder.prefix for folder in group)
        images = images_of_group(self._raw, group)
        own = set(images)
        for path, split in self._split_lists(group, images):
            listed = read_list(self._raw, path, sorted(with_parents([folder_of(path)])))
            if own.isdisjoint(listed.images):
                continue  # a list of another data set
            dataset.rejections += listed.rejections
            for image in listed.images:
                dataset.splits[image].add(split)
        for image in images:
            if image not in dataset.splits:
                split = split_of_folders(image)
                dataset.splits[image].update([] if split == UNASSIGNED else [split])

    def _split_lists(
        self, group: Sequence[LabelFolder], images: Sequence[str]
    ) -> list[tuple[str, int]]:
        """Finds lists of images called after a split, next to or above some label folders."""
        folders = with_parents([*(folder.prefix for folder in group), *map(folder_of, images)])
        lists = []
        for path in self._raw.with_suffix(".txt"):
            name = posixpath.basename(path).lower().removesuffix(".txt")
            split = data_yaml.SPLIT_OF_KEY.get(name)
            if split is not None and folder_of(path) in folders and names_images(self._raw, path):
                lists.append((path, split))
        return lists

    @cached_property
    def _free(self) -> list[LabelFolder]:
        """The label folders that belong to no description."""
        described = {image for dataset in self._described.values() for image in dataset.splits}
        keys = set()
        for folder in self._folders:
            if any(image in described for image in folder.images):
                keys.add(folder.key)
        return [
            folder
            for folder in self._folders
            if folder.key not in keys and not self._belongs_to_description(folder)
        ]

    def _belongs_to_description(self, folder: LabelFolder) -> bool:
        """Whether a folder of labels lies below a description, and nothing names its classes."""
        for path in self._descriptions:
            own = folder_of(path)
            if not folder.prefix.startswith(own) or path.endswith(".data"):
                continue
            named = (
                folder_of(names) != own
                and folder_of(names).startswith(own)
                and folder.prefix.startswith(folder_of(names))
                for names in self.names_files
            )
            if not any(named):
                return True
        return False
