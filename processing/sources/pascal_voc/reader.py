"""Pascal VOC: one XML file per image, with the root element ``annotation``; also Roboflow's export.

- Boxes are counted from 1 and include their last pixel, so x1 = xmin - 1, y1 = ymin - 1, x2 = xmax,
  y2 = ymax. If a coordinate anywhere in the data set is 0, a fraction or spelt like one
  (``191.0``), all of them count from 0 and are taken as written, because only tools that count from
  0 write such numbers. ``coordinate_base`` decides instead. The few fractions in the files of the
  VOC challenge itself do not count. A data set is the folders that share a parent; subfolders of
  ``Annotations`` and folders of splits belong together.
- ``difficult`` becomes `Flag.DIFFICULT`, ``ignore`` `Flag.IGNORED`. An object with a ``score`` or
  ``confidence`` is a ``prediction`` and rejected. Categories are sorted by name.
- The image has the name of the XML; see `own_images` for its folder. If several endings exist,
  ``<filename>`` decides. If there is no such image, the one that ``<filename>`` names is taken,
  unless it belongs to another XML. ``<filename>`` comes last because people rename files without
  it.
- The splits are those of ``ImageSets/Main/{train,val,test}.txt``, or of such lists next to
  ``Annotations`` (`split_lists`), otherwise the name of the nearest folder of the XML or of the
  image (``valid/``). ``trainval.txt`` divides nothing, and lists for one class
  (``person_train.txt``) are not splits. An unreadable list is rejected and divides nothing.
- If a folder has one annotation, all its XML files count as annotations, so that a damaged one is
  rejected (``malformed``), except for CVAT's and dlib's files. An object without a name or a box is
  rejected, and the others are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from processing.core.annotation_sets import AnnotationSet
from processing.core.annotations import UNASSIGNED, Instance, TableRow, table_from_rows
from processing.core.errors import Note, Rejection
from processing.sources.own_images import OwnImages
from processing.sources.pascal_voc.coordinate_base import coordinate_bases
from processing.sources.pascal_voc.files import VocFile, begins_annotation, parse
from processing.sources.pascal_voc.split_lists import SplitLists, read_split_lists
from processing.sources.paths import folder_of
from processing.sources.raw_directory import RawDirectory
from processing.sources.source_format import Reading, SourceFormat, collecting, rejection
from processing.sources.split_names import only_split, split_of_folders


def find(raw: RawDirectory) -> list[str]:
    """Finds the XML files of all folders that have an annotation, sorted."""
    paths = raw.with_suffix(".xml")
    annotated: set[str] = set()
    for path in paths:
        # After the first annotation of a folder, its other files need not be opened.
        if folder_of(path) not in annotated and begins_annotation(raw, path):
            annotated.add(folder_of(path))
    return [path for path in paths if folder_of(path) in annotated]


def read(raw: RawDirectory, paths: list[str], *, coordinate_base: int | None = None) -> Reading:
    """Reads annotation files.

    Args:
        raw: the raw directory.
        paths: the files.
        coordinate_base: 1 if boxes are counted from 1 with their last pixel included; 0 to take
            them as written; None to find it out.
    """
    files = {}
    for path in paths:
        file = parse(raw, path)
        if file is not None:
            files[path] = file
    images, guessed = _locate(raw, files)
    rejections: list[Rejection] = []
    list_rejections: list[Rejection] = []
    notes: list[Note] = []
    images_missing_annotations = set()
    lists = read_split_lists(raw, images, list_rejections, notes)
    bases = coordinate_bases(list(files.values()), coordinate_base)
    labels: dict[str, int] = {}
    sets = {folder: number for number, folder in enumerate(bases)}
    rows = []
    for path, file in files.items():
        image, folder = images[path], folder_of(path)
        if image not in raw.files and file.readable:
            # The better error: such an image is missing because its path is not allowed.
            _check_filename(raw, file)
        elif file.rejections:
            images_missing_annotations.add(image)
        rejections += file.rejections
        if file.readable:
            split = _split(lists, path, image, notes)
            found = _instances(file, bases[folder].number, labels)
            rows.append(
                TableRow(
                    image,
                    found,
                    file.size,
                    split,
                    set_id=sets[folder],
                    annotation_file=path,
                    found_by_name=path in guessed,
                )
            )
    table = table_from_rows(
        rows,
        category_names=list(labels),
        annotation_sets=[
            AnnotationSet(f"{folder}*.xml", place="object {}", details=base.details)
            for folder, base in bases.items()
        ],
    )
    table = table.with_categories(sorted(labels))
    return Reading(table, rejections + list_rejections, notes, images_missing_annotations)


FORMAT: Final = SourceFormat(
    name="pascal_voc",
    pattern_description="Pascal VOC: *.xml with an annotation element",
    find=find,
    read=read,
    options=("coordinate_base",),
)


def _locate(raw: RawDirectory, files: Mapping[str, VocFile]) -> tuple[dict[str, str], set[str]]:
    """Finds the images. Files whose image belongs to another are rejected.

    Returns:
        The image of each file, or the path that a missing image would have; and the files whose
        image was not in a usual place.
    """
    filenames = {path: file.filename for path, file in files.items()}
    search = OwnImages(raw, filenames, lambda one, other: files[one].same_content(files[other]))
    images = search.find()
    for path, error in search.disputed.items():
        files[path].readable = False
        files[path].rejections.append(rejection(path, error))
    paths = {path: images.get(path) or search.path_of_missing(path, images) for path in files}
    return paths, search.guessed


def _check_filename(raw: RawDirectory, file: VocFile) -> None:
    """Rejects a file without an image if its ``<filename>`` leads out of the raw directory."""
    if file.filename:
        file.readable = False
        with collecting(file.rejections, file.path):
            raw.inside(folder_of(file.path), file.filename)
            file.readable = True


def _split(lists: SplitLists, path: str, image: str, notes: list[Note]) -> int:
    """Returns the split of the image that an annotation file describes."""
    if folder_of(path) in lists.folders:
        return only_split(image, lists.splits.get(path, ()), notes)
    split = split_of_folders(path)
    return split_of_folders(image) if split == UNASSIGNED else split


def _instances(file: VocFile, base: int, labels: dict[str, int]) -> list[Instance]:
    """Converts the objects of a file; `labels` receives new categories."""
    instances = []
    for found in file.objects:
        label = labels.setdefault(found.name, len(labels))
        left, top, right, bottom = found.corners
        # Far edges stay: the last pixel counted from 1 is the exclusive edge counted from 0.
        box = (left - base, top - base, right, bottom)
        instances.append(Instance(label, box, found.flags, entry=found.number))
    return instances
