"""Targets of other trainers: each field equals what a COCO file says, computed independently.

torchvision, transformers, rf-detr and Ultralytics are not needed: names, shapes, dtypes and values
are compared with the contracts that their documentation states.
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from datamodules import LazyNPZDataModule
from datamodules.targets import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    cxcywh_to_xyxy,
    to_detr,
    to_rfdetr,
    to_torchvision,
    to_ultralytics,
    xyxy_to_cxcywh,
)
from processing import BatchLoader, LazyNPZDataset
from processing.data_processor import DataProcessor

HEIGHT, WIDTH = 96, 128  # of the stored images, and of the photographs that are stored 1:1
# COCO's ids may have gaps. Categories become 0, 1, 2 in the order of their ids.
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 8, "name": "bird"}]
POSITION = {category["id"]: position for position, category in enumerate(CATEGORIES)}
IMAGES = [  # id, file name, height, width
    (501, "a.png", HEIGHT, WIDTH),
    (502, "b.png", HEIGHT, WIDTH),
    (503, "letterboxed.png", 300, 200),
    (504, "without objects.png", HEIGHT, WIDTH),
]
BOXES = {  # image id: (category id, x, y, width, height)
    501: [(7, 10.0, 20.0, 30.0, 40.0), (3, 0.0, 0.0, 128.0, 96.0)],
    502: [(8, 100.5, 50.25, 20.0, 30.5)],
    503: [(3, 20.0, 30.0, 100.0, 200.0), (8, 150.0, 250.0, 50.0, 50.0)],
    504: [],
}
CROWD = (7, 1.0, 1.0, 60.0, 60.0)
IDS = {f"images/{name}": number for number, name, *_ in IMAGES}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Returns the processed directory of a COCO data set."""
    raw = tmp_path_factory.mktemp("coco")
    (raw / "images").mkdir()
    (raw / "annotations").mkdir()
    noise = np.random.default_rng(0)
    for _, name, height, width in IMAGES:
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(raw / "images" / name)
    rows = [(image, box, 0) for image, boxes in BOXES.items() for box in boxes]
    rows.append((501, CROWD, 1))
    content = {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, name, height, width in IMAGES
        ],
        "categories": CATEGORIES,
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd,
            }
            for number, (image, (category, *box), crowd) in enumerate(rows, start=1)
        ],
    }
    (raw / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    # Each of the two splits needs photographs: the same ones again under other names.
    for image in content["images"]:
        copy = f"train {image['file_name']}"
        Image.open(raw / "images" / image["file_name"]).rotate(180).save(raw / "images" / copy)
        image["file_name"] = copy
    (raw / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    output = tmp_path_factory.mktemp("preprocessed")
    DataProcessor(
        raw, output, image_size={"detector": (HEIGHT, WIDTH)}, progress=False
    ).process_detector()
    return output


@pytest.fixture(scope="module")
def dataset(coco):
    with LazyNPZDataset(coco / "val_detector.npz", return_index=True) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def batch(coco):
    """Returns the batch of all validation images, as a model gets it."""
    datamodule = LazyNPZDataModule(data_dir=coco, batch_size=8)
    datamodule.setup("validate")
    (batch,) = datamodule.val_dataloader()
    batch = datamodule.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    batch = datamodule.on_after_batch_transfer(batch, 0)
    yield batch
    datamodule.teardown()


def names_of(batch):
    return [path.removeprefix("images/") for path in batch["image_path"]]


def boxes_of(name):
    """Returns the COCO boxes of a photograph: category ids, and (k, 4) x1, y1, x2, y2."""
    number = next(number for number, other, *_ in IMAGES if other == name)
    rows = BOXES[number]
    corners = [(x, y, x + width, y + height) for _, x, y, width, height in rows]
    return [category for category, *_ in rows], np.array(corners, np.float32).reshape(-1, 4)


def stored_boxes_of(name):
    """Returns categories and boxes in pixels of the stored image, by the rule of a letterbox."""
    categories, boxes = boxes_of(name)
    _, _, height, width = next(image for image in IMAGES if image[1] == name)
    scale = min(HEIGHT / height, WIDTH / width)
    shift = np.array([WIDTH - width * scale, HEIGHT - height * scale] * 2) / 2
    return categories, boxes * scale + shift


def fractions_of(boxes):
    """Returns boxes as centre, width and height, as fractions of the stored image."""
    x1, y1, x2, y2 = boxes.T
    return np.stack(
        ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT), 1
    )


def areas_of(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def assert_equals(tensor, expected, dtype):
    """Compares values, shape and dtype; the shape also of empty tensors."""
    assert tensor.dtype == dtype
    expected = np.asarray(expected)
    assert tuple(tensor.shape) == expected.shape
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-5, atol=1e-3)


def test_the_data_covers_all_kinds_of_images(batch):
    assert sorted(names_of(batch)) == sorted(name for _, name, *_ in IMAGES)
    assert batch["image"].shape == (4, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("ids", [None, IDS])
def test_torchvision_gets_each_field_of_its_contract(batch, ids):
    images, targets = to_torchvision(batch, image_ids=ids)
    assert [image.shape for image in images] == [(3, HEIGHT, WIDTH)] * 4
    assert torch.equal(torch.stack(images), batch["image"])
    assert images[0].dtype == torch.float32
    for position, (name, target) in enumerate(zip(names_of(batch), targets, strict=True)):
        categories, boxes = stored_boxes_of(name)
        assert list(target) == ["boxes", "labels", "image_id", "area", "iscrowd"]
        assert_equals(target["boxes"], boxes, torch.float32)
        assert_equals(target["labels"], [POSITION[c] + 1 for c in categories], torch.int64)
        assert type(target["image_id"]) is int  # its evaluation uses the id as the key of a dict
        assert target["image_id"] == (position if ids is None else IDS[f"images/{name}"])
        assert_equals(target["area"], areas_of(boxes), torch.float32)
        assert_equals(target["iscrowd"], np.zeros(len(boxes)), torch.uint8)


def assert_detr_targets(batch, targets, labels_name):
    for name, target in zip(names_of(batch), targets, strict=True):
        categories, boxes = stored_boxes_of(name)
        names = {"class_labels", "boxes", "image_id", "area", "iscrowd", "orig_size", "size"}
        assert set(target) == names - {"class_labels"} | {labels_name}
        assert_equals(target[labels_name], [POSITION[c] for c in categories], torch.int64)
        assert_equals(target["boxes"], fractions_of(boxes), torch.float32)
        assert_equals(target["image_id"], [IDS[f"images/{name}"]], torch.int64)
        assert_equals(target["area"], areas_of(boxes), torch.float32)
        assert_equals(target["iscrowd"], np.zeros(len(boxes)), torch.int64)
        assert_equals(target["orig_size"], [HEIGHT, WIDTH], torch.int64)
        assert_equals(target["size"], [HEIGHT, WIDTH], torch.int64)


def normalized(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def test_detr_gets_each_field_of_its_contract(batch):
    result = to_detr(batch, image_ids=IDS)
    assert list(result) == ["pixel_values", "pixel_mask", "labels"]
    torch.testing.assert_close(result["pixel_values"], normalized(batch["image"]))
    assert_equals(result["pixel_mask"], np.ones((4, HEIGHT, WIDTH)), torch.int64)
    assert_detr_targets(batch, result["labels"], "class_labels")


def test_detr_may_leave_images_from_0_to_1(batch):
    assert torch.equal(to_detr(batch, mean=None)["pixel_values"], batch["image"])
    halved = to_detr(batch, mean=(0, 0, 0), std=(2, 2, 2))["pixel_values"]
    torch.testing.assert_close(halved, batch["image"] / 2)


def test_rfdetr_gets_each_field_of_its_contract(batch):
    images, mask, targets = to_rfdetr(batch, image_ids=IDS)
    torch.testing.assert_close(images, normalized(batch["image"]))
    assert_equals(mask, np.zeros((4, HEIGHT, WIDTH)), torch.bool)  # True would mark padding
    assert_detr_targets(batch, targets, "labels")


def test_ultralytics_gets_each_field_of_its_contract(batch):
    result = to_ultralytics(batch)
    assert torch.equal(result["img"], batch["image"])
    found = [stored_boxes_of(name) for name in names_of(batch)]
    categories = [POSITION[c] for names, _ in found for c in names]
    owners = [position for position, (names, _) in enumerate(found) for _ in names]
    assert_equals(result["cls"], np.array(categories)[:, None], torch.float32)
    boxes = np.concatenate([fractions_of(boxes) for _, boxes in found])
    assert_equals(result["bboxes"], boxes, torch.float32)
    assert_equals(result["batch_idx"], owners, torch.float32)
    assert result["im_file"] == batch["image_path"]
    assert result["ori_shape"] == result["resized_shape"] == [(HEIGHT, WIDTH)] * 4
    assert result["ratio_pad"] == [((1.0, 1.0), (0.0, 0.0))] * 4


def test_boxes_of_each_target_lead_back_to_the_boxes_in_the_coco_file(batch, dataset):
    size = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    _, torchvision = to_torchvision(batch)
    detr = to_detr(batch)["labels"]
    ultralytics = to_ultralytics(batch)
    for position, name in enumerate(names_of(batch)):
        own = ultralytics["batch_idx"] == position
        for boxes in (
            torchvision[position]["boxes"],
            cxcywh_to_xyxy(detr[position]["boxes"]) * size,
            cxcywh_to_xyxy(ultralytics["bboxes"][own]) * size,
        ):
            in_photograph = dataset.to_source(int(batch["index"][position]), boxes.numpy())
            np.testing.assert_allclose(in_photograph, boxes_of(name)[1], atol=1e-3)


def assert_same(found, expected):
    """Compares two results for Ultralytics, which also hold paths."""
    assert found.pop("im_file") == expected.pop("im_file")
    torch.testing.assert_close(found, expected)


def uint8_batches(dataset):
    yield next(iter(DataLoader(dataset, batch_size=4)))
    yield next(iter(BatchLoader(dataset, 4)))


def test_batches_of_a_loader_give_the_same_targets(batch, dataset):
    for raw in uint8_batches(dataset):
        torch.testing.assert_close(to_torchvision(raw), to_torchvision(batch))
        torch.testing.assert_close(to_detr(raw), to_detr(batch))
        torch.testing.assert_close(to_rfdetr(raw), to_rfdetr(batch))
        yolo = to_ultralytics(raw)
        assert yolo["img"].dtype == torch.uint8  # the trainer divides it by 255
        assert torch.equal(yolo.pop("img"), raw["image"].permute(0, 3, 1, 2))
        expected = to_ultralytics(batch)
        del expected["img"]
        assert_same(yolo, expected)


def test_samples_that_are_not_valid_are_left_out(batch):
    padded = {**batch, "valid": torch.tensor([True, False, True, False])}
    kept = {
        name: value[[0, 2]] if isinstance(value, torch.Tensor) else [value[0], value[2]]
        for name, value in padded.items()
    }
    del kept["valid"]
    torch.testing.assert_close(to_torchvision(padded), to_torchvision(kept))
    torch.testing.assert_close(to_detr(padded), to_detr(kept))
    torch.testing.assert_close(to_rfdetr(padded), to_rfdetr(kept))
    assert_same(to_ultralytics(padded), to_ultralytics(kept))


@pytest.mark.parametrize("valid", [[False], [True]])
def test_batches_without_any_box_keep_the_shapes(valid):
    batch = {
        "image": torch.zeros(1, 3, 8, 8),
        "bboxes": [torch.zeros(0, 4)],
        "labels": [torch.zeros(0, dtype=torch.int64)],
        "index": torch.tensor([0]),
        "valid": torch.tensor(valid),
    }
    count = sum(valid)
    images, targets = to_torchvision(batch)
    assert [tuple(target["boxes"].shape) for target in targets] == [(0, 4)] * count
    assert len(images) == count
    detr = to_detr(batch)
    assert detr["pixel_values"].shape == (count, 3, 8, 8)
    assert [tuple(target["boxes"].shape) for target in detr["labels"]] == [(0, 4)] * count
    yolo = to_ultralytics(batch)
    assert yolo["img"].shape == (count, 3, 8, 8)
    shapes = [tuple(yolo[name].shape) for name in ("cls", "bboxes", "batch_idx")]
    assert shapes == [(0, 1), (0, 4), (0,)]


def test_nothing_in_the_batch_is_changed(batch):
    before = {name: torch.clone(batch[name]) for name in ("image", "index")}
    boxes = torch.cat(list(batch["bboxes"])).clone()
    _, targets = to_torchvision(batch)
    targets[0]["boxes"].zero_()
    to_detr(batch)["labels"][0]["class_labels"].zero_()
    to_ultralytics(batch)["bboxes"].zero_()
    assert all(torch.equal(batch[name], value) for name, value in before.items())
    assert torch.equal(torch.cat(list(batch["bboxes"])), boxes)


IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ({"image": IMAGE, "bboxes": torch.zeros(1, 4)}, TypeError, "teacher"),
        ({"image": IMAGE, "keypoints": torch.zeros(1, 5, 3)}, TypeError, "no 'bboxes'"),
        ({"image": IMAGE, "bboxes": [torch.zeros(4)]}, ValueError, r"bboxes\[0\] has shape \(4,\)"),
        (
            {"image": IMAGE, "bboxes": [torch.zeros(2, 4)], "labels": [torch.zeros(1)]},
            ValueError,
            "sample 0 has 2 boxes and 1 labels",
        ),
        ({"image": IMAGE[0], "bboxes": []}, ValueError, r"shape \(3, 8, 8\), expected \(B, 3"),
        ({"image": IMAGE.long(), "bboxes": []}, TypeError, "int64"),
        ({"image": IMAGE.byte(), "bboxes": []}, ValueError, r"expected \(B, H, W, 3\)"),
        ({"image": [IMAGE], "bboxes": []}, TypeError, "list"),
    ],
)
def test_other_batches_are_refused_with_the_reason(batch, error, words):
    for convert in (to_torchvision, to_detr, to_rfdetr, to_ultralytics):
        with pytest.raises(error, match=words):
            convert(batch)


def test_images_without_a_number_are_refused_with_the_remedy(batch):
    anonymous = {name: value for name, value in batch.items() if name != "index"}
    with pytest.raises(ValueError, match="return_index=True"):
        to_torchvision(anonymous)
    assert to_torchvision(anonymous, image_ids=IDS)[1][0]["image_id"] in IDS.values()
    with pytest.raises(ValueError, match=r"no id for 'images/.*relative to the raw directory"):
        to_detr(batch, image_ids={})
    del anonymous["image_path"]
    with pytest.raises(ValueError, match="image_path"):
        to_rfdetr(anonymous, image_ids=IDS)


@given(
    st.lists(
        st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 2, *[st.floats(0, 1e4, width=32)] * 2),
        max_size=5,
    )
)
def test_both_forms_of_a_box_lead_to_each_other(rows):
    boxes = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    assert torch.allclose(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes, rtol=0, atol=1e-9)
    corners = torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), dim=1)
    assert torch.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(corners)), corners, rtol=0, atol=1e-9)
