"""DatasetWriter: the files of one processing run, written in step, published at the end.

Image rows go straight to their place in ``NAME.npz.partial``; the small columns go to the journal
with every flush and become members when all rows are there. Then all files are renamed, one right
after the other: what a run does to the files of an earlier one, it does in that moment. A run that
was killed continues at its last flush, or with the renames that are missing.

The journal is durable before there is any partial, and goes after all names are durable. Used by
the background writer's thread; its sibling sees only `images_done` before that thread starts.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from processing.core.error_notes import note_stage
from processing.core.errors import InterferenceError, NPZFormatError, Rejection
from processing.core.files import sync_directory
from processing.imaging.tasks import Row
from processing.npz.contents import Contents
from processing.npz.mapped import MappedNPZ
from processing.npz.writer import NPZWriter, combine_crc32
from processing.run.abandoned_run import delete_abandoned_run, set_aside
from processing.run.journal import (
    JOURNAL_VERSION,
    Block,
    FlushRecord,
    Journal,
    JournalHeader,
    Progress,
    header_of,
    refuse_used,
)
from processing.run.leftovers import holds_rows, is_whole
from processing.run.output_directory import JOURNAL_NAME, npz_path, partial_path
from processing.run.plan import Output

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteBatch:
    """What came of consecutive images of the plan; the unit handed to the writer.

    Args:
        images_done: images of the plan that are finished after this batch, from its start.
        rows: by output name.
        image_rows: by output name, how many of these rows each image has.
        counts: by output name, instances read and stored and how often each repair was made.
        input_crc32: CRC-32 of each image's bytes, in order; 0 where it could not be read.
        image_keys: of each image, what its rows were made of and how; see `EarlierRows`.
        rejections: inputs left out.
    """

    images_done: int
    rows: dict[str, list[Row]] = field(default_factory=dict)
    image_rows: dict[str, list[int]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    input_crc32: list[int] = field(default_factory=list)
    image_keys: list[int] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


class DatasetWriter:
    """Writes the outputs of one run into a directory; a `Sink` of the background writer.

    Args:
        directory: where the files go; exists.
        outputs: the files.
        key: hash of everything that decides their bytes; leftovers of a run of another key are
            set aside until these files are published.
        flush_every: batches between flushes.
        still_holds: whether what an interrupted run has noted is still so; else all begins again.
        ensure_space: called before anything is written, with whether an interrupted run is
            `continued`, and whether that had `finished` all files; raises if the disk is too small.
        conclude: called once before publishing with what the whole run did; gives each output's
            metadata by name.

    Raises:
        OSError: a file cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        outputs: Sequence[Output],
        key: str,
        *,
        flush_every: int,
        still_holds: Callable[[Progress], bool],
        ensure_space: Callable[..., None],
        conclude: Callable[[Progress], Mapping[str, Mapping[str, Any]]],
    ) -> None:
        self._directory, self._outputs, self._conclude = directory, outputs, conclude
        self._flush_every, self._still_holds = flush_every, still_holds
        self._ensure_space = ensure_space
        self._unflushed: list[FlushRecord] = []
        self._writers: dict[str, NPZWriter] = {}
        sizes = {output.name: output.image_size for output in outputs}
        self._journal = self._open_journal(JournalHeader(key, sizes, JOURNAL_VERSION))
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self.progress = _progress(self._journal)
            if self._journal.finished is None:
                for output in outputs:
                    self._open(output)
            sync_directory(
                directory
            )  # a flush makes the rows durable, not the names of their files
            on_failure.pop_all()

    @property
    def images_done(self) -> int:
        """Images of the plan that an earlier, interrupted run has finished."""
        return self.progress.images_done

    def write(self, batch: WriteBatch) -> None:
        """Writes a batch; every `flush_every`-th makes all so far durable."""
        for name, rows in batch.rows.items():
            self._writers[name].append(row.image for row in rows)
        self._unflushed.append(
            FlushRecord(
                images_done=batch.images_done,
                blocks={output.name: _block(output, batch) for output in self._outputs},
                counts={name: dict(counts) for name, counts in batch.counts.items()},
                input_crc32=batch.input_crc32,
                image_keys=batch.image_keys,
                rejections=batch.rejections,
            )
        )
        if len(self._unflushed) >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Makes the image rows durable, then says so in the journal."""
        with note_stage("flushing"):
            for writer in self._writers.values():
                writer.sync()
            self._journal.append(self._unflushed)
        for record in self._unflushed:
            self.progress.add(record)
        self._unflushed.clear()

    def publish(self) -> None:
        """Finishes every file, then gives all their final names, and removes what only helped."""
        if self._journal.finished is None:
            self._finish()
        for output in self._outputs:
            partial = partial_path(self._directory, output.name)
            if partial.exists():  # else renamed by a run that was killed right afterwards
                partial.replace(npz_path(self._directory, output.name))
        sync_directory(self._directory)
        self._journal.remove()
        delete_abandoned_run(self._directory)

    def close(self) -> None:
        """Closes all files as they are."""
        with contextlib.ExitStack() as files:  # closes all of them even if one fails
            files.callback(self._journal.close)
            for writer in self._writers.values():
                files.callback(writer.close)

    def _open_journal(self, header: JournalHeader) -> Journal:
        """The journal of this run, continued if it and the files that it speaks of are there."""
        path = self._directory / JOURNAL_NAME
        refuse_used(path)
        if header_of(path) == header:
            with contextlib.ExitStack() as unless_continued:
                journal = Journal(path, header)
                unless_continued.callback(journal.close)
                progress = _progress(journal)
                whole = all(self._is_there(output, journal) for output in self._outputs)
                if whole and self._still_holds(progress):
                    finished = journal.finished is not None
                    self._ensure_space(continued=True, finished=finished)
                    unless_continued.pop_all()
                    return journal
            _LOG.warning("%s: files or images are not as it says; beginning again", path)
        set_aside(self._directory)
        self._ensure_space(continued=False, finished=False)
        return Journal(path, header)

    def _is_there(self, output: Output, journal: Journal) -> bool:
        """Whether the journal tells the truth of an output; anything may have befallen its file."""
        if journal.finished is not None:
            content_id = journal.finished.content_ids[output.name]
            return is_whole(self._directory, output.name, content_id)
        checksums = _row_checksums(journal, output)
        return holds_rows(partial_path(self._directory, output.name), output.image_size, checksums)

    def _open(self, output: Output) -> None:
        writer = self._writers[output.name] = NPZWriter(partial_path(self._directory, output.name))
        rows = self.progress.rows[output.name]
        writer.begin("images", np.uint8, (*output.image_size, 3), rows=rows)

    def _finish(self) -> None:
        """Makes every partial a whole file, then says so in the journal."""
        self.flush()
        if _progress(self._journal) != self.progress:
            raise InterferenceError(
                f"{self._journal.path}: no longer says what this run wrote: does another process "
                "write to that directory? Run again"
            )
        metadata = self._conclude(self.progress)
        for output in self._outputs:
            writer = self._writers[output.name]
            self._write_columns(writer, output)
            writer.scalar("metadata", msgspec.json.encode(metadata[output.name]).decode())
            writer.finish()
            writer.close()
        self._journal.finish({name: _readable(w.path) for name, w in self._writers.items()})

    def _write_columns(self, writer: NPZWriter, output: Output) -> None:
        row_bytes = 3 * output.image_size[0] * output.image_size[1]
        writer.end(combine_crc32(_row_checksums(self._journal, output), row_bytes))
        journal = self._journal
        for column in output.columns:
            chunks = _chunks(journal, output, column.name, column.dtype, column.row_shape)
            writer.column(column.name, column.dtype, column.row_shape, chunks)
            if column.ragged:
                lengths = _chunks(journal, output, f"{column.name}_lengths", "<i8")
                writer.column(f"{column.name}_offsets", "<i8", (), _running_offsets(lengths))


def _block(output: Output, batch: WriteBatch) -> Block:
    """The columns of new rows, packed; of ragged ones the values and the lengths."""
    rows, columns = batch.rows.get(output.name, []), {}
    for column in output.columns:
        values = [row.columns[column.name] for row in rows]
        if column.ragged:
            columns[f"{column.name}_lengths"] = _pack([len(v) for v in values], "<i8", ())
            values = [value for several in values for value in several]
        columns[column.name] = _pack(values, column.dtype, column.row_shape)
    return Block(batch.image_rows[output.name], columns)


def _pack(values: Sequence[Any], dtype: str, row_shape: tuple[int, ...]) -> bytes:
    return np.array(values, dtype=dtype).reshape(-1, *row_shape).tobytes()


def _chunks(
    journal: Journal, output: Output, column: str, dtype: str, row_shape: tuple[int, ...] = ()
) -> Iterator[NDArray[Any]]:
    """What the journal has of a column of an output, a flush at a time."""
    for record in journal.records():
        content = record.blocks[output.name].columns[column]
        yield np.frombuffer(content, dtype).reshape(-1, *row_shape)


def _row_checksums(journal: Journal, output: Output) -> Iterator[int]:
    return (int(c) for chunk in _chunks(journal, output, "image_crc32", "<u4") for c in chunk)


def _running_offsets(lengths: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """The offsets of rows whose lengths come in chunks."""
    total = 0
    yield np.zeros(1, dtype=np.int64)
    for chunk in lengths:
        if len(chunk):
            offsets = total + np.cumsum(chunk)
            total = int(offsets[-1])
            yield offsets


def _progress(journal: Journal) -> Progress:
    progress = Progress()
    for record in journal.records():
        progress.add(record)
    return progress


def _readable(partial: Path) -> int:
    """The content id of a finished file, which is opened as a dataset will open it."""
    try:
        npz = MappedNPZ(partial)
        Contents.read(npz, will_gather=False)
    except (FileNotFoundError, NPZFormatError) as error:
        raise InterferenceError(
            f"{partial}: no longer what this run wrote ({error}): was the directory moved, or does "
            "another process write to it? Run again"
        ) from error
    return npz.content_id
