"""Contenders of the processing benchmark: photographs and boxes in, a stored data set out.

All but ours make samples by the same function, so that they differ in how they spread the work and
in how they write. Each uses all cores in the way its documentation advises.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from processing import DataProcessor, LazyNPZDataset
from processing.core.cpus import available_cpus
from processing.imaging import placement
from processing.sources import read_sources

SIDE: Final = 256
LIMIT: Final = "LIMIT"
_LEAST_DECIBEL: Final = 30.0
"""What any stored image has in common with its truth; two different photographs have 10."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A JPEG file and float32 (k, 4) boxes x1, y1, x2, y2 in its pixels."""

    file: Path
    path: str
    bboxes: NDArray[np.float32]


class Sample(NamedTuple):
    """What is to be stored: uint8 (SIDE, SIDE, 3), float32 (k, 4) in its pixels, the path."""

    image: NDArray[np.uint8]
    bboxes: NDArray[np.float32]
    path: str


def photographs_in(raw: Path) -> list[Photograph]:
    """The photographs of an annotated folder, by path."""
    table = read_sources(raw).table
    names = table.image_paths.tolist()
    return [Photograph(raw / name, name, table.image(i).boxes) for i, name in enumerate(names)]


def letterboxed(photograph: Photograph) -> Sample:
    """Decodes in full, resizes, pads."""
    pixels = simplejpeg.decode_jpeg(photograph.file.read_bytes(), "RGB")
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    w, h = max(round(width * scale), 1), max(round(height * scale), 1)
    x, y = (SIDE - w) // 2, (SIDE - h) // 2
    image = np.full((SIDE, SIDE, 3), 114, np.uint8)
    image[y : y + h, x : x + w] = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA)
    inside = np.clip(photograph.bboxes, 0, [width, height] * 2)
    bboxes = (inside * scale + [x, y] * 2).astype(np.float32)
    return Sample(image, bboxes, photograph.path)


class Writer(ABC):
    """A contender; adding one means `write` and `stored`.

    Args:
        share: part of the photographs to take each pass; less than 1 for slow ones.
    """

    name: str
    files: str

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._photographs: list[Photograph] = []

    def prepare(self, data: Path, folder: Path) -> None:  # noqa: B027 - there is nothing to override
        """Nothing: every pass begins with the photographs."""

    def make_ready(self, folder: Path) -> None:  # noqa: B027 - as above
        """Nothing: the photographs stay in the page cache."""

    def run(self, folder: Path) -> int:
        """Writes all anew; returns how many samples."""
        output = folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        photographs = self._taken(folder)
        self.write(photographs, output)
        return len(photographs)

    def check(self, data: Path, folder: Path) -> None:
        """Compares what was written last with the photographs.

        Raises:
            ValueError: too many or too few samples, or a path, an image or boxes are wrong.
        """
        truth = {photograph.path: photograph for photograph in self._taken(folder)}
        count = 0
        for count, sample in enumerate(self.stored(folder / "output"), 1):
            if sample.path not in truth:
                raise ValueError(f"stored {sample.path!r} twice or uncalled-for")
            expected = truth.pop(sample.path)
            if count % 100 == 1:
                compare(sample, letterboxed(expected))
        if truth:
            raise ValueError(
                f"stored {count} samples, {len(truth)} are missing: {next(iter(truth))!r}"
            )

    def _taken(self, folder: Path) -> list[Photograph]:
        if not self._photographs:
            everything = photographs_in(folder.parent / "raw")
            self._photographs = everything[: max(1, round(self.share * len(everything)))]
        return self._photographs

    @abstractmethod
    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Stores the samples of the photographs in the empty folder `output`."""

    @abstractmethod
    def stored(self, output: Path) -> Iterable[Sample]:
        """The samples that were stored there."""


def compare(found: Sample, expected: Sample) -> None:
    """Raises ValueError unless a stored sample shows what it should.

    Resizing may differ a little, and so may the rounding of the rectangle that is shown.
    """
    if found.image.shape != expected.image.shape or found.image.dtype != np.uint8:
        raise ValueError(f"{found.path}: stored {found.image.dtype} {found.image.shape}")
    error = np.mean((found.image.astype(np.float64) - expected.image) ** 2)
    if error > 255**2 / 10 ** (_LEAST_DECIBEL / 10):
        raise ValueError(f"{found.path}: another image was stored, mean square error {error:.0f}")
    same_number = found.bboxes.shape == expected.bboxes.shape
    if not same_number or not np.allclose(found.bboxes, expected.bboxes, atol=1):
        raise ValueError(f"{found.path}: boxes {found.bboxes}, expected {expected.bboxes}")


class Limit(Writer):
    """Decoding and resizing in a thread a core, nothing written."""

    name, files = LIMIT, "limit"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Makes the samples and keeps the last one."""
        cpus = available_cpus()
        with ThreadPoolExecutor(cpus) as pool:
            threads = [pool.submit(_last, photographs[i::cpus]) for i in range(cpus)]
            self._samples = [thread.result() for thread in threads]

    def check(self, data: Path, folder: Path) -> None:
        """Compares the last sample of each thread."""
        truth = {photograph.path: photograph for photograph in self._taken(folder)}
        for sample in self.stored(folder):
            compare(sample, letterboxed(truth[sample.path]))

    def stored(self, output: Path) -> Iterable[Sample]:
        """What was kept."""
        return self._samples


def _last(photographs: Iterable[Photograph]) -> Sample:
    for photograph in photographs:
        sample = letterboxed(photograph)
    return sample


class Ours(Writer):
    """`DataProcessor.process_detector`; reads the annotations, and its files are durable."""

    name, files = "ours", "ours"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Processes the folder; there is no way to take less of it."""
        self._process(
            DataProcessor(output.parents[1] / "raw", output, image_size=SIDE, progress=False)
        )

    def _process(self, processor: DataProcessor) -> None:
        processor.process_detector(train_split=1.0)

    def stored(self, output: Path) -> Iterable[Sample]:
        """The rows of the detector's file."""
        with LazyNPZDataset(output / "train_detector.npz") as dataset:
            for index in range(len(dataset)):
                row = dataset[index]
                yield Sample(row["image"], row["bboxes"], row["image_path"])


class OursDecodingInFull(Ours):
    """The same without scaled decoding, which has no switch: its table of scales is emptied."""

    name, files = "ours, decoding in full (patched)", "ours-full"

    def _process(self, processor: DataProcessor) -> None:
        with mock.patch.object(placement, "_SHRINK_FOR_REDUCTION", {}):
            super()._process(processor)


class OursAllTasks(Ours):
    """All files that the annotations can feed."""

    name, files = "ours, process_all", "ours-all"

    def _process(self, processor: DataProcessor) -> None:
        processor.process_all(train_split=1.0)


class LitData(Writer):
    """`litdata.optimize`."""

    name, files = "litdata.optimize", "litdata"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Chunks of 64 MB, a worker a core."""
        import litdata

        litdata.optimize(
            _as_dict,
            list(photographs),
            output_dir=str(output),
            chunk_bytes="64MB",
            num_workers=available_cpus(),
        )

    def stored(self, output: Path) -> Iterator[Sample]:
        """The rows of the streaming data set."""
        import litdata

        for row in litdata.StreamingDataset(str(output)):
            yield Sample(np.asarray(row["image"]), np.asarray(row["bboxes"]), row["path"])


def _as_dict(photograph: Photograph) -> dict[str, Any]:
    return letterboxed(photograph)._asdict()


class MosaicML(Writer):
    """`MDSWriter` in a process a core, then `merge_index`."""

    name, files = "MosaicML MDSWriter", "mds"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Every process writes the shards of its part into a folder of its own."""
        from benchmarks.contenders.streaming import import_streaming

        import_streaming()
        from streaming.base.util import merge_index

        cpus = available_cpus()
        parts = [(output / str(i), photographs[i::cpus]) for i in range(cpus)]
        with get_context("fork").Pool(cpus) as pool:
            pool.starmap(_write_mds, parts)
        merge_index(str(output), keep_local=True)

    def stored(self, output: Path) -> Iterator[Sample]:
        """The rows of the streaming data set."""
        from benchmarks.contenders.streaming import import_streaming

        dataset = import_streaming().StreamingDataset(
            local=str(output), shuffle=False, batch_size=1
        )
        for index in range(len(dataset)):
            row = dataset[index]
            yield Sample(row["image"], row["bboxes"].reshape(-1, 4), row["path"])


def _write_mds(output: Path, photographs: Iterable[Photograph]) -> None:
    from streaming import MDSWriter

    columns = {
        "image": f"ndarray:uint8:{SIDE},{SIDE},3",
        "bboxes": "ndarray:float32",
        "path": "str",
    }
    with MDSWriter(out=str(output), columns=columns) as writer:
        for photograph in photographs:
            writer.write(_as_dict(photograph))


class Datasets(Writer):
    """`datasets.Dataset.map`, which writes an Arrow file a process."""

    name, files = "datasets.map", "datasets"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """Maps the list of photographs to samples."""
        import datasets

        features = datasets.Features(
            image=datasets.Array3D((SIDE, SIDE, 3), "uint8"),
            bboxes=datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=4)),
            path=datasets.Value("string"),
        )
        listed = datasets.Dataset.from_dict({"number": list(range(len(photographs)))})
        self._stored = listed.map(
            partial(_numbered, list(photographs)),
            input_columns="number",
            remove_columns="number",
            features=features,
            num_proc=available_cpus(),
            cache_file_name=str(output / "samples.arrow"),
            load_from_cache_file=False,
        )

    def stored(self, output: Path) -> Iterator[Sample]:
        """The rows of the Arrow files."""
        for row in self._stored.with_format("numpy"):
            boxes = np.asarray(row["bboxes"], np.float32).reshape(-1, 4)
            # In numpy format integers come as int64, whatever they are stored as.
            yield Sample(np.asarray(row["image"], np.uint8), boxes, str(row["path"]))


def _numbered(photographs: Sequence[Photograph], number: int) -> dict[str, Any]:
    return _as_dict(photographs[number])


class NaiveLoop(Writer):
    """A loop over the photographs and `np.savez`, as notebooks have it."""

    name, files = "loop and np.savez", "loop"

    def write(self, photographs: Sequence[Photograph], output: Path) -> None:
        """All samples are in memory when they are saved; ragged boxes as an object array."""
        images, bboxes, paths = zip(*map(letterboxed, photographs), strict=True)
        ragged = np.empty(len(bboxes), object)
        ragged[:] = bboxes
        np.savez(output / "samples.npz", images=np.stack(images), bboxes=ragged, image_paths=paths)

    def stored(self, output: Path) -> Iterator[Sample]:
        """The arrays' rows."""
        with np.load(output / "samples.npz", allow_pickle=True) as arrays:
            columns = [arrays[name] for name in ("images", "bboxes", "image_paths")]
            yield from map(Sample._make, zip(*columns, strict=True))


def writers() -> list[Writer]:
    """All contenders, the limit first."""
    return [
        Limit(),
        OursDecodingInFull(),
        Ours(),
        OursAllTasks(),
        LitData(),
        MosaicML(),
        Datasets(share=0.5),
        NaiveLoop(share=0.25),
    ]
