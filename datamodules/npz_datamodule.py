"""LazyNPZDataModule: preprocessed NPZ files as a LightningDataModule.

It runs the processor if there is one, opens the files that a stage needs, divides the samples among
ranks, and finishes batches on the device. Every setting is an argument; no configuration framework
is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import torch

from datamodules.augmenting import Augment, check_augment, keywords_of
from datamodules.batch_hooks import BatchHooks
from datamodules.batches import check_stored_images
from datamodules.data_info import DataInfo, DescribedData, describe
from datamodules.keypoint_names import AnyDataset, with_keypoint_names
from datamodules.process_loader import ProcessLoader
from datamodules.resuming import ResumeEpoch
from datamodules.settings import (
    DataDir,
    Split,
    TaskName,
    as_processors,
    cache_sizes,
    check_callable,
    data_directories,
    row_cache,
    transform_setting,
)
from datamodules.split_files import open_split, split_paths
from datamodules.transform_checks import CheckedCollate, CheckedTransform, UserCollate
from datamodules.transforms import Augmentation
from processing.core.arguments import check_flag, check_integer, check_number
from processing.core.urls import Location
from processing.datasets.balance import REPEAT_THRESHOLD
from processing.datasets.loader import BatchLoader
from processing.datasets.names import check_same_names
from processing.datasets.resumable import ResumableLoader, check_shuffle
from processing.datasets.sample_dataset import Transform

if TYPE_CHECKING:
    from processing.data_processor import DataProcessor

_LOG = logging.getLogger(__name__)
_THREADS: Final = 2
"""By default. A loader starts fewer where there are few CPUs; docs/benchmarks.md has the rates."""
_SPLITS_OF_STAGE: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}


class LazyNPZDataModule(DescribedData, BatchHooks):
    """Feeds one task's samples to a Trainer.

    Batches reach the model as dicts: `image` float32 (B, 3, H, W), in channels_last memory, 0 to 1
    if the file has uint8; `bboxes` or `keypoints` as the task has them; `labels` int64, zeros if
    the data has one category; `image_path` list of str; `index` int64 (B,), positions in the
    split's dataset; `valid` bool (B,), False for a sample that is repeated only so that all ranks
    have the same number of batches.

    Images of other writers: grey ones get three equal channels, channels may be first, and floats
    stay as they are if they are finite. Any other dtype needs a transform.

    The order of training samples depends only on seed and epoch, and their augmentation on seed,
    epoch and index, for any number of workers and ranks. In every stage, all ranks get the same
    number of batches, and each sample belongs to one rank. The batches of two ranks may differ by
    one sample. If there are fewer samples than ranks in a step, a rank repeats a sample, for which
    `valid` is False. Lightning's `log(sync_dist=True)` ignores both: reduce sums and counts for an
    exact mean.

    Testing and predicting use the test split, or val if there is none. A run that is resumed from a
    checkpoint continues with the next sample of its epoch. Batch size, number of ranks and workers,
    and `accumulate_grad_batches` may have changed.

    With storage that all nodes share, set the attribute `prepare_data_per_node` to False.

    Args:
        task: which of a directory's files to read.
        data_dir: directory with ``{train,val[,test]}_{task}.npz``, each a file or a set of shards,
            or several directories that are read as one dataset. They may be URLs, such as
            ``s3://bucket/data``. None: the output directory of `processor`.
        processor: creates files that are missing or out of date; several, each for its own
            directory. None: the files exist.
        train_split: fraction of images to train on; passed to the processor.
        batch_size: samples per rank and step.
        num_workers: threads of each loader that gather batches ahead; see `BatchLoader`. With
            `train_transform`, processes of the training loader. None: 2 threads, no processes.
        cache_size: samples in the LRU cache of each dataset, per process. A mapping gives a size
            for each split; a missing split has no cache.
        pin_memory: whether batches go through page-locked memory. None: only with a CUDA device.
        persistent_workers: whether worker processes outlive an epoch; threads are cheap to start.
        prefetch_factor: batches that each worker prepares ahead.
        drop_last: whether to leave out a training epoch's last batch if it is smaller.
        seed: seed of order and augmentation; not negative.
        shuffle: order of the training samples. ``"shards"`` reads few files at a time, which suits
            slow disks and sets of many shards; False keeps the stored order.
        weights: share of each directory of `data_dir` in the training samples, in any unit; or
            ``"balance"``; see `CombinedLazyDataset`. It needs ``shuffle=True``.
        repeat_threshold: for ``"balance"``: share of images below which a category is repeated.
        augment: any callable that changes training batches on the device, after the conversion to
            float: called with a batch, and with `seed` and `epoch` if it has parameters of these
            names; returns a dict with `image`. None: no change.
        verify: whether to compare each image with its checksum when it is read.
        train_transform: called with each training sample, a dict of numpy arrays; returns a dict
            with the same keys. Its image is uint8, or floats, which are not divided by 255; (H, W,
            C), or (C, H, W), as tensors have it; of one size in all samples. Boxes and points are
            in pixels of this image. A result that cannot be used is refused, with the name of the
            transform and the sample. The split is then read in processes, because threads do not
            speed up Python code; the transform must be picklable unless processes are forked.
        val_transform: the same for samples of validation, test and prediction.
        collate_fn: called with the list of a batch's samples, as the transform returns them; makes
            the batches of all splits, of any keys and type. Such batches are only moved to the
            device and augmented; if one is a dict with a uint8 `image`, that becomes float.
        cache_dir: local directory for images that were read from a URL, and for members that have
            to be unpacked. None: images are not kept.
        cache_bytes: how many bytes of images to keep there; a full cache takes no more.

    Attributes:
        datasets: the open datasets by split; `teardown` closes them.
        num_classes: number of categories. This attribute and the next four are known after `setup`;
            before it, the headers of the files are read, if the files exist.
        category_names: a label is a position in this list, which has at least one name.
        num_keypoints: number of keypoints of every sample; 0 if the data has none.
        keypoint_names: empty if the keypoints have no names.
        flip_indices: for each keypoint, the position of the one that takes its place in a mirrored
            image.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or there is neither `data_dir` nor `processor`.

    Example:
        >>> datamodule = LazyNPZDataModule(data_dir="data/preprocessed", batch_size=64)
        >>> datamodule.task, datamodule.batch_size
        ('detector', 64)
        >>> L.Trainer().fit(model, datamodule=datamodule)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        task: TaskName = "detector",
        data_dir: DataDir = None,
        processor: DataProcessor | Sequence[DataProcessor] | None = None,
        train_split: float = 0.8,
        batch_size: int = 16,
        num_workers: int | None = None,
        cache_size: int | Mapping[str, int] = 0,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        prefetch_factor: int = 2,
        drop_last: bool = False,
        seed: int = 0,
        shuffle: bool | Literal["shards"] = True,
        weights: Sequence[float] | Literal["balance"] | None = None,
        repeat_threshold: float = REPEAT_THRESHOLD,
        augment: Augment | None = None,
        verify: bool = False,
        train_transform: Transform | None = None,
        val_transform: Transform | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        cache_dir: str | Path | None = None,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        if task not in get_args(TaskName):
            raise ValueError(f"task must be one of {', '.join(get_args(TaskName))}, got {task!r}")
        self.task = task
        self.processors = as_processors(processor)
        self.data_dirs = data_directories(data_dir, self.processors)
        self.train_split = check_number("train_split", train_split, least=0, most=1)
        self.batch_size = check_integer("batch_size", batch_size, least=1)
        if num_workers is not None:
            num_workers = check_integer("num_workers", num_workers, least=0)
        self.num_workers = num_workers
        self.cache_sizes = cache_sizes(cache_size)
        self.pin_memory = None if pin_memory is None else check_flag("pin_memory", pin_memory)
        self.persistent_workers = check_flag("persistent_workers", persistent_workers)
        self.prefetch_factor = check_integer("prefetch_factor", prefetch_factor, least=1)
        self.drop_last = check_flag("drop_last", drop_last)
        self.seed = check_integer("seed", seed, least=0)
        self.shuffle = check_shuffle(shuffle)
        self.weights = weights if weights is None or isinstance(weights, str) else list(weights)
        self.repeat_threshold = check_number(
            "repeat_threshold", repeat_threshold, least=1e-9, most=1
        )
        self.augment = check_augment(augment)
        self._augment = self.augment  # `setup` adds the names of the data's keypoints to this one
        self._augment_keywords = frozenset() if augment is None else keywords_of(augment)
        self.verify = check_flag("verify", verify)
        self.train_transform = check_callable("train_transform", train_transform)
        self.val_transform = check_callable("val_transform", val_transform)
        self.collate_fn = check_callable("collate_fn", collate_fn)
        self.cache_dir, self.cache_bytes = row_cache(cache_dir, cache_bytes)
        self.datasets: dict[Split, AnyDataset] = {}
        self._train_loader: ResumableLoader[Any] | None = None

    def prepare_data(self) -> None:
        """Runs the processors; one whose output is up to date returns at once."""
        for processor in self.processors:
            report = getattr(processor, f"process_{self.task}")(train_split=self.train_split)
            level = logging.DEBUG if report.up_to_date else logging.INFO
            _LOG.log(level, "processed %s\n%s", processor.raw_data_dir, report)

    def setup(self, stage: str | None = None) -> None:
        """Opens the datasets that a stage needs, unless they are open.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``; None opens all datasets.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: `stage` is unknown, a file holds another task, two files differ in the names
                of their categories or keypoints, or keypoints cannot be mirrored as `augment` asks.
        """
        if stage not in _SPLITS_OF_STAGE:
            stages = ", ".join(str(name) for name in _SPLITS_OF_STAGE)
            raise ValueError(f"stage must be one of {stages}, got {stage!r}")
        for split in _SPLITS_OF_STAGE[stage]:
            if split not in self.datasets:
                self.datasets[split] = self._open(split)
        self._check_names()
        self._info = self._describe()
        # Now, so that names that do not fit stop the run before training, not at the first batch.
        if "train" in self.datasets and isinstance(self.augment, Augmentation):
            self._augment = with_keypoint_names(self.augment, self.datasets["train"])
        callbacks: list[Any] = getattr(self.trainer, "callbacks", [])
        if stage == "fit" and not any(isinstance(one, ResumeEpoch) for one in callbacks):
            callbacks.insert(0, ResumeEpoch())

    def _check_names(self) -> None:
        """Checks that labels and keypoints mean the same in all open splits.

        Raises:
            ValueError: they do not. All datasets are closed.
        """
        try:
            check_same_names(
                [(str(self._paths(split)[0]), one.layout) for split, one in self.datasets.items()]
            )
        except ValueError:
            self.teardown()
            raise

    def teardown(self, stage: str | None = None) -> None:
        """Closes all datasets."""
        for dataset in self.datasets.values():
            dataset.close()
        self.datasets.clear()
        self._train_loader = None

    def train_dataloader(self) -> ResumableLoader[Any]:
        """Returns a loader of the training split, in the order of the trainer's epoch.

        Raises:
            ValueError: there is no sample, or `drop_last` leaves no batch.
        """
        loader = self._dataloader("train")
        if len(loader) == 0:  # Lightning would skip the training and report success
            raise ValueError(
                f"{self._paths('train')[0]}: no batch to train on: "
                f"{len(self.datasets['train'])} samples, batch_size {self.batch_size} a rank, "
                f"drop_last={self.drop_last}"
            )
        # Lightning may ask for a new loader before or within the epoch that it resumes.
        if self._train_loader is not None:
            loader.continue_from(self._train_loader)
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> ResumableLoader[Any]:
        """Returns a loader of the validation split, in its stored order."""
        return self._dataloader("val")

    def test_dataloader(self) -> ResumableLoader[Any]:
        """Returns a loader of the test split, or of val if there is none, in its stored order."""
        return self._dataloader("test")

    def predict_dataloader(self) -> ResumableLoader[Any]:
        """Returns the same as `test_dataloader`."""
        return self._dataloader("test")

    def _describe(self) -> DataInfo:
        paths = {split: self._paths(split) for split in get_args(Split)}
        return describe(self.datasets, paths, self.task)

    def _open(self, split: Split) -> AnyDataset:
        paths = self._paths(split)
        if split == "test" and paths == self._paths("val"):
            _LOG.warning("no test split in %s: val is used", ", ".join(map(str, self.data_dirs)))
        dataset = open_split(
            paths,
            self.task,
            cache_size=self.cache_sizes.get(split, 0),
            verify=self.verify,
            cache_dir=self.cache_dir,
            cache_bytes=self.cache_bytes,
            return_index=True,
            transform=self._transform(split),
            weights=self.weights if split == "train" else None,
            repeat_threshold=self.repeat_threshold,
        )
        if self.collate_fn is None and self._transform(split) is None:
            try:
                check_stored_images(dataset, paths[0], transform_setting(split))
            except ValueError:
                dataset.close()
                raise
        return dataset

    def _transform(self, split: Split) -> Transform | None:
        """Returns the transform of a split, with its checks unless `collate_fn` replaces them."""
        transform: Transform | None = getattr(self, transform_setting(split))
        if transform is None or self.collate_fn is not None:
            return transform
        return CheckedTransform(transform_setting(split), transform, self.task)

    def _collate(self, split: Split) -> Callable[[Sequence[Any]], Any] | None:
        """Returns what makes batches of a split's samples; None: the dataset does it itself."""
        if self.collate_fn is not None:
            return UserCollate(self.collate_fn)
        setting = transform_setting(split)
        transform = getattr(self, setting)
        return None if transform is None else CheckedCollate(setting, transform)

    def _paths(self, split: Split) -> list[Location]:
        return split_paths(self.data_dirs, split, self.task)

    def _dataset(self, split: Split) -> AnyDataset:
        if split not in self.datasets:
            raise RuntimeError(f"{split} is not open: call setup() first, as a Trainer does")
        return self.datasets[split]

    def _dataloader(self, split: Split) -> ResumableLoader[Any]:
        dataset = self._dataset(split)
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle if split == "train" and not self._overfits() else False,
            "drop_last": self.drop_last and split == "train",
            "seed": self.seed,
            "pin_memory": self._pin_memory(),
            "prefetch_factor": self.prefetch_factor,
            **self._ranks(),
        }
        if (collate := self._collate(split)) is None:
            options["num_workers"] = _THREADS if self.num_workers is None else self.num_workers
            return BatchLoader(dataset, **options)
        options["num_workers"] = self.num_workers or 0
        options["persistent_workers"] = self.persistent_workers
        return ProcessLoader(dataset, collate_fn=collate, **options)

    def _ranks(self) -> dict[str, int]:
        """Returns the arguments of a loader that say which share of the samples it reads."""
        trainer = self.trainer
        found = (trainer and trainer.distributed_sampler_kwargs) or {"num_replicas": 1, "rank": 0}
        return {"rank": found["rank"], "world_size": found["num_replicas"]}

    def _overfits(self) -> bool:
        """Checks whether the trainer repeats the same few batches, which must not be shuffled."""
        return self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]  # set by Lightning, not declared

    def _pin_memory(self) -> bool:
        if self.pin_memory is not None:
            return self.pin_memory
        if self.trainer is not None:
            return self.trainer.strategy.root_device.type == "cuda"
        return torch.cuda.is_available()
