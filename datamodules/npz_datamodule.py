"""LazyNPZDataModule: preprocessed NPZ files as a LightningDataModule.

Runs the processor where one is given, opens what a stage needs, shares samples among ranks, and
finishes batches on the device. Imports no configuration framework: every setting is an argument.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import lightning as L
import torch

from datamodules.epoch_loader import EpochLoader, startable_workers
from datamodules.sampler import EpochSampler
from datamodules.settings import (
    PathLike,
    Split,
    TaskName,
    as_processors,
    cache_sizes,
    data_directories,
)
from datamodules.transforms import Augmentation, to_float
from processing.core.arguments import check_flag, check_integer, check_number
from processing.datasets.batch import Batch
from processing.datasets.collate import collate_transformed
from processing.datasets.loader import BatchLoader
from processing.datasets.sample_dataset import Transform
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset, open_dataset

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

_LOG = logging.getLogger(__name__)

AnyDataset = LazyNPZDataset | CombinedLazyDataset

_SPLITS_OF_STAGE: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}


class LazyNPZDataModule(L.LightningDataModule):
    """Feeds one task's samples to a Trainer.

    Batches reach the model as dicts: `image` float32 (B, 3, H, W), 0 to 1, in channels_last memory;
    `bboxes`, `keypoints` and `labels` as the task has them; `image_path` list of str; `index` int64
    (B,), positions in the split's dataset.

    The order of training samples is a function of (seed, epoch), and their augmentation of (seed,
    epoch, index), for any number of workers and ranks. Ranks get equally many training batches;
    validation, test and prediction read each sample exactly once over all ranks. Testing and
    predicting use the test split, or val where there is none. Shares of validation may differ by
    one sample, which Lightning's `log(sync_dist=True)` does not weigh exactly: reduce sums and
    counts instead. A checkpoint knows how far into its epoch the run was: resumed, it goes on with
    the next batch.

    With storage that all nodes share, set the attribute `prepare_data_per_node` to False.

    Args:
        task: which of a directory's files to read.
        data_dir: directory with ``{train,val[,test]}_{task}.npz``; several are read as one data
            set. None: where `processor` writes.
        processor: makes the files where they are missing or out of date; several, each its own
            directory. None: the files are there.
        train_split: fraction of the images that no official split names; for the processor.
        batch_size: samples a rank and step.
        num_workers: threads of each loader that gather batches ahead; see `BatchLoader`. With
            `train_transform` processes, for training.
        cache_size: samples in each dataset's LRU cache, a process; a mapping gives it by split, 0
            for those left out.
        pin_memory: whether batches go through page-locked memory. None: with a CUDA device only.
        persistent_workers: whether worker processes outlive an epoch; threads are cheap to start.
        prefetch_factor: batches each worker prepares ahead.
        drop_last: whether a training epoch's last, smaller batch is left out.
        seed: of order and augmentation; not negative.
        augment: changes training batches on the device. None: nothing.
        verify: whether each row is compared with its checksum when read.
        train_transform: called with each training sample, a dict of numpy arrays, and returns one;
            the image must stay uint8 (H, W, 3). Training then uses a plain DataLoader, with
            processes, because Python code gains nothing from threads; such a run resumes at the
            beginning of an epoch. Must be picklable where processes are spawned.

    Attributes:
        datasets: those open, by split; closed by `teardown`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; or neither
            `data_dir` nor `processor`.

    Example:
        >>> datamodule = LazyNPZDataModule(data_dir="data/preprocessed", batch_size=64)
        >>> L.Trainer().fit(model, datamodule=datamodule)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        task: TaskName = "detector",
        data_dir: PathLike | Sequence[PathLike] | None = None,
        processor: DataProcessor | Sequence[DataProcessor] | None = None,
        train_split: float = 0.8,
        batch_size: int = 32,
        num_workers: int = 0,
        cache_size: int | Mapping[str, int] = 0,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        prefetch_factor: int = 2,
        drop_last: bool = False,
        seed: int = 0,
        augment: Augmentation | None = None,
        verify: bool = False,
        train_transform: Transform | None = None,
    ) -> None:
        super().__init__()
        if task not in get_args(TaskName):
            raise ValueError(f"task must be one of {', '.join(get_args(TaskName))}, got {task!r}")
        self.task = task
        self.processors = as_processors(processor)
        self.data_dirs = data_directories(data_dir, self.processors)
        self.train_split = check_number("train_split", train_split, least=0, most=1)
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        self.num_workers = check_integer("num_workers", num_workers, least=0)
        self.cache_sizes = cache_sizes(cache_size)
        self.pin_memory = None if pin_memory is None else check_flag("pin_memory", pin_memory)
        self.persistent_workers = check_flag("persistent_workers", persistent_workers)
        self.prefetch_factor = check_integer("prefetch_factor", prefetch_factor, least=1)
        self.drop_last = check_flag("drop_last", drop_last)
        self.seed = check_integer("seed", seed, least=0)
        if augment is not None and not callable(augment):
            raise TypeError(f"augment must be an Augmentation, got {augment!r}")
        self.augment = augment
        self._augment = augment
        self.verify = check_flag("verify", verify)
        self.train_transform = train_transform
        self.datasets: dict[Split, AnyDataset] = {}

    def prepare_data(self) -> None:
        """Runs the processors, which return at once where their output is up to date."""
        for processor in self.processors:
            report = getattr(processor, f"process_{self.task}")(train_split=self.train_split)
            level = logging.DEBUG if report.up_to_date else logging.INFO
            _LOG.log(level, "processed %s\n%s", processor.raw_data_dir, report)

    def setup(self, stage: str | None = None) -> None:
        """Opens the datasets that a stage needs; those already open stay as they are.

        Args:
            stage: ``fit``, ``validate``, ``test``, ``predict``; None opens all.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file holds another task, or cannot be trained on as configured.
        """
        if stage not in _SPLITS_OF_STAGE:
            stages = ", ".join(str(name) for name in _SPLITS_OF_STAGE)
            raise ValueError(f"stage must be one of {stages}, got {stage!r}")
        for split in _SPLITS_OF_STAGE[stage]:
            if split not in self.datasets:
                self.datasets[split] = self._open(split)
        if "train" in self.datasets and self.augment is not None:
            self._augment = _with_names(self.augment, self.datasets["train"])

    def teardown(self, stage: str | None = None) -> None:
        """Closes all datasets."""
        for dataset in self.datasets.values():
            dataset.close()
        self.datasets.clear()

    def train_dataloader(self) -> BatchLoader | EpochLoader:
        """The training split in the order of the trainer's epoch.

        Raises:
            ValueError: it has no samples, or none is left by `drop_last`.
        """
        loader = (
            self._dataloader("train")
            if self.train_transform is None
            else self._transforming_dataloader()
        )
        if len(loader) == 0:
            raise ValueError(
                f"{self._paths('train')[0]}: no batch to train on: "
                f"{len(self.datasets['train'])} samples, batch_size {self.batch_size} a rank, "
                f"drop_last={self.drop_last}"
            )
        return loader

    def val_dataloader(self) -> BatchLoader:
        """The validation split in its stored order."""
        return self._dataloader("val")

    def test_dataloader(self) -> BatchLoader:
        """The test split, or val where there is none, in its stored order."""
        return self._dataloader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The same as `test_dataloader`."""
        return self._dataloader("test")

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Moves the tensors; Lightning's own would wait for the device at each ragged field."""
        return Batch(batch).to(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Turns images uint8 (B, H, W, 3) into float (B, 3, H, W); augments training batches."""
        batch = {**batch, "image": to_float(batch["image"])}
        trainer = self.trainer
        if trainer is None:
            return batch
        if self._augment is not None and trainer.training:
            batch = self._augment(batch, seed=self.seed, epoch=trainer.current_epoch)
        # The precision plugin saw the batch while its images were integers.
        batch["image"] = trainer.precision_plugin.convert_input(batch["image"])
        return batch

    def _open(self, split: Split) -> AnyDataset:
        paths = self._paths(split)
        if split == "test" and paths == self._paths("val"):
            _LOG.warning("no test split in %s: val is used", ", ".join(map(str, self.data_dirs)))
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{', '.join(missing)}: not there. Give the datamodule a processor, run `python -m "
                f"processing.data_processor --{self.task}`, or point data_dir at its output"
            )
        dataset = open_dataset(
            paths if len(paths) > 1 else paths[0],
            cache_size=self.cache_sizes.get(split, 0),
            verify=self.verify,
            return_index=True,
            transform=self.train_transform if split == "train" else None,
        )
        if (found := dataset.task) != self.task:
            dataset.close()
            raise ValueError(f"{paths[0]}: expected samples of task {self.task!r}, found {found!r}")
        return dataset

    def _paths(self, split: Split) -> list[Path]:
        paths = [directory / f"{split}_{self.task}.npz" for directory in self.data_dirs]
        if split == "test":
            return [path for path in paths if path.is_file()] or self._paths("val")
        return paths

    def _dataset(self, split: Split) -> AnyDataset:
        if split not in self.datasets:
            raise RuntimeError(f"{split} is not open: call setup() first, as a Trainer does")
        return self.datasets[split]

    def _dataloader(self, split: Split) -> BatchLoader:
        ranks = self._ranks()
        return BatchLoader(
            self._dataset(split),
            self.batch_size,
            shuffle=split == "train" and not self._overfits(),
            num_workers=self.num_workers,
            drop_last=self.drop_last and split == "train",
            seed=self.seed,
            pin_memory=self._pin_memory(),
            prefetch_factor=self.prefetch_factor,
            rank=ranks["rank"],
            world_size=ranks["num_replicas"],
        )

    def _transforming_dataloader(self) -> EpochLoader:
        dataset, num_workers = self._dataset("train"), startable_workers(self.num_workers)
        return EpochLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(
                dataset, shuffle=not self._overfits(), seed=self.seed, **self._ranks()
            ),
            num_workers=num_workers,
            collate_fn=collate_transformed,
            pin_memory=self._pin_memory(),
            drop_last=self.drop_last,
            persistent_workers=self.persistent_workers and num_workers > 0,
            prefetch_factor=self.prefetch_factor if num_workers > 0 else None,
        )

    def _ranks(self) -> dict[str, int]:
        trainer = self.trainer
        return (trainer and trainer.distributed_sampler_kwargs) or {"num_replicas": 1, "rank": 0}

    def _overfits(self) -> bool:
        """Whether the trainer wants the same few batches in every epoch."""
        # An attribute that Trainer's constructor does not declare.
        return self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]  # set by Lightning, not declared

    def _pin_memory(self) -> bool:
        if self.pin_memory is not None:
            return self.pin_memory
        if self.trainer is not None:
            return self.trainer.strategy.root_device.type == "cuda"
        return torch.cuda.is_available()


def _with_names(augment: Augmentation, dataset: AnyDataset) -> Augmentation:
    """The augmentation with the data's names of points, checked before training starts."""
    if dataset.task != "landmarker" or not augment.horizontal_flip:
        return augment
    for file in _files(dataset):
        names = list(file.metadata.get("keypoint_names", ()))
        if augment.keypoint_names is None:
            augment = dataclasses.replace(augment, keypoint_names=names)
        elif names and names != list(augment.keypoint_names):
            expected = list(augment.keypoint_names)
            raise ValueError(f"{file.path}: expected keypoints named {expected}, found {names}")
        expected_shape = (len(file), len(augment.mirrored_order), 3)
        if file.keypoints is None or file.keypoints.shape != expected_shape:
            found = None if file.keypoints is None else file.keypoints.shape
            raise ValueError(
                f"{file.path}: mirroring by {expected_shape[1]} names needs keypoints "
                f"{expected_shape}, found {found}: give other keypoint_names, or horizontal_flip=0"
            )
    return augment


def _files(dataset: AnyDataset) -> list[LazyNPZDataset]:
    """The files behind a dataset; `open_dataset` combines nothing else."""
    if isinstance(dataset, LazyNPZDataset):
        return [dataset]
    return [part for part in dataset.datasets if isinstance(part, LazyNPZDataset)]
