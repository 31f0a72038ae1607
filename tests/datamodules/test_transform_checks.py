"""What a transform may return: converted where that is beyond doubt, else refused by name."""

import functools
import pickle

import numpy as np
import pytest
import torch

from datamodules.transform_checks import CheckedCollate, CheckedTransform, UserCollate
from processing.core.columns import RaggedArray
from processing.datasets.batch import TensorList
from processing.datasets.collate import SampleBatch, ragged_sample

H, W = 6, 10


def samples(task="detector", lengths=(2, 0, 3), channels=3, labels=True):
    n = len(lengths)
    rng = np.random.default_rng(0)
    columns = {"images": rng.integers(0, 256, (n, H, W, channels), dtype=np.uint8)}
    if task == "detector":
        rows = [rng.random((k, 4)) for k in lengths]
        columns["bboxes"] = RaggedArray.from_rows(rows, dtype=np.float32, row_shape=(4,))
        if labels:
            rows = [np.arange(k) for k in lengths]
            columns["labels"] = RaggedArray.from_rows(rows, dtype=np.int64)
    elif task == "teacher":
        columns["bboxes"] = rng.random((n, 4), dtype=np.float32)
    else:
        columns["keypoints"] = rng.random((n, 5, 3), dtype=np.float32)
    columns["image_paths"] = np.array([f"{i}.jpg" for i in range(n)])
    columns["index"] = np.arange(n)
    return SampleBatch(columns)


def batch_of(change, task="detector", **options):
    """The batch that a loader makes of transformed samples, as the dataset calls the transform."""
    transform = CheckedTransform("train_transform", change, task)
    results = []
    for sample in samples(task, **options):
        ragged = sample.ragged
        results.append(ragged_sample(transform(sample), ragged))
    return CheckedCollate("train_transform", change)(results)


def plain(**options):
    return batch_of(lambda s: s, **options)


def with_image(change):
    return lambda s: {**s, "image": change(s["image"])}


IMAGES = {
    "same": lambda x: x,
    "channels first": lambda x: x.transpose(2, 0, 1),
    "tensor": torch.from_numpy,
    "tensor, channels first": lambda x: torch.from_numpy(x).permute(2, 0, 1),
    "flipped": lambda x: x[:, ::-1][:, ::-1],
    "mirrored memory": lambda x: np.fliplr(np.fliplr(x).copy()),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_in_either_layout_are_taken(name):
    batch, expected = batch_of(with_image(IMAGES[name])), plain()
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"], expected["image"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, torch.bfloat16])
def test_floats_stay_as_they_are(dtype):
    if isinstance(dtype, torch.dtype):
        batch = batch_of(with_image(lambda x: torch.from_numpy(x).to(dtype)))
        expected = plain()["image"].to(dtype).float()
    else:
        batch = batch_of(with_image(lambda x: x.astype(dtype)))
        expected = plain()["image"].float()
    assert batch["image"].dtype == torch.float32
    assert torch.equal(batch["image"], expected)


def test_a_grey_image_without_channels_is_taken():
    batch = batch_of(with_image(lambda x: x[..., 0]))
    assert batch["image"].shape == (3, H, W, 1)


@pytest.mark.parametrize("channels", [2, 5])
def test_unusual_channels_are_known_from_the_file(channels):
    batch = batch_of(with_image(lambda x: x.transpose(2, 0, 1)), channels=channels)
    assert torch.equal(batch["image"], plain(channels=channels)["image"])


def test_dropped_paths_and_indices_are_restored():
    batch = batch_of(lambda s: {key: s[key] for key in ("image", "bboxes", "labels")})
    assert batch["index"].tolist() == [0, 1, 2]
    assert batch["image_path"] == ["0.jpg", "1.jpg", "2.jpg"]


def test_annotations_may_be_lists_and_tensors():
    expected = plain()
    for convert in (np.ndarray.tolist, torch.from_numpy, lambda a: a.astype(float)):
        batch = batch_of(
            lambda s, c=convert: {**s, "bboxes": c(s["bboxes"]), "labels": c(s["labels"])}
        )
        assert type(batch["bboxes"]) is type(batch["labels"]) is TensorList
        for key, dtype in (("bboxes", torch.float32), ("labels", torch.int64)):
            for found, value in zip(batch[key], expected[key], strict=True):
                assert found.dtype == dtype
                assert torch.equal(found, value)


def test_labels_may_be_added():
    batch = batch_of(lambda s: {**s, "labels": [7] * len(s["bboxes"])}, labels=False)
    assert [one.tolist() for one in batch["labels"]] == [[7, 7], [], [7, 7, 7]]


def test_a_transform_may_change_its_sample_in_place():
    def change(sample):
        sample["image"] //= 2
        del sample["image_path"]
        return sample

    batch = batch_of(change)
    assert torch.equal(batch["image"], plain()["image"] // 2)
    assert batch["image_path"] == ["0.jpg", "1.jpg", "2.jpg"]


def without(*keys):
    return lambda s: {key: value for key, value in s.items() if key not in keys}


def with_value(key, make):
    return lambda s: {**s, key: make(s[key])}


REFUSED = {
    "nothing": (lambda s: None, "is NoneType; expected a dict"),
    "tuple": (lambda s: (s["image"], s["bboxes"]), "is tuple; expected a dict"),
    "no image": (without("image"), "has no 'image'.*collate_fn"),
    "renamed": (
        lambda s: {"image": s["image"], "boxes": s["bboxes"]},
        "has no 'bboxes', only 'image', 'boxes'.*collate_fn",
    ),
    "no labels": (without("labels"), "has no 'labels'"),
    "other index": (with_value("index", lambda i: 99), "has index 99; expected .*0.*keep 'index'"),
    "text": (with_image(lambda x: "image"), "image of type str"),
    "int32": (with_image(lambda x: x.astype("i4")), r"image int32 \(6, 10, 3\).*/ 65535"),
    "uint16": (with_image(lambda x: x.astype("u2")), "image uint16"),
    "int64 tensor": (with_image(lambda x: torch.from_numpy(x).long()), "image int64"),
    "bool": (with_image(lambda x: x > 9), "image bool"),
    "batch": (with_image(lambda x: x[None]), r"image uint8 \(1, 6, 10, 3\)"),
    "flat": (with_image(np.ravel), r"image uint8 \(180,\)"),
    "both layouts": (with_image(lambda x: x[:3].transpose(2, 1, 0)), r"uint8 \(3, 10, 3\)"),
    "no channels": (with_image(lambda x: np.zeros((6, 10, 7), np.uint8)), r"uint8 \(6, 10, 7\)"),
    "NaN": (with_image(lambda x: x / np.float32(0)), "image float32 .* with NaN or infinity"),
    "empty": (with_image(lambda x: x[:0]), r"uint8 \(0, 10, 3\)"),
    "sparse": (with_image(lambda x: torch.zeros(3, 6, 10).to_sparse()), "to_dense"),
    "loader's mark": (lambda s: {**s, "valid": True}, "has the key 'valid'; expected another"),
    "three numbers a box": (with_value("bboxes", lambda b: b[:, :3]), r"'bboxes' \(2, 3\)"),
    "NaN box": (with_value("bboxes", lambda b: b * np.nan), "'bboxes' that are not finite"),
    "box of text": (with_value("bboxes", lambda b: [["a"] * 4]), "'bboxes' that are not finite"),
    "no boxes": (with_value("bboxes", lambda b: None), "'bboxes' that are not finite"),
    "fewer labels": (with_value("labels", lambda n: n[:1]), r"'labels' \(1,\) for 'bboxes' \(2, 4"),
    "half a label": (with_value("labels", lambda n: n + 0.5), "'labels' with fractions"),
}


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_other_results_are_refused_by_name_and_sample(name):
    change, message = REFUSED[name]
    where = r"^train_transform .*: its result for sample 0 \(0\.jpg\) .*"
    with pytest.raises(ValueError, match=where + message):
        batch_of(change)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("landmarker", with_value("keypoints", lambda k: k[:4]), r"\(4, 3\); expected \(5, 3\)"),
        ("landmarker", with_value("keypoints", lambda k: k[:, :2]), r"\(5, 2\); expected \(5, 3\)"),
        ("teacher", with_value("bboxes", lambda b: b[None]), r"\(1, 4\); expected \(4,\)"),
    ],
)
def test_annotations_of_other_shapes_are_refused(task, change, message):
    assert plain(task=task)["image"].shape == (3, H, W, 3)
    with pytest.raises(ValueError, match=message):
        batch_of(change, task)


def every_other(change, other):
    return lambda s: change(s) if s["index"] % 2 else other(s)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_image(lambda x: x[:5]), r"uint8 \(6, 10, 3\); of sample 1 \(1.jpg\): uint8 \(5, 10"),
        (with_image(np.float32), "image of sample 0 .* uint8 .* of sample 1 .* float32"),
        (lambda s: {**s, "new": 1}, "keys of sample 0"),
    ],
)
def test_samples_that_do_not_fit_together_are_named(change, message):
    with pytest.raises(
        ValueError, match=r"^train_transform .*do not fit into one batch.*" + message
    ):
        batch_of(every_other(change, lambda s: s))


def test_the_shapes_of_other_keys_are_named_with_the_transform():
    def change(sample):
        return {**sample, "masks": np.zeros((len(sample["bboxes"]), 2))}

    with pytest.raises(ValueError, match=r"'masks' has other shapes .* collate_fn") as caught:
        batch_of(change)
    assert "train_transform" in caught.value.__notes__[0]


@pytest.mark.parametrize("value", [None, object()])
def test_a_key_that_cannot_be_collated_is_named_with_the_transform(value):
    with pytest.raises(TypeError, match="default_collate") as caught:
        batch_of(lambda sample: {**sample, "extra": value})
    assert f"'extra' of sample 0 is {type(value).__name__}" in caught.value.__notes__
    assert "train_transform" in caught.value.__notes__[-1]


def halve(sample, by=2):
    return {**sample, "image": sample["image"] // by}


def test_a_partial_function_is_called_by_its_name_and_pickled():
    transform = CheckedTransform("val_transform", functools.partial(halve, by="2"), "detector")
    transform = pickle.loads(pickle.dumps(transform))
    with pytest.raises(TypeError):
        transform(samples()[0])
    transform.transform = functools.partial(without("image"))
    with pytest.raises(ValueError, match=r"^val_transform without.*<lambda>"):
        transform(samples()[0])


def test_a_users_collate_fn_gets_a_list():
    batch = samples()
    found = UserCollate(lambda given: given)(batch)
    assert type(found) is list
    assert found[1] is batch[1]
