"""Findings that processing itself would make: rejected inputs, dropped objects, and its notes.

The reasons and notes are those of docs/formats.md. This module only decides how bad each is, and
names a remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from processing.checking.findings import Finding, Severity
from processing.core.errors import Dropped, Note, Rejection
from processing.imaging.losses import UNLABELLED_POINTS
from processing.imaging.repairs import USER_RULES

_REMEDIES: Final = {
    "missing_image": "copy the photograph to that place, or remove its annotation",
    "truncated": "copy or download the photograph again",
    "corrupt": "copy or download the photograph again",
    "not_an_image": "replace the file by the photograph, or delete it with its annotations",
    "unreadable": "correct the permissions, or copy the file from a sound disk",
    "unsupported": "convert the photograph to JPEG or PNG",
    "too_large": "make the photograph smaller, and scale its annotations",
    "size_mismatch": "use the photograph that was annotated, or scale the annotations",
    "no_usable_annotation": "correct its annotations, or remove all of them if it shows no object",
    "conflicting_annotations": "keep one of the descriptions, or name one with --source",
    "conflicting_sizes": "keep the annotation that belongs to the photograph",
    "looks_like_fractions": "write pixels, or give the source the option units=fractions",
    "looks_like_pixels": "write fractions, or give the source the option units=pixels",
    "not_fractions": "divide x and width by the width of the photograph, the others by its height",
    "looks_like_corners": "write x, y, width, height; for YOLO the centre and the size",
    "malformed": "correct the row, object or file",
    "unknown_category": "add the category to the list of names, or correct its number",
    "unknown_image_id": "add the photograph to the list of images, or remove the annotation",
    "duplicate_image_id": "give each photograph an id of its own",
    "ambiguous_image": "name the right folder with --source FORMAT images=FOLDER",
    "no_label_file": "put the label file in its place, or an empty one if there is no object",
    "not_finite": "write the missing number, or remove the object",
    "inverted": "exchange the corners, or correct the order of the columns",
    "zero_size": "draw the box again, or remove it",
    "outside": "draw the box again, or remove it; many such boxes belong to other photographs",
    "too_small": "draw the box again, remove it, or choose another --min-box-size",
    "bad_points": "mark the points again, or remove them",
    "no_extent": "give the points a box, or remove them",
    UNLABELLED_POINTS: "mark the point again, or give it visibility 0",
}
_CORRECT: Final = "correct the annotation; docs/formats.md explains this reason under Traps"

_NOTES: Final[dict[str, tuple[Severity, str]]] = {
    "unlisted_images": (
        "warning",
        "annotate the photograph, list it as one without objects, or delete it",
    ),
    "no_label_file": (
        "warning",
        "if it shows objects, add its label file; if not, add an empty one",
    ),
    "unlisted_labels": ("warning", "name the folder in data.yaml, or delete it"),
    "unmatched_list": ("warning", "correct the paths in the list"),
    "split_list_without_images": ("warning", "correct the names in the list"),
    "split_lines_without_images": ("warning", "correct or remove these lines"),
    "ambiguous_split": ("warning", "remove the photograph from one of the splits"),
    "duplicate_image": ("warning", "remove one of the entries"),
    "duplicate_box": ("warning", "remove one of the boxes"),
    "duplicate_annotation_id": ("warning", "number the annotations anew"),
    "class_count": ("warning", "correct nc in data.yaml, or the list of names"),
    "same_names": ("warning", "give the classes different names, or merge them"),
    "unnamed_classes": ("warning", "add the list of names: data.yaml, classes.txt or obj.names"),
    "link_stored_as_text": ("warning", "fetch the real file, for example with `git lfs pull`"),
    "linked_folders": ("warning", "allow links, or copy the folder to this place"),
    "ungrouped": ("warning", "correct the expression of --group-by"),
    "other_images": ("warning", "add the photographs of this list, or delete it"),
    "no_test_split": ("warning", "correct the entry test of data.yaml, or remove it"),
    "unlabelled_keypoints": ("warning", "correct the visibilities, or ignore this if it is meant"),
    "empty_split": ("warning", "divide the photographs anew, or give them another split"),
}
_FLAGS: Final = USER_RULES - {"too_small"}


def from_rejections(rejections: Iterable[Rejection]) -> Iterator[Finding]:
    """Finds the inputs that would be rejected."""
    for rejection in rejections:
        severity: Severity = "error"
        remedy = _REMEDIES.get(rejection.reason, _CORRECT)
        if rejection.by_rules:  # nothing is wrong, unless a box is tiny
            severity = "warning" if "too_small" in rejection.message else "info"
            remedy = "choose other values of --min-box-size or --keep-flagged"
        message = rejection.message.removeprefix(f"{rejection.path}: ")
        yield Finding(rejection.reason, severity, rejection.path, message, remedy)


def from_dropped(dropped: Iterable[Dropped]) -> Iterator[Finding]:
    """Finds the boxes and points that stored photographs would lose."""
    for entry in dropped:
        severity: Severity = "error"
        if entry.reason in _FLAGS:
            severity = "info"
        elif entry.reason in ("too_small", UNLABELLED_POINTS):
            severity = "warning"
        values = ", ".join(f"{value:g}" for value in entry.values[:4])
        more = ", …" if len(entry.values) > 4 else ""
        category = f"{entry.category} " if entry.category else ""
        message = f"{category}({values}{more}) would be dropped: {entry.reason}"
        remedy = "" if severity == "info" else _REMEDIES.get(entry.reason, _CORRECT)
        yield Finding(entry.reason, severity, entry.image, message, remedy, entry.file, entry.place)


def from_notes(notes: Iterable[Note]) -> Iterator[Finding]:
    """Finds the notes that processing would make."""
    for note in notes:
        severity, remedy = _NOTES.get(note.kind, ("info", ""))
        message = note.message.removeprefix(f"{note.path}: ")
        message = message.removeprefix(f"{note.path.removesuffix('.npz')}: ")
        yield Finding(note.kind, severity, note.path, message, remedy, count=note.count)
