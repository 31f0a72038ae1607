"""DatasetWriter: the files of one processing run, written side by side, published together.

Image rows go straight to their place in ``NAME.npz.partial``. The small columns go to the journal
with every flush, and to the files after the last row. Then all files are renamed, one right after
another. Until that moment, the files of an earlier run stay as they are. A killed run continues at
its last flush, or with the missing renames.

    write -> flush -> ... -> complete -> publish
             journal: rows   files: columns   journal: finished, then names

The journal is durable before the first partial file, and is removed after all names are durable.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np
from isal.isal_zlib import crc32_combine
from numpy.typing import NDArray

from processing.core.columns import Column
from processing.core.error_notes import note_stage
from processing.core.errors import InterferenceError, NPZFormatError
from processing.core.files import remove_durably, sync_directory, written_durably
from processing.imaging.tasks import Row
from processing.npz.contents import Contents
from processing.npz.format import OFFSETS_MEMBER
from processing.npz.mapped import MappedNPZ
from processing.npz.writer import NPZWriter
from processing.run.image_member import LENGTHS, ImageMember
from processing.run.journal import Block, FlushRecord, Journal, Progress
from processing.run.output_directory import dropped_path, npz_path, partial_path
from processing.run.plan import Output


class WriteBatch(NamedTuple):
    """The rows of consecutive images of the plan: a batch, or a part of one.

    Args:
        rows: by output name.
        record: what the journal will say of these images; the writer adds the rows' columns.
        ends_batch: whether these are the last images of a batch; flushes count whole batches.
    """

    rows: Mapping[str, Sequence[Row]]
    record: FlushRecord
    ends_batch: bool = True


class DatasetWriter:
    """Writes the files of one run into a directory; a `Sink` of the background writer.

    Args:
        directory: where the files go; exists.
        outputs: the files.
        journal: of this run, new or continued. It is closed with this writer.
        flush_every: batches between flushes.

    Raises:
        OSError: a file cannot be opened.
    """

    def __init__(
        self, directory: Path, outputs: Sequence[Output], journal: Journal, *, flush_every: int
    ) -> None:
        self._directory, self._journal, self._flush_every = directory, journal, flush_every
        self._outputs = {output.name: output for output in outputs}
        self._unflushed: list[FlushRecord] = []
        self._batches = 0  # whole ones since the last flush
        self._writers: dict[str, NPZWriter] = {}
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            if journal.progress.content_ids is None:
                for output in outputs:
                    self._open(output)
            # A flush makes rows durable, but not the names of the files that hold them.
            sync_directory(directory)
            on_failure.pop_all()

    def _open(self, output: Output) -> None:
        writer = self._writers[output.name] = NPZWriter(partial_path(self._directory, output.name))
        progress, images = self._journal.progress, output.images
        length = images.length(progress.rows[output.name], progress.encoded_bytes[output.name])
        writer.begin(images.name, np.uint8, images.row_shape, rows=length)

    def write(self, batch: WriteBatch) -> None:
        """Writes a batch or a part of one; makes everything durable after `flush_every` batches."""
        for name, rows in batch.rows.items():
            self._writers[name].append(row.image for row in rows)
        for name, output in self._outputs.items():
            batch.record.blocks[name] = _block(output, batch.rows.get(name, ()))
        self._unflushed.append(batch.record)
        self._batches += batch.ends_batch
        if self._batches >= self._flush_every:
            self.flush()

    def flush(self) -> None:
        """Makes the image rows durable, then says so in the journal."""
        with note_stage("flushing"):
            for writer in self._writers.values():
                writer.sync()
            # Only now: the journal must never promise rows that a power cut could still take.
            self._journal.append(self._unflushed)
        self._unflushed.clear()
        self._batches = 0

    def complete(self) -> None:
        """Flushes, then writes the columns of all rows into the files, and the dropped instances.

        Raises:
            InterferenceError: the journal differs from the records that this run wrote.
        """
        self.flush()
        columns = {name: output.columns for name, output in self._outputs.items()}
        progress = self._journal.progress
        # Lists come before the files: a file must never be there without its lists.
        with _writing_dropped(self._directory, self._outputs, progress) as add_dropped:
            found = write_columns(self._journal, self._writers, columns, add_dropped)
            if found != progress:
                raise InterferenceError(
                    f"{self._journal.path}: no longer holds what this run wrote: does another "
                    "process write to that directory? Run again"
                )

    def publish(self, metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Finishes every file, then gives all of them their final names.

        Args:
            metadata: by output name. Not used if an interrupted run had finished the files.

        Raises:
            InterferenceError: a file cannot be read back.
        """
        if self._journal.progress.content_ids is None:
            for name, writer in self._writers.items():
                writer.write("metadata", np.array(msgspec.json.encode(metadata[name]).decode()))
                writer.finish()
                writer.close()
            self._journal.finish({name: _readable(w.path) for name, w in self._writers.items()})
        directories = {self._directory}
        for name in self._outputs:
            partial = partial_path(self._directory, name)
            if partial.exists():  # otherwise an interrupted run has renamed it
                _publish(partial, npz_path(self._directory, name))
                directories.add(npz_path(self._directory, name).parent)
        for directory in directories:
            sync_directory(directory)
        self._journal.remove()

    def close(self) -> None:
        """Closes all files as they are."""
        with contextlib.ExitStack() as files:  # closes all of them even if one fails
            files.callback(self._journal.close)
            for writer in self._writers.values():
                files.callback(writer.close)


@contextlib.contextmanager
def _writing_dropped(
    directory: Path, names: Iterable[str], progress: Progress
) -> Iterator[Callable[[FlushRecord], None]]:
    """Replaces the lists of several files, once the context ends without an error.

    Args:
        directory: the output directory.
        names: of the files. A list that would be empty is removed.
        progress: of the run, complete.

    Yields:
        A function that adds the lines of one record; to be called with all records, in order.
    """
    with contextlib.ExitStack() as opened:
        files: dict[str, IO[bytes]] = {}
        for name in names:
            path = dropped_path(npz_path(directory, name))
            if progress.dropped_bytes[name]:
                files[name] = opened.enter_context(written_durably(path))
            else:
                remove_durably(path)

        def add(record: FlushRecord) -> None:
            for name, lines in record.dropped.items():
                files[name].write(lines)

        yield add


def _block(output: Output, rows: Sequence[Row]) -> Block:
    """Packs the columns of new rows; of ragged columns the values and the lengths."""
    columns = {}
    if output.images.is_encoded:
        columns[LENGTHS] = _pack([len(row.image) for row in rows], "<i8", ())
    for column in output.columns:
        values = [row.values[column.name] for row in rows]
        if column.ragged:
            columns[f"{column.name}_lengths"] = _pack([len(v) for v in values], "<i8", ())
            values = list(itertools.chain.from_iterable(values))
        columns[column.name] = _pack(values, column.dtype, column.row_shape)
    return Block(len(rows), columns)


def _pack(values: Sequence[Any], dtype: str, row_shape: tuple[int, ...]) -> bytes:
    return np.array(values, dtype=dtype).reshape(-1, *row_shape).tobytes()


def write_columns(
    journal: Journal,
    writers: Mapping[str, NPZWriter],
    columns: Mapping[str, Sequence[Column]],
    on_record: Callable[[FlushRecord], None] | None = None,
) -> Progress:
    """Writes columns from the journal into files whose image rows are written, in one pass.

    The journal's progress tells the final length of every column, so each column has its place
    before the pass. One pass per column would read the journal dozens of times.

    Args:
        journal: of the run that wrote the rows.
        writers: by output name; all rows of their first member are appended.
        columns: by output name, the columns to write, ``image_crc32`` among them.
        on_record: called with every record.

    Returns:
        All records of the journal, added up. They are read from the disk, so comparing them with
        the records that were written shows damage.
    """
    found = Progress()
    files = {}
    for name, writer in writers.items():
        writer.end()
        images = journal.header.outputs[name]
        files[name] = _ColumnsOfFile(writer, images, columns[name], name, journal.progress)
    for record in journal.records():
        found.add(record)
        if isinstance(record, FlushRecord):
            for name, file in files.items():
                file.add(record.blocks[name])
            if on_record is not None:
                on_record(record)
    for name, writer in writers.items():
        writer.set_crc32(files[name].image_crc32)
    return found


class _ColumnsOfFile:
    """The columns of one file, filled block by block.

    Attributes:
        image_crc32: CRC-32 of the images of all blocks so far, combined from that of each row.
    """

    def __init__(
        self,
        writer: NPZWriter,
        images: ImageMember,
        columns: Sequence[Column],
        name: str,
        progress: Progress,
    ) -> None:
        self._writer, self._images, self._columns = writer, images, columns
        self._totals: dict[str, int] = {}
        self.image_crc32 = 0
        rows = progress.rows[name]
        if images.is_encoded:
            self._reserve_offsets(OFFSETS_MEMBER, rows)
        for column in columns:
            length = rows
            if column.ragged:  # has as many values as its bytes in the journal make
                value_bytes = np.dtype(column.dtype).itemsize * math.prod(column.row_shape)
                # A shard without images has flushed nothing.
                nbytes = progress.column_bytes.get(name, Counter[str]())[column.name]
                length = nbytes // value_bytes
            writer.reserve(column.name, column.dtype, (length, *column.row_shape))
            if column.ragged:
                self._reserve_offsets(f"{column.name}_offsets", rows)

    def _reserve_offsets(self, name: str, rows: int) -> None:
        self._writer.reserve(name, "<i8", (rows + 1,))
        self._writer.fill(name, np.zeros(1, dtype=np.int64))
        self._totals[name] = 0

    def _fill_offsets(self, name: str, lengths: NDArray[np.int64]) -> None:
        self._writer.fill(name, self._totals[name] + np.cumsum(lengths))
        self._totals[name] += int(lengths.sum())

    def add(self, block: Block) -> None:
        """Writes the columns of new rows."""
        image_lengths = self._images.row_lengths(block.rows, block.columns.get(LENGTHS, b""))
        if self._images.is_encoded:
            self._fill_offsets(OFFSETS_MEMBER, image_lengths)
        for column in self._columns:
            content = block.columns[column.name]
            values: NDArray[Any] = np.frombuffer(content, column.dtype)
            self._writer.fill(column.name, values.reshape(-1, *column.row_shape))
            if column.ragged:
                lengths = np.frombuffer(block.columns[f"{column.name}_lengths"], "<i8")
                self._fill_offsets(f"{column.name}_offsets", lengths)
        checksums = np.frombuffer(block.columns["image_crc32"], "<u4").tolist()
        for checksum, row_bytes in zip(checksums, image_lengths.tolist(), strict=True):
            self.image_crc32 = crc32_combine(self.image_crc32, checksum, row_bytes)


def _publish(partial: Path, npz: Path) -> None:
    try:
        partial.replace(npz)
    except OSError as error:
        error.add_note(
            f"nothing is lost: {partial} is finished, and the next run decodes nothing, but only "
            "gives the files their names"
        )
        raise


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
