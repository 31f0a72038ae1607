"""Summary: facts about the contents of a file or set, and about its objects.

Headers and metadata tell most of it. Labels and offsets are counted in chunks of rows, so that a
file of ten million rows needs little memory. Reads no image, and does not import torch.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.core.channels import stored_channel_axis
from processing.npz.format import ALIGNMENT, JPEG_MEMBER, LIMIT_OPTION
from processing.npz.lists import DROPPED_ENDING, REJECTED_ENDING, count_reasons
from processing.npz.mapped import MappedNPZ
from processing.npz.npy_header import NPY_PREFIX, read_npy_header
from processing.npz.object_counts import ObjectCounts, count_objects

if TYPE_CHECKING:
    from processing.npz.contents import Contents
    from processing.npz.set_contents import SetContents


@dataclass(frozen=True, slots=True)
class MemberSummary:
    """One member.

    Args:
        name: without ``.npy``.
        dtype: as numpy writes it, such as ``uint8`` or ``<U17``.
        shape: of a set, the rows of all shards together.
        nbytes: unpacked, with its header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """The contents of a file, a set, or several files read as one.

    Args:
        paths: path or URL of the file or set, or of several that are read as one.
        files: number of files.
        file_bytes: of all files together.
        image_bytes: of the images in them.
        written_by_us: whether this package wrote them.
        format_version: of `npz/format.py`; None for files without our metadata.
        task: ``detector``, ``landmarker`` or ``teacher``.
        split: ``train``, ``val`` or ``test``; None for files of other programs.
        rows: number of stored images.
        photographs: how many the rows were made of; None for files of other programs.
        image_shape: of one stored image.
        image_dtype: of stored images once they are read.
        codec: ``raw``, ``jpeg``, or ``original`` if rows may be files of photographs.
        objects: counts of boxes, categories and keypoints.
        category_names: in the order of the labels.
        keypoint_names: empty if the points have no names.
        members: of all files together.
        options: the options with which the files were made, with ``encoding`` if images are
            encoded; empty for files of other programs.
        fingerprint: hash of options, annotations and photographs; empty for other programs.
        first_path: path of the first photograph, relative to the raw directory.
        last_path: the same of the last.
        rejected: by reason, the inputs in the lists ``NAME.rejected.jsonl`` next to the files.
        dropped: by reason, the objects in the lists ``NAME.dropped.jsonl``.
        selected_from: rows that there are without the selection; None if all are seen.
    """

    paths: tuple[str, ...]
    files: int
    file_bytes: int
    image_bytes: int
    written_by_us: bool
    format_version: int | None
    task: str
    split: str | None
    rows: int
    photographs: int | None
    image_shape: tuple[int, ...]
    image_dtype: str
    codec: str
    objects: ObjectCounts
    category_names: tuple[str, ...]
    keypoint_names: tuple[str, ...]
    members: tuple[MemberSummary, ...]
    options: Mapping[str, Any]
    fingerprint: str
    first_path: str
    last_path: str
    rejected: Mapping[str, int]
    dropped: Mapping[str, int]
    selected_from: int | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the stored images, pixels."""
        height, width, _ = self._height_width_channels()
        return height, width

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._height_width_channels()[2]

    @property
    def channels_first(self) -> bool:
        """Whether images are stored as (C, H, W)."""
        return stored_channel_axis(self.image_shape) == 0

    def _height_width_channels(self) -> tuple[int, int, int]:
        first, second, third = self.image_shape
        return (second, third, first) if self.channels_first else (first, second, third)

    def as_dict(self) -> dict[str, Any]:
        """Returns all facts as JSON has them; docs/looking.md describes each key."""
        facts = asdict(self)
        objects = facts.pop("objects")
        facts |= {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "channels_first": self.channels_first,
            "objects": self.objects.total,
            "empty_rows": self.objects.empty,
            **objects,
        }
        return facts

    def __str__(self) -> str:
        from processing.npz.summary_text import summary_text

        return summary_text(self)

    __repr__ = __str__  # the last expression of a notebook's cell, or of a console

    def _repr_html_(self) -> str:
        from processing.npz.summary_text import summary_html

        return summary_html(self)


def summarize(contents: Contents | SetContents) -> Summary:
    """Summarizes a file or a set; the shards of a set are opened one after the other.

    Args:
        contents: the open file or set.

    Raises:
        OSError: a shard or a list cannot be read.
        NPZFormatError: a shard is damaged, or the offsets of a member decrease.
    """
    # One at a time: a set may have thousands of shards.
    summary = reduce(add_summaries, map(_summarize_file, contents.parts()))
    return replace(summary, paths=(str(contents.path),), fingerprint=contents.fingerprint)


def add_summaries(first: Summary, second: Summary) -> Summary:
    """Returns the summary of two files, or sets, that are read as one."""
    same_split = first.split == second.split
    paths: list[str] = []
    for one in (first, second):
        if one.rows:
            paths += [one.first_path, one.last_path]
    counted = first.photographs is not None and second.photographs is not None
    return replace(
        first,
        paths=first.paths + second.paths,
        files=first.files + second.files,
        file_bytes=first.file_bytes + second.file_bytes,
        image_bytes=first.image_bytes + second.image_bytes,
        written_by_us=first.written_by_us and second.written_by_us,
        split=first.split if same_split else None,
        rows=first.rows + second.rows,
        photographs=(first.photographs or 0) + (second.photographs or 0) if counted else None,
        objects=first.objects + second.objects,
        members=_added_members(first.members, second.members),
        options=_added_options(first.options, second.options),
        fingerprint=first.fingerprint if first.fingerprint == second.fingerprint else "",
        first_path=paths[0] if paths else "",
        last_path=paths[-1] if paths else "",
        rejected=dict(Counter(first.rejected) + Counter(second.rejected)),
        dropped=dict(Counter(first.dropped) + Counter(second.dropped)),
        selected_from=_added_selections(first, second),
    )


def _added_options(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that both have; the mark of a first look also if only one has it."""
    both = {name: value for name, value in first.items() if second.get(name, ...) == value}
    for options in (first, second):
        if LIMIT_OPTION in options:
            both.setdefault(LIMIT_OPTION, options[LIMIT_OPTION])
    return both


def _added_selections(first: Summary, second: Summary) -> int | None:
    if first.selected_from is None and second.selected_from is None:
        return None
    return sum(
        one.rows if one.selected_from is None else one.selected_from for one in (first, second)
    )


def _summarize_file(contents: Contents) -> Summary:
    npz, metadata = contents.npz, contents.metadata

    def prepare() -> None:
        npz.check_size()  # a page beyond the end of a file that was cut would kill the process
        npz.release_pages()

    prepare()
    # Other programs may have fields of these names.
    split, counts, options = (metadata.get(name) for name in ("split", "counts", "options"))
    images = counts.get("images") if isinstance(counts, dict) else None
    made_with = dict(options) if isinstance(options, dict) else {}
    if isinstance(metadata.get("encoding"), dict):
        made_with["encoding"] = metadata["encoding"]
    paths = contents.image_paths
    return Summary(
        paths=(str(contents.path),),
        files=1,
        file_bytes=npz.file_bytes,
        image_bytes=contents.nbytes,
        written_by_us=_is_ours(contents),
        format_version=metadata.get("format_version"),
        task=contents.task,
        split=split if isinstance(split, str) else None,
        rows=len(contents),
        photographs=images if isinstance(images, int) else None,
        image_shape=contents.image_shape,
        image_dtype=str(contents.image_dtype),
        codec=_codec(contents),
        objects=count_objects(
            [contents.annotations],
            contents.category_names,
            len(contents),
            where=str(npz.path),
            before_chunk=prepare,
        ),
        category_names=contents.category_names,
        keypoint_names=contents.keypoint_names or (),
        members=tuple(_member(npz, name) for name in npz),
        options=made_with,
        fingerprint=contents.fingerprint,
        first_path=str(paths[0]) if len(paths) else "",
        last_path=str(paths[-1]) if len(paths) else "",
        rejected=dict(count_reasons(contents.path, REJECTED_ENDING).most_common()),
        dropped=dict(count_reasons(contents.path, DROPPED_ENDING).most_common()),
    )


def _is_ours(contents: Contents) -> bool:
    """Whether this package wrote a file: another program may have saved it again."""
    _, start = contents.npz.location(contents.stored.member)
    return "format_version" in contents.metadata and start % ALIGNMENT == 0


def _codec(contents: Contents) -> str:
    if JPEG_MEMBER not in contents.npz:
        return "raw"
    options = contents.metadata.get("options", {})
    store = options.get("store") if isinstance(options, dict) else None
    return "original" if store == "original" else "jpeg"


def _member(npz: MappedNPZ, name: str) -> MemberSummary:
    """Reads the header of a member; unpacks none that is not open, and decodes no object."""
    entry, where = npz.entry(name), f"{npz.path}: member {name!r}"
    if entry.compress_type == zipfile.ZIP_STORED or not isinstance(npz.path, Path):
        start = npz.member_bytes(name)[:NPY_PREFIX]
    else:
        with zipfile.ZipFile(npz.path) as archive, archive.open(entry.filename) as packed:
            start = memoryview(packed.read(NPY_PREFIX))
    shape, _, dtype, _ = read_npy_header(start, where)
    return MemberSummary(name, str(dtype), tuple(shape), entry.file_size)


def _added_members(
    first: Sequence[MemberSummary], second: Sequence[MemberSummary]
) -> tuple[MemberSummary, ...]:
    """Returns the members of two files, those of one name as if they were one array."""
    added = {one.name: one for one in first}
    for one in second:
        known = added.get(one.name)
        if known is None:
            added[one.name] = one
            continue
        shape = known.shape
        if shape and one.shape:
            shape = (shape[0] + one.shape[0], *shape[1:])
        dtype = max(known.dtype, one.dtype, key=lambda text: (len(text), text))
        added[one.name] = MemberSummary(one.name, dtype, shape, known.nbytes + one.nbytes)
    return tuple(added.values())
