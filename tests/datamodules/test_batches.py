"""The batches of the datamodule: files of others, transforms, collate_fn, and what is refused."""

import functools

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from datamodules import Augmentation, LazyNPZDataModule, to_float
from processing.datasets.batch import TensorList
from tests.test_datamodule import Recorder, trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",  # Lightning's own use of torch
)


def finished(datamodule, split="val"):
    """All batches of a split, as a model gets them."""
    datamodule.setup("fit")
    try:
        batches = []
        for batch in getattr(datamodule, f"{split}_dataloader")():
            batch = datamodule.on_before_batch_transfer(batch, 0)
            batch = datamodule.transfer_batch_to_device(batch, torch.device("cpu"), 0)
            batches.append(datamodule.on_after_batch_transfer(batch, 0))
        return batches
    finally:
        datamodule.teardown()


def write_images(directory, images, **members):
    """Writes train and val as another program does: without metadata."""
    directory.mkdir(exist_ok=True)
    n = len(images)
    content = {
        "images": images,
        "image_paths": np.array([f"{i}.png" for i in range(n)]),
        "bboxes": np.arange(4.0 * n, dtype=np.float32).reshape(n, 4),
        **members,
    }
    for split in ("train", "val"):
        np.savez(directory / f"{split}_teacher.npz", **content)
    return LazyNPZDataModule(task="teacher", data_dir=directory, batch_size=4)


def pixels(*shape, dtype=np.uint8):
    return (np.arange(np.prod(shape)) % 256).reshape(shape).astype(dtype)


@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_batch_has_labels_and_valid(data_dir, task, split):
    for batch in finished(LazyNPZDataModule(task=task, data_dir=data_dir, batch_size=4), split):
        labels, size = batch["labels"], len(batch["image"])
        if task == "detector":
            assert type(labels) is TensorList
            assert [len(one) for one in labels] == [len(boxes) for boxes in batch["bboxes"]]
            labels = torch.cat(labels)
        else:
            assert labels.shape == (size,)
        assert labels.dtype == torch.int64
        assert not labels.any()
        assert batch["valid"].dtype == torch.bool
        assert batch["valid"].tolist() == [True] * size


def test_labels_of_a_file_stay(tmp_path):
    datamodule = write_images(tmp_path, pixels(3, 8, 9, 3), labels=np.int32([2, 0, 1]))
    (batch,) = finished(datamodule)
    assert batch["labels"].tolist() == [2, 0, 1]
    assert batch["labels"].dtype == torch.int64


def test_valid_of_a_loader_stays(data_dir):
    datamodule = LazyNPZDataModule(data_dir=data_dir)
    datamodule.setup("fit")
    batch = next(iter(datamodule.val_dataloader())) | {"valid": torch.arange(9) < 8}
    assert datamodule.on_after_batch_transfer(batch, 0)["valid"].tolist() == [True] * 8 + [False]
    datamodule.teardown()


@pytest.mark.parametrize("shape", [(3, 8, 9), (3, 8, 9, 1), (3, 1, 8, 9)])
def test_grey_images_get_three_equal_channels(tmp_path, shape):
    images = pixels(*shape)
    (batch,) = finished(write_images(tmp_path, images))
    assert batch["image"].shape == (3, 3, 8, 9)
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        expected = images.reshape(3, 8, 9).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(batch["image"][:, channel].numpy(), expected)


def test_a_file_with_channels_first_is_understood(tmp_path):
    images = pixels(3, 3, 8, 9)
    datamodule = write_images(tmp_path, images)
    (batch,) = finished(datamodule)
    np.testing.assert_array_equal(batch["image"].numpy(), images / np.float32(255))
    datamodule.setup("fit")
    assert datamodule.datasets["val"].image_size == (8, 9)
    datamodule.teardown()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_a_file_are_not_divided(tmp_path, dtype):
    images = (pixels(3, 8, 9, 3) / 100).astype(dtype)
    (batch,) = finished(write_images(tmp_path, images))
    assert batch["image"].dtype == torch.float32
    np.testing.assert_array_equal(
        batch["image"].numpy(), images.transpose(0, 3, 1, 2).astype(np.float32)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_of_a_file_that_are_not_finite_are_named(tmp_path, value):
    images = pixels(3, 8, 9, 3, dtype=np.float32)
    images[1, 2, 3, 0] = value
    with pytest.raises(ValueError, match=r"image of sample 1 \(1\.png\) has NaN or infinity"):
        finished(write_images(tmp_path, images))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int8, np.bool_])
@pytest.mark.parametrize("has_transform", [False, True])
def test_other_images_are_refused_when_the_file_is_opened(tmp_path, dtype, has_transform):
    datamodule = write_images(tmp_path, pixels(3, 8, 9, 3, dtype=dtype))
    if has_transform:
        datamodule.train_transform = scale
    file, setting = ("val", "val_transform") if has_transform else ("train", "train_transform")
    message = rf"{file}_teacher\.npz: expected images of uint8.*{np.dtype(dtype)}.*here {setting}"
    with pytest.raises(ValueError, match=message):
        datamodule.setup("fit")


def scale(sample):
    return {**sample, "image": sample["image"].astype("float32") / 65535}


def channels_first(sample):
    return {**sample, "image": torch.from_numpy(sample["image"]).permute(2, 0, 1)}


def test_sixteen_bits_are_read_with_transforms(tmp_path):
    images = pixels(3, 8, 9, 3, dtype=np.uint16) * 200
    write_images(tmp_path, images)
    datamodule = LazyNPZDataModule(
        task="teacher", data_dir=tmp_path, train_transform=scale, val_transform=scale
    )
    (batch,) = finished(datamodule)
    expected = (images.astype(np.float32) / 65535).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(batch["image"].numpy(), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_both_transforms_reach_their_splits_alone(data_dir, tmp_path, num_workers):
    model = Recorder()
    datamodule = LazyNPZDataModule(
        data_dir=data_dir,
        batch_size=11,
        num_workers=num_workers,
        train_transform=channels_first,
        val_transform=scale,
    )
    trainer(tmp_path).fit(model, datamodule=datamodule)
    trained, validated = model.batches[:2], model.batches[2:]
    for batch in trained:
        assert torch.equal(batch["image"][:, 0, 0, 0], batch["index"] / 255)
        assert batch["image"].shape[1:] == (3, 8, 8)
    for batch in validated:
        assert torch.equal(batch["image"][:, 0, 0, 0], batch["index"] / 65535)
    predicted = trainer(tmp_path).predict(model, datamodule=datamodule)
    assert torch.cat(predicted).tolist() == list(range(9))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_transform_stops_training_with_its_name(data_dir, tmp_path, num_workers):
    datamodule = LazyNPZDataModule(
        data_dir=data_dir, num_workers=num_workers, train_transform=wrong_dtype
    )
    with pytest.raises(ValueError, match=r"train_transform wrong_dtype: .*data/train_\d+\.jpg"):
        trainer(tmp_path).fit(Recorder(), datamodule=datamodule)


def wrong_dtype(sample):
    return {**sample, "image": sample["image"].astype(np.int32)}


def as_tuple(samples):
    assert type(samples) is list
    return torch.stack([torch.from_numpy(s["image"]) for s in samples]), len(samples)


def as_dict(samples):
    return {"image": as_tuple(samples)[0], "count": len(samples)}


class Loose(L.LightningModule):
    """Keeps batches of any form."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches = []

    def training_step(self, batch, _):
        self.batches.append(batch)
        return self.weight.sum()

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_collate_fn_makes_the_batches(data_dir, tmp_path, num_workers):
    for collate_fn in (as_tuple, as_dict):
        model = Loose()
        datamodule = LazyNPZDataModule(
            data_dir=data_dir, batch_size=11, num_workers=num_workers, collate_fn=collate_fn
        )
        trainer(tmp_path).fit(model, datamodule=datamodule)
        assert len(model.batches) == 3
        if collate_fn is as_tuple:
            images, count = model.batches[0]
            assert (images.shape, images.dtype, count) == ((11, 8, 8, 3), torch.uint8, 11)
        else:
            batch = model.batches[0]
            assert batch.keys() == {"image", "count", "valid"}
            assert batch["image"].shape == (11, 3, 8, 8)
            assert batch["image"].max() <= 1


def test_a_collate_fn_gets_the_plain_result_of_a_transform(data_dir):
    datamodule = LazyNPZDataModule(
        data_dir=data_dir, batch_size=9, val_transform=path_only, collate_fn=list
    )
    assert finished(datamodule) == [[f"data/val_{i}.jpg" for i in range(9)]]


def path_only(sample):
    return sample["image_path"]


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.full((2, 4, 5, 3), 51, dtype=torch.uint8), 0.2),
        (torch.full((2, 3, 4, 5), 51, dtype=torch.uint8), 0.2),
        (torch.full((2, 4, 5, 3), 51.0), 51),
        (torch.full((2, 3, 4, 5), 51.0, dtype=torch.float64), 51),
    ],
)
def test_to_float_divides_integers_only(images, expected):
    found = to_float(images)
    assert (found.shape, found.dtype) == ((2, 3, 4, 5), torch.float32)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, torch.full((2, 3, 4, 5), expected, dtype=torch.float32))


@pytest.mark.parametrize("name", ["train_transform", "val_transform", "collate_fn"])
def test_settings_that_are_no_functions_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a function, got 5"):
        LazyNPZDataModule(data_dir="somewhere", **{name: 5})


class Counts(torch.nn.Module):
    """An augmentation of another library: a module on batches, without seed or epoch."""

    def forward(self, batch):
        return batch | {"image": batch["image"] + 1}


class Keeper:
    def __init__(self):
        self.seen = []

    def __call__(self, batch, seed, *, epoch):
        self.seen.append((seed, epoch))
        return batch


def with_epoch(batch, *, epoch):
    return {**batch, "image": batch["image"] + 10 + epoch}


def loose(batch, **options):
    assert not options
    return batch | {"image": batch["image"] + 1}


def with_seed(batch, *, seed):
    return {**batch, "image": batch["image"] + seed}


AUGMENTS = {
    "bound seed": (functools.partial(with_seed, seed=20), 20),
    "seed": (with_seed, 4),
    "module": (Counts(), 1),
    "lambda": (lambda batch: {**batch, "image": batch["image"] + 1}, 1),
    "epoch only": (with_epoch, 10),
    "any keywords": (loose, 1),
    "builtin": (dict, 0),
    "keeper": (Keeper(), 0),
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_any_callable_augments_training_batches_alone(data_dir, tmp_path, name):
    augment, added = AUGMENTS[name]
    model = Recorder()
    datamodule = LazyNPZDataModule(
        task="landmarker", data_dir=data_dir, batch_size=22, seed=4, augment=augment
    )
    trainer(tmp_path).fit(model, datamodule=datamodule)
    trained, validated = model.batches
    torch.testing.assert_close(trained["image"][:, 0, 0, 0], trained["index"] / 255 + added)
    assert torch.equal(validated["image"][:, 0, 0, 0], validated["index"] / 255)
    if name == "keeper":
        assert augment.seen == [(4, 0)]


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda batch: None, TypeError, "augment .*lambda.* returned NoneType; expected the batch"),
        (lambda batch: {"x": 1}, TypeError, r"returned \['x'\]; expected the batch"),
    ],
)
def test_a_result_that_is_no_batch_is_refused(data_dir, tmp_path, augment, error, message):
    datamodule = LazyNPZDataModule(data_dir=data_dir, augment=augment)
    with pytest.raises(error, match=message):
        trainer(tmp_path).fit(Recorder(), datamodule=datamodule)


def test_an_augmentation_says_what_a_collate_fn_left_out(data_dir, tmp_path):
    datamodule = LazyNPZDataModule(data_dir=data_dir, augment=Augmentation(0.5), collate_fn=as_dict)
    with pytest.raises(ValueError, match=r"Augmentation needs index .* collate_fn left them out"):
        trainer(tmp_path).fit(Loose(), datamodule=datamodule)


@pytest.mark.parametrize("kind", [Augmentation, Counts, Keeper])
def test_a_class_in_place_of_an_augmentation_is_refused(kind):
    with pytest.raises(TypeError, match=rf"write {kind.__name__}\(\.\.\.\)"):
        LazyNPZDataModule(data_dir="somewhere", augment=kind)


class Joined(LazyNPZDataModule):
    """Trains on two loaders at once; the shorter one ends first."""

    mode = "dict"

    def train_dataloader(self):
        first, second = super().train_dataloader(), self.val_dataloader()
        loaders = [first, second] if self.mode == "list" else {"a": first, "b": second}
        return CombinedLoader(loaders, "max_size")


@pytest.mark.parametrize("mode", ["dict", "list"])
def test_each_of_several_joined_batches_is_finished(data_dir, tmp_path, mode):
    class Model(Recorder):
        def training_step(self, batch, batch_idx):
            joined.append(list(batch.values()) if isinstance(batch, dict) else batch)
            return self.weight.sum()

    joined = []
    datamodule = Joined(
        task="landmarker", data_dir=data_dir, batch_size=4, augment=AUGMENTS["lambda"][0]
    )
    datamodule.mode = mode
    trainer(tmp_path).fit(Model(), datamodule=datamodule)
    assert joined[-1][1] is None
    for batch in (batch for parts in joined for batch in parts if batch is not None):
        expected = batch["index"] / 255 + 1
        torch.testing.assert_close(batch["image"][:, 0, 0, 0], expected)
        assert {"labels", "valid"} <= set(batch)


class OwnBatches(LazyNPZDataModule):
    def train_dataloader(self):
        return DataLoader([torch.ones(2), torch.ones(2)])


def test_batches_of_a_users_own_loader_are_passed_on(data_dir, tmp_path):
    class Model(Recorder):
        def training_step(self, batch, batch_idx):
            seen.append(batch)
            return self.weight.sum()

    seen = []
    trainer(tmp_path).fit(Model(), datamodule=OwnBatches(data_dir=data_dir))
    assert torch.equal(torch.cat(seen), torch.ones(2, 2))


def test_a_tuner_changes_the_batch_size_of_the_next_loader(data_dir):
    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=2)
    datamodule.setup("fit")
    datamodule.batch_size = 8
    loader = datamodule.train_dataloader()
    datamodule.teardown()
    assert (len(loader), loader.batch_size) == (3, 8)
    datamodule.setup("fit")
    datamodule.batch_size = 0
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        datamodule.train_dataloader()
    datamodule.teardown()
