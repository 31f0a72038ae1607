import json
import logging
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import Augmentation, LazyNPZDataModule
from processing.core.columns import RaggedArray
from processing.core.errors import ChecksumError
from processing.datasets.batch import TensorList
from processing.run.processing_report import ProcessingReport
from tests.orders import epoch_order

SIZE = 8
NAMES = ["left_eye", "right_eye", "nose"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    # Lightning's own use of torch, not ours.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
]


def write_split(directory, split, task, n, *, seed=0, keypoint_names=NAMES, category_names=()):
    """One NPZ file whose image i is filled with the value i."""
    metadata = {
        "format_version": 1,
        "task": task,
        "keypoint_names": list(keypoint_names),
        "category_names": list(category_names),
    }
    rng = np.random.default_rng(seed)
    members = {
        "images": np.broadcast_to(
            np.arange(n, dtype=np.uint8)[:, None, None, None], (n, SIZE, SIZE, 3)
        ).copy(),
        "image_paths": np.array(
            [f"{directory.name}/{split}_{i}.jpg" for i in range(n)], dtype="U40"
        ),
        "metadata": np.array(json.dumps(metadata)),
    }
    if task == "detector":
        rows = [rng.uniform(0, SIZE, (i % 3, 4)) for i in range(n)]
        boxes = RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(4,))
        members |= {"bboxes": boxes.values, "bboxes_offsets": boxes.offsets}
    elif task == "landmarker":
        members["keypoints"] = rng.uniform(1, SIZE, (n, 3, 3)).astype(np.float32)
    else:
        members["bboxes"] = rng.uniform(0, 100, (n, 4)).astype(np.float32)
    directory.mkdir(exist_ok=True)
    np.savez(directory / f"{split}_{task}.npz", **members)


@pytest.fixture
def data_dir(tmp_path):
    directory = tmp_path / "data"
    for task in ("detector", "landmarker", "teacher"):
        write_split(directory, "train", task, 22)
        write_split(directory, "val", task, 9)
    return directory


class Recorder(L.LightningModule):
    """A model that learns one number and keeps every batch it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches = []
        self.epochs = []

    def _keep(self, batch):
        self.batches.append(batch)
        self.epochs.append(self.trainer.current_epoch)

    def training_step(self, batch, _):
        self._keep(batch)
        return (self.weight * batch["image"].mean()).sum()

    def validation_step(self, batch, _):
        self._keep(batch)

    test_step = validation_step

    def predict_step(self, batch, _):
        return batch["index"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Training(Recorder):
    """A recorder of training batches alone."""

    def validation_step(self, batch, _):
        pass


def trainer(tmp_path, **options):
    defaults = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**(defaults | options))


def indices(batches):
    return [i for batch in batches for i in batch["index"].tolist()]


@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_fit_validate_test_and_predict_see_every_sample(data_dir, tmp_path, task, num_workers):
    datamodule = LazyNPZDataModule(
        task=task, data_dir=data_dir, batch_size=4, num_workers=num_workers
    )
    model = Training()
    trainer(tmp_path).fit(model, datamodule=datamodule)
    assert sorted(indices(model.batches)) == list(range(22))
    if num_workers:
        return
    for run in ("validate", "test"):
        recorder = Recorder()
        getattr(trainer(tmp_path), run)(recorder, datamodule=datamodule, verbose=False)
        assert indices(recorder.batches) == list(range(9))
    predictions = trainer(tmp_path).predict(Recorder(), datamodule=datamodule)
    assert torch.cat(predictions).tolist() == list(range(9))
    assert datamodule.datasets == {}


def test_a_batch_has_float_images_and_the_annotations_of_its_samples(data_dir, tmp_path):
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=9)
    model = Recorder()
    trainer(tmp_path).validate(model, datamodule=datamodule, verbose=False)
    (batch,) = model.batches
    assert batch.keys() == {"image", "bboxes", "labels", "image_path", "index", "valid"}
    assert batch["image"].shape == (9, 3, SIZE, SIZE)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch["image"][:, 0, 0, 0], torch.arange(9) / 255)
    assert isinstance(batch["bboxes"], TensorList)
    assert [len(boxes) for boxes in batch["bboxes"]] == [0, 1, 2] * 3
    assert batch["image_path"][3] == "data/val_3.jpg"


def test_images_have_the_precision_of_the_model(data_dir, tmp_path):
    model = Training()
    trainer(tmp_path, precision="bf16-true", limit_train_batches=1).fit(
        model, datamodule=LazyNPZDataModule(data_dir=data_dir)
    )
    assert model.batches[0]["image"].dtype == torch.bfloat16


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_order_is_that_of_seed_and_epoch(data_dir, tmp_path, num_workers):
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=8, seed=3, num_workers=num_workers)
    model = Training()
    trainer(tmp_path, max_epochs=3).fit(model, datamodule=datamodule)
    expected = [i for epoch in range(3) for i in epoch_order(22, seed=3, epoch=epoch).tolist()]
    assert indices(model.batches) == expected


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # it is ours
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("saved_by", [{"every_n_epochs": 1}, {"every_n_train_steps": 3}])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(data_dir, tmp_path, num_workers, saved_by):
    def run(ckpt_path=None):
        model = Training()
        datamodule = LazyNPZDataModule(
            data_dir=data_dir, batch_size=8, num_workers=num_workers, augment=Augmentation(0.5, 0.2)
        )
        keep_all = ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1, **saved_by)
        trainer(tmp_path, max_epochs=4, enable_checkpointing=True, callbacks=[keep_all]).fit(
            model, datamodule=datamodule, ckpt_path=ckpt_path
        )
        return model

    whole = run()
    resumed = run(ckpt_path=tmp_path / "kept/epoch=1.ckpt")
    assert resumed.epochs == whole.epochs[6:]
    assert indices(resumed.batches) == indices(whole.batches)[44:]
    assert all(
        torch.equal(a["image"], b["image"])
        for a, b in zip(resumed.batches, whole.batches[6:], strict=True)
    )


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # it is ours
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_resumes_within_an_epoch(data_dir, tmp_path, num_workers):
    def run(ckpt_path=None, **settings):
        model = Training()
        datamodule = LazyNPZDataModule(
            data_dir=data_dir, batch_size=4, augment=Augmentation(0.5, 0.2), **settings
        )
        keep_all = ModelCheckpoint(
            tmp_path / "kept", "{step}", save_top_k=-1, every_n_train_steps=1
        )
        trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[keep_all]).fit(
            model, datamodule=datamodule, ckpt_path=ckpt_path
        )
        return model

    whole = run()
    for step in (1, 8, 11, 12, 17):  # of 6 an epoch
        resumed = run(tmp_path / f"kept/step={step}.ckpt", num_workers=num_workers)
        assert resumed.epochs == whole.epochs[step:]
        assert all(
            torch.equal(a["index"], b["index"]) and torch.equal(a["image"], b["image"])
            for a, b in zip(resumed.batches, whole.batches[step:], strict=True)
        )
        assert torch.equal(resumed.weight, whole.weight)


class Halved:
    """A picklable transform: halves what it is given."""

    def __call__(self, sample):
        return sample | {"image": sample["image"] // 2}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_transform_changes_training_samples_alone(data_dir, tmp_path, num_workers):
    datamodule = LazyNPZDataModule(
        data_dir=data_dir, batch_size=4, num_workers=num_workers, train_transform=Halved()
    )
    model = Recorder()
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=datamodule)
    trained, validated = model.batches[:6], model.batches[6:9]
    assert indices(trained) == epoch_order(22, seed=0, epoch=0).tolist()
    assert indices(validated) == list(range(9))
    for batch in trained:
        assert torch.equal(batch["image"][:, 0, 0, 0], batch["index"].div(2).floor() / 255)
        assert [len(boxes) for boxes in batch["bboxes"]] == [i % 3 for i in batch["index"].tolist()]
    for batch in validated:
        assert torch.equal(batch["image"][:, 0, 0, 0], batch["index"] / 255)


def fit_augmented(data_dir, tmp_path, *, task="landmarker", **settings):
    datamodule = LazyNPZDataModule(
        task=task, data_dir=data_dir, seed=1, augment=Augmentation(0.5, 0.2, 0.2), **settings
    )
    model = Training()
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=datamodule)
    return {
        (epoch, index): (batch["image"][row], batch["keypoints"][row])
        for epoch, batch in zip(model.epochs, model.batches, strict=True)
        for row, index in enumerate(batch["index"].tolist())
    }


def test_augmentation_does_not_depend_on_workers_or_batch_size(data_dir, tmp_path):
    expected = fit_augmented(data_dir, tmp_path, batch_size=8)
    assert len(expected) == 2 * 22
    assert not all(torch.equal(expected[0, i][1], expected[1, i][1]) for i in range(22))
    for settings in ({"batch_size": 8, "num_workers": 2}, {"batch_size": 5}):
        found = fit_augmented(data_dir, tmp_path, **settings)
        assert found.keys() == expected.keys()
        for key, (image, points) in expected.items():
            assert torch.equal(found[key][0], image)
            assert torch.equal(found[key][1], points)


def test_augmentation_changes_training_batches_only(data_dir, tmp_path):
    datamodule = LazyNPZDataModule(
        data_dir=data_dir, batch_size=9, augment=Augmentation(0.0, brightness=0.5)
    )
    model = Recorder()
    trainer(tmp_path).fit(model, datamodule=datamodule)
    trained, validated = model.batches[0], model.batches[-1]
    assert torch.equal(validated["image"][:, 0, 0, 0], torch.arange(9) / 255)
    assert not torch.equal(trained["image"][:, 0, 0, 0], trained["index"] / 255)


def test_several_directories_are_read_as_one(data_dir, tmp_path):
    write_split(tmp_path / "more", "train", "detector", 5)
    write_split(tmp_path / "more", "val", "detector", 2)
    datamodule = LazyNPZDataModule(data_dir=[data_dir, str(tmp_path / "more")], batch_size=4)
    model = Training()
    trainer(tmp_path).fit(model, datamodule=datamodule)
    assert sorted(indices(model.batches)) == list(range(27))
    paths = {
        i: p
        for b in model.batches
        for i, p in zip(b["index"].tolist(), b["image_path"], strict=True)
    }
    assert paths[22] == "more/train_0.jpg"


SWAPPED = [NAMES[1], NAMES[0], NAMES[2]]


@pytest.mark.parametrize("other", [SWAPPED, [], ["a", "b", "c"]])
@pytest.mark.parametrize("stage", ["fit", None])
def test_splits_with_other_keypoints_are_refused(data_dir, other, stage):
    write_split(data_dir, "val", "landmarker", 9, keypoint_names=other)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=data_dir)
    with pytest.raises(ValueError, match=r"val_landmarker.*train_landmarker.*keypoint_names"):
        datamodule.setup(stage)
    assert not datamodule.datasets


def test_a_test_split_with_other_categories_is_refused(data_dir):
    for split, names in {"train": "ab", "val": "ab", "test": "ba"}.items():
        write_split(data_dir, split, "detector", 4, category_names=list(names))
    datamodule = LazyNPZDataModule(data_dir=data_dir)
    datamodule.setup("fit")
    with pytest.raises(ValueError, match=r"test_detector.*train_detector.*category_names"):
        datamodule.setup("test")


def test_directories_with_other_keypoints_are_refused(data_dir, tmp_path):
    for split in ("train", "val"):
        write_split(tmp_path / "more", split, "landmarker", 5, keypoint_names=SWAPPED)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=[data_dir, tmp_path / "more"])
    with pytest.raises(ValueError, match=r"more.*train_landmarker.*keypoint_names differ"):
        datamodule.setup("fit")


def test_the_test_split_is_used_where_there_is_one(data_dir, tmp_path):
    write_split(data_dir, "test", "detector", 4)
    model = Recorder()
    datamodule = LazyNPZDataModule(data_dir=data_dir)
    trainer(tmp_path).test(model, datamodule=datamodule, verbose=False)
    assert model.batches[0]["image_path"] == [f"data/test_{i}.jpg" for i in range(4)]


@pytest.mark.parametrize(
    ("stage", "splits"),
    [("fit", {"train", "val"}), ("validate", {"val"}), ("test", {"test"}), ("predict", {"test"})],
)
def test_setup_opens_what_the_stage_needs_once(data_dir, stage, splits):
    datamodule = LazyNPZDataModule(data_dir=data_dir)
    datamodule.setup(stage)
    opened = dict(datamodule.datasets)
    datamodule.setup(stage)
    assert opened.keys() == splits
    assert all(datamodule.datasets[split] is opened[split] for split in splits)
    datamodule.teardown(stage)
    assert datamodule.datasets == {}
    with pytest.raises(ValueError, match="closed"):
        next(iter(opened.values()))[0]


class CountingProcessor:
    """Stands for a DataProcessor: writes what it is asked for, and counts."""

    def __init__(self, output_dir):
        self.raw_data_dir = self.output_dir = output_dir
        self.calls = []

    def process_teacher(self, train_split):
        self.calls.append(train_split)
        write_split(self.output_dir, "train", "teacher", 6)
        write_split(self.output_dir, "val", "teacher", 3)
        return ProcessingReport(
            (), up_to_date=False, images_decoded=9, images_copied=0, images_resumed=0, seconds=1
        )


def test_what_the_processor_did_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO, "datamodules")
    processor = CountingProcessor(tmp_path)
    LazyNPZDataModule(task="teacher", processor=processor).prepare_data()
    assert "9 images in 1.0 s" in caplog.text


def test_testing_on_val_for_want_of_a_test_split_is_said(tmp_path, caplog):
    write_split(tmp_path, "val", "teacher", 3)
    datamodule = LazyNPZDataModule(task="teacher", data_dir=tmp_path)
    datamodule.setup("test")
    assert "no test split" in caplog.text
    datamodule.teardown()


def test_processors_run_before_their_output_is_read(tmp_path):
    processors = [CountingProcessor(tmp_path / name) for name in ("one", "two")]
    datamodule = LazyNPZDataModule(task="teacher", processor=processors, train_split=0.6)
    model = Training()
    trainer(tmp_path).fit(model, datamodule=datamodule)
    assert [processor.calls for processor in processors] == [[0.6], [0.6]]
    assert sorted(indices(model.batches)) == list(range(12))


def test_cache_size_is_given_by_split(data_dir):
    datamodule = LazyNPZDataModule(data_dir=data_dir, cache_size={"train": 7})
    datamodule.setup()
    sizes = {split: dataset.cache_info().maxsize for split, dataset in datamodule.datasets.items()}
    assert sizes == {"train": 7, "val": 0, "test": 0}


@pytest.mark.parametrize("train_transform", [None, dict])
def test_every_loader_gets_its_settings(data_dir, train_transform):
    datamodule = LazyNPZDataModule(
        data_dir=data_dir,
        batch_size=3,
        num_workers=2,
        prefetch_factor=5,
        pin_memory=False,
        persistent_workers=False,
        train_transform=train_transform,
    )
    datamodule.setup()
    names = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
    for name in names:
        loader = getattr(datamodule, name)()
        found = (loader.batch_size, loader.num_workers, loader.prefetch_factor)
        assert found == (3, 2, 5), name
    datamodule.teardown()


@pytest.mark.parametrize("train_transform", [None, dict])
@pytest.mark.parametrize("verify", [True, False])
def test_damaged_images_are_an_error_if_they_are_to_be_verified(tmp_path, verify, train_transform):
    for split in ("train", "val"):
        write_split(tmp_path, split, "teacher", 3)
        with np.load(tmp_path / f"{split}_teacher.npz") as stored:
            members = dict(stored)
        members["image_crc32"] = np.zeros(3, np.uint32)
        np.savez(tmp_path / f"{split}_teacher.npz", **members)
    datamodule = LazyNPZDataModule(
        task="teacher", data_dir=tmp_path, verify=verify, train_transform=train_transform
    )
    datamodule.setup("fit")
    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader()):
        if verify:
            with pytest.raises(ChecksumError, match="row"):
                list(loader)
        else:
            assert len(list(loader)) == 1
    datamodule.teardown()


def test_only_training_drops_the_last_batch(data_dir):
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=4, drop_last=True)
    datamodule.setup("fit")
    assert len(datamodule.train_dataloader()) == 5
    assert len(datamodule.val_dataloader()) == 3


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    datamodule = LazyNPZDataModule(data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"train_detector\.npz: not there.*--detector"):
        datamodule.setup("fit")


def test_files_of_another_task_are_refused(data_dir):
    (data_dir / "train_detector.npz").rename(data_dir / "train_teacher.npz")
    datamodule = LazyNPZDataModule(task="teacher", data_dir=data_dir)
    with pytest.raises(ValueError, match=r"train_teacher\.npz.*'teacher', found 'detector'"):
        datamodule.setup("fit")


def test_training_on_no_samples_is_refused(data_dir, tmp_path):
    write_split(data_dir, "train", "detector", 0)
    with pytest.raises(ValueError, match=r"train_detector\.npz: no batch.* 0 samples"):
        trainer(tmp_path).fit(Training(), datamodule=LazyNPZDataModule(data_dir=data_dir))


def test_fewer_samples_than_one_batch_is_refused_with_drop_last(data_dir, tmp_path):
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=32, drop_last=True)
    with pytest.raises(ValueError, match=r"22 samples.*batch_size 32.*drop_last"):
        trainer(tmp_path).fit(Training(), datamodule=datamodule)


@pytest.mark.parametrize("names", [[], ["a", "b", "c"], ["left", "right"]])
def test_points_that_cannot_be_mirrored_stop_before_training(data_dir, names):
    for split in ("train", "val"):
        write_split(data_dir, split, "landmarker", 6, keypoint_names=names)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=data_dir, augment=Augmentation(0.5))
    with pytest.raises(ValueError, match=r"names.*horizontal_flip=0"):
        datamodule.setup("fit")


def test_names_given_stand_in_for_names_the_file_lacks(data_dir, tmp_path):
    write_split(data_dir, "train", "landmarker", 6, keypoint_names=[])
    write_split(data_dir, "val", "landmarker", 9, keypoint_names=[])
    augment = Augmentation(1.0, keypoint_names=NAMES)
    model = Training()
    trainer(tmp_path).fit(
        model,
        datamodule=LazyNPZDataModule(task="landmarker", data_dir=data_dir, augment=augment),
    )
    stored = np.load(data_dir / "train_landmarker.npz")["keypoints"]
    (batch,) = model.batches
    row = batch["index"].tolist().index(2)
    assert batch["keypoints"][row, 0, 1] == stored[2, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "segmenter"},
            "task must be one of detector, landmarker, teacher, got 'segmenter'",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"cache_size": {"training": 3}}, r"cache_size names \['training'\].*train, val, test"),
        ({"data_dir": None}, "give data_dir, a processor, or both"),
        ({"data_dir": []}, "give data_dir, a processor, or both"),
        ({"data_dir": 5}, "data_dir must be a path, or several, got 5"),
        ({"processor": 5}, "processor must be a DataProcessor, or several, got 5"),
        ({"augment": "yes"}, "augment must be a callable on batches, got 'yes'"),
        ({"verify": "no"}, "verify must be true or false, got 'no'"),
        ({"pin_memory": "no"}, "pin_memory must be true or false, got 'no'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LazyNPZDataModule(**({"data_dir": "somewhere"} | settings))


def test_what_is_asked_for_too_early_or_of_no_stage_is_refused(data_dir):
    datamodule = LazyNPZDataModule(data_dir=data_dir)
    with pytest.raises(RuntimeError, match=r"train is not open: call setup\(\) first"):
        datamodule.train_dataloader()
    with pytest.raises(ValueError, match=r"stage must be one of fit, .* got 'ft'"):
        datamodule.setup("ft")


@pytest.mark.parametrize("train_transform", [None, Halved()])
def test_overfitting_one_batch_still_works(data_dir, tmp_path, train_transform):
    model = Training()
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=4, train_transform=train_transform)
    trainer(tmp_path, overfit_batches=1, max_epochs=2).fit(model, datamodule=datamodule)
    assert indices(model.batches) == [0, 1, 2, 3] * 2


class Kept(Recorder):
    """Keeps of each batch its stage, its epoch, its indices and its images, as a step gets them."""

    def predict_step(self, batch, batch_idx):
        self._keep(batch)
        return super().predict_step(batch, batch_idx)

    def _keep(self, batch):
        stage = self.trainer.state.stage.value
        epoch = self.trainer.current_epoch
        self.batches.append((stage, epoch, batch["index"].tolist(), batch["image"]))


def train_and_predict(data_dir, batch_size, **options):
    """The batches that this process saw, and its rank."""
    augment = Augmentation(0.5, 0.2, 0.2)
    datamodule = LazyNPZDataModule(
        data_dir=data_dir, batch_size=batch_size, seed=5, augment=augment
    )
    model = Kept()
    run = trainer(data_dir, max_epochs=2, **options)
    run.fit(model, datamodule=datamodule)
    run.predict(model, datamodule=datamodule, return_predictions=False)
    return model.batches, run.global_rank


def train_a_rank(ranks, data_dir):
    """Called in each of several ranks by a `ForkServer`."""
    warnings.simplefilter("ignore")
    kept, rank = train_and_predict(Path(data_dir), 4, devices=ranks, strategy="ddp")
    torch.save(kept, f"{data_dir}/rank_{rank}.pt")


def of_stage(rank, stage):
    return [batch[1:] for batch in rank if batch[0] == stage]


def test_two_ranks_train_in_step_and_validate_each_sample_once(programs, data_dir):
    write_split(data_dir, "train", "detector", 21)  # odd: one rank has a sample less
    log = data_dir / "log"
    status = programs.run_ranks(train_a_rank, log, ranks=2, data_dir=data_dir)
    assert status == 0, log.read_text()
    ranks = [torch.load(data_dir / f"rank_{rank}.pt") for rank in range(2)]
    alone, _ = train_and_predict(data_dir, 8, devices=1)

    for stage in ("validate", "predict"):
        seen = [
            i
            for rank in ranks
            for epoch, index, _ in of_stage(rank, stage)
            if epoch != 1
            for i in index
        ]
        assert sorted(seen) == list(range(9)), stage

    first, second = (of_stage(rank, "train") for rank in ranks)
    assert [len(index) for _, index, _ in first] == [4, 4, 3] * 2
    assert [len(index) for _, index, _ in second] == [4, 4, 2] * 2
    together = [a[1] + b[1] for a, b in zip(first, second, strict=True)]
    single = [index for _, index, _ in of_stage(alone, "train")]
    assert [sorted(index) for index in together] == [sorted(index) for index in single]

    images = {
        (e, i): x
        for e, index, image in of_stage(alone, "train")
        for i, x in zip(index, image, strict=True)
    }
    for epoch, index, image in first + second:
        assert all(torch.equal(images[epoch, i], x) for i, x in zip(index, image, strict=True))


def test_a_directory_that_two_processors_write_is_refused(tmp_path, processed_dir):
    (tmp_path / "link").symlink_to(processed_dir)
    around = processed_dir / ".." / processed_dir.name
    for same in (processed_dir, tmp_path / "link", around):
        processors = [CountingProcessor(processed_dir), CountingProcessor(same)]
        with pytest.raises(ValueError, match=r"output_dir of the processors names .* twice"):
            LazyNPZDataModule(data_dir=processed_dir, processor=processors)
