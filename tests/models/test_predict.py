"""Predictions from a checkpoint: from Python, and through a Trainer."""

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import LazyNPZDataModule
from models import Detector, Landmarker, Teacher
from models.data_facts import DataFacts
from models.inputs import prepare
from processing import DataProcessor
from processing.core.errors import ImageError
from processing.datasets.loader import BatchLoader
from processing.imaging.decoding import decode, read_header
from processing.lazy_dataset import open_dataset
from tests.conftest import write_coco

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
]

MODELS = {
    "detector": lambda **options: Detector(4, **options),
    "landmarker": lambda **options: Landmarker(4, **options),
    "teacher": lambda **options: Teacher(4, code_channels=4, **options),
}
RED, GREEN = (250, 10, 10), (10, 250, 10)
NAMES = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]


def trainer(directory, **options):
    defaults = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    shown = {"enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(default_root_dir=directory, **defaults, **shown, **options)


def fitted(task, data_dir, directory):
    """Returns the path of a checkpoint after two steps."""
    torch.manual_seed(0)
    run = trainer(directory, max_steps=2, limit_val_batches=0)
    run.fit(MODELS[task](), datamodule=LazyNPZDataModule(task=task, data_dir=data_dir))
    path = directory / f"{task}.ckpt"
    run.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoints(processed_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    return {task: fitted(task, processed_dir, directory) for task in MODELS}


def load(task, checkpoints):
    return {"detector": Detector, "landmarker": Landmarker, "teacher": Teacher}[
        task
    ].load_from_checkpoint(checkpoints[task], map_location="cpu", weights_only=True)


def test_a_checkpoint_holds_names_and_geometry_that_torch_loads_safely(checkpoints):
    for path in checkpoints.values():
        assert torch.load(path, weights_only=True)["npz_vision_data"]["padding"] == 114
    detector, landmarker = load("detector", checkpoints), load("landmarker", checkpoints)
    assert detector.category_names == ["face"]
    assert detector.facts.image_size == (64, 64)
    assert landmarker.keypoint_names == NAMES
    assert landmarker.facts.image_size == (48, 48)
    assert landmarker.facts.crop_margin == 0.25
    assert load("teacher", checkpoints).facts.image_size == (32, 32)


def test_images_of_any_kind_and_size_give_one_result_each(checkpoints, shared_raw_dir):
    model = load("detector", checkpoints)
    path = shared_raw_dir / "images" / "0001.jpg"
    pixels = np.asarray(Image.open(path))
    tall = np.zeros((200, 50, 3), np.uint8)
    for results in (
        model.predict(path, threshold=0),
        model.predict(str(path), threshold=0),
        model.predict([path, tall, pixels], threshold=0),
        model.predict(iter([path]), threshold=0),
    ):
        assert len(results[0].boxes) > 10
        assert results[0].names == ["face"] * len(results[0].boxes)
        assert results[0].size == (161, 97)
        assert (results[0].boxes >= 0).all()
        assert (results[0].boxes <= (97, 161, 97, 161)).all()
        assert results[0].boxes.dtype == results[0].scores.dtype == np.float32
    batch = np.stack([pixels, pixels])
    chw = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    expected = model.predict(pixels, threshold=0)[0]
    for found in (
        *model.predict(batch, threshold=0),
        *model.predict(chw, threshold=0),
        *model.predict(chw[None].float() / 255, threshold=0),
        *model.predict(torch.from_numpy(pixels.copy()), threshold=0),
    ):
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert model.predict([]) == []


def test_the_threshold_limits_the_scores(checkpoints, shared_raw_dir):
    model = load("detector", checkpoints)
    path = shared_raw_dir / "images" / "0001.jpg"
    scores = model.predict(path, threshold=0)[0].scores
    assert (np.diff(scores) <= 0).all()
    middle = float(scores[5])
    assert len(model.predict(path, threshold=middle)[0].scores) == (scores >= middle).sum()
    model.threshold = 1.0
    assert len(model.predict(path)[0].scores) == 0
    assert model.threshold == 1.0
    with pytest.raises(ValueError, match="threshold"):
        model.predict(path, threshold=2)


def test_a_prediction_changes_nothing_in_a_model_that_is_being_trained(checkpoints):
    model = load("detector", checkpoints).train()
    model.sides.eval()  # a layer that the user has frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    image = np.full((40, 60, 3), 200, np.uint8)
    first, second = model.predict(image, threshold=0), model.predict(image, threshold=0)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(first[0].boxes, second[0].boxes)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((5, 6, 3), np.uint16), TypeError, "uint16"),
        (np.zeros((5, 6, 7), np.uint8), ValueError, r"\(5, 6, 7\)"),
        (np.zeros((0, 6, 3), np.uint8), ValueError, "shape"),
        (torch.full((3, 8, 8), 255.0), ValueError, "divide by 255"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "finite"),
        ({"image": np.zeros((5, 6, 3), np.uint8)}, TypeError, "evaluate"),
        (Image.new("RGB", (4, 4)), TypeError, "np.asarray"),
        (3, TypeError, "expected a path"),
        ([None], TypeError, "NoneType"),
    ],
)
def test_other_images_are_refused_with_the_remedy(checkpoints, image, error, message):
    with pytest.raises(error, match=message):
        load("detector", checkpoints).predict(image)


def test_bad_files_are_named(checkpoints, tmp_path):
    model = load("detector", checkpoints)
    with pytest.raises(ImageError, match=r"missing\.jpg: does not exist"):
        model.predict(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="a folder"):
        model.predict(tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.jpg") as caught:
        model.predict([tmp_path / "text.jpg"])
    assert caught.value.reason == "not_an_image"


def test_an_untrained_model_names_the_remedy():
    with pytest.raises(ValueError, match="load_from_checkpoint"):
        Detector(4, num_classes=1).predict(np.zeros((8, 8, 3), np.uint8))


# Geometry


def write_blocks(path, size, boxes, orientation=1):
    """Writes an upright photograph with blocks, stored turned as the EXIF orientation says."""
    pixels = np.full((*size, 3), 60, np.uint8)
    for (x1, y1, x2, y2), colour in zip(boxes, (RED, GREEN), strict=True):
        pixels[y1:y2, x1:x2] = colour
    turn = {1: lambda a: a, 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, 1)}
    turn[8] = lambda a: np.rot90(a, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(turn[orientation](pixels))).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (90, 1000), (64, 64), (33, 21)])
def test_known_boxes_come_back_in_pixels_of_the_photograph(
    checkpoints, tmp_path, size, orientation
):
    """A fake head finds the blocks at their places in the model's input, to less than a pixel."""
    height, width = size
    boxes = [
        (width // 8, height // 4, width // 2, height // 2),
        (width // 2, height // 2, width - 1, height - 2),
    ]
    path = tmp_path / "blocks.png"
    write_blocks(path, size, boxes, orientation)
    model = load("detector", checkpoints)
    # The scale and the shift of a letterbox, worked out by hand.
    scale = 64 / max(size)
    shift = np.array([64 - width * scale, 64 - height * scale] * 2) / 2
    stored = torch.tensor(np.array(boxes) * scale + shift, dtype=torch.float32)
    seen = []

    def answer(images):
        seen.append(images)
        scores, labels = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.int64)
        return {"boxes": stored[None], "scores": scores, "labels": labels}

    model.answer = answer
    (found,) = model.predict(path)
    assert found.size == size
    # The letterbox rounds its edges to whole pixels, and the result follows the rounding.
    rect = prepare(path, (64, 64)).rects[0]
    exact = np.array(boxes) + 0.0
    rounded = (stored.numpy() / 64) * np.tile(rect[2:] - rect[:2], 2) + np.tile(rect[:2], 2)
    np.testing.assert_allclose(found.boxes, np.clip(rounded, 0, [width, height] * 2), atol=0.01)
    np.testing.assert_allclose(found.boxes, exact, atol=0.6 / scale)
    # The blocks are where the fake head has found them.
    for box, colour in zip(stored.numpy(), (RED, GREEN), strict=True):
        x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
        np.testing.assert_allclose(seen[0][0, :, y, x] * 255, colour, atol=3)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Larger photographs, two of them turned by EXIF, and the files that each task makes of them.

    Each task is processed by itself: when several share a photograph, it is decoded for all.
    """
    directory = tmp_path_factory.mktemp("photographs")
    sizes = ((301, 452), (640, 480), (97, 161))
    raw = write_coco(directory / "raw", images=6, sizes=sizes, quality=95)
    for task in MODELS:
        processor = DataProcessor(raw, directory / task, image_size=64, progress=False)
        processor.process([task], train_split=0.5)
    return directory


@pytest.mark.parametrize("task", MODELS)
def test_a_path_gives_the_answer_of_the_stored_row(photographs, tmp_path, task):
    checkpoint = fitted(task, photographs / task, tmp_path)
    model = load(task, {task: checkpoint})
    annotations = write_boxes(photographs / "raw")
    data_dir = photographs / task
    with open_dataset(data_dir / f"train_{task}.npz", return_index=True) as dataset:
        rows = BatchLoader(dataset, batch_size=4)
        stored = [one for part in trainer(tmp_path).predict(model, rows) for one in part]
        assert len(stored) == len(dataset)
        for result in stored:
            i = result.sample_index
            path = photographs / "raw" / "images" / result.image_path.rpartition("/")[2]
            rect = dataset.source_rects[i]
            if task == "detector":
                (found,) = model.predict(path)
                height, width = dataset.source_sizes[i]
                boxes = dataset.to_source(i, result.boxes).clip(0, [width, height] * 2)
                np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
                np.testing.assert_allclose(found.scores, result.scores, atol=1e-6)
                continue
            box = min(annotations[path.name], key=lambda box: distance(box, rect))
            (found,) = model.predict(path, boxes=box)
            if task == "landmarker":
                points = dataset.to_source(i, result.points)
                np.testing.assert_allclose(found.points, points, atol=1e-3)
            else:
                np.testing.assert_array_equal(found.shown, dataset[i]["image"])
                np.testing.assert_allclose(found.code, result.code, atol=1e-5)
                assert found.psnr == pytest.approx(result.psnr, abs=1e-4)


def distance(box, rect):
    return np.abs((np.add(box[:2], box[2:]) - (rect[:2] + rect[2:])) / 2).max()


def write_boxes(raw):
    """Returns the boxes of each image as x1, y1, x2, y2."""
    import json

    content = json.loads((raw / "annotations" / "instances.json").read_text())
    names = {entry["id"]: entry["file_name"] for entry in content["images"]}
    boxes = {}
    for entry in content["annotations"]:
        x, y, w, h = entry["bbox"]
        boxes.setdefault(names[entry["image_id"]], []).append((x, y, x + w, y + h))
    return boxes


def test_boxes_decide_the_crops_of_each_image(checkpoints):
    model = load("landmarker", checkpoints)
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    several = [[10, 20, 50, 70], [60, 20, 140, 110]]
    (whole,) = model.predict(image)
    assert whole.points.shape == (5, 2)
    assert whole.names == NAMES
    (crops,) = model.predict(image, several)
    assert crops.points.shape == (2, 5, 2)
    (one,) = model.predict(image, several[1])
    np.testing.assert_allclose(one.points, crops.points[1], atol=1e-4)
    first, second = model.predict([image, image], [several[0], np.zeros((0, 4))])
    np.testing.assert_allclose(first.points, crops.points[0], atol=1e-4)
    assert second.points.shape == (0, 5, 2)
    # Each crop holds its box and its margin: the points lie inside.
    assert (crops.points[0] > (-20, -10)).all()
    assert (crops.points[0] < (80, 100)).all()
    teacher = load("teacher", checkpoints)
    (drawn,) = teacher.predict(image, several)
    assert drawn.reconstruction.shape == drawn.shown.shape == (2, 32, 32, 3)
    assert drawn.psnr.shape == (2,)


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (1, [1, 2, 3], r"shape \(3,\)"),
        (1, [5, 5, 1, 9], "x1 <= x2"),
        (1, [float("nan"), 5, 8, 9], "finite"),
        (1, [500, 500, 510, 510], "shows nothing"),
        (2, [[1, 2, 30, 40]], "one entry each"),
        (2, [[1, 2, 30, 40]] * 3, "one entry each"),
    ],
)
def test_wrong_boxes_are_refused(checkpoints, images, boxes, message):
    given = np.zeros((40, 50, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        load("landmarker", checkpoints).predict(given if images == 1 else [given] * images, boxes)


# Through a Trainer


@pytest.mark.parametrize("task", MODELS)
@pytest.mark.parametrize("is_trained", [False, True])
def test_validate_test_and_predict_work_with_a_datamodule(
    task, is_trained, checkpoints, processed_dir, tmp_path
):
    datamodule = LazyNPZDataModule(task=task, data_dir=processed_dir, batch_size=4)
    for action in ("validate", "test", "predict"):
        model = load(task, checkpoints) if is_trained else MODELS[task]()
        results = getattr(trainer(tmp_path), action)(model, datamodule=datamodule)
        if action != "predict":
            assert model.metric in results[0]
            continue
        found = [one for batch in results for one in batch]
        with open_dataset(processed_dir / f"val_{task}.npz") as dataset:
            assert [one.image_path for one in found] == dataset.image_paths.tolist()
        assert [one.sample_index for one in found] == list(range(len(found)))


def test_a_trainer_loads_a_checkpoint_into_a_fresh_model(checkpoints, processed_dir, tmp_path):
    expected = load("detector", checkpoints)
    with open_dataset(processed_dir / "val_detector.npz", return_index=True) as dataset:
        rows = BatchLoader(dataset, batch_size=2)
        fresh = Detector(4)
        path = str(checkpoints["detector"])
        (loaded, *_) = trainer(tmp_path).predict(fresh, rows, ckpt_path=path)
        (direct, *_) = trainer(tmp_path).predict(expected, rows)
    assert fresh.category_names == ["face"]
    np.testing.assert_array_equal(loaded[0].boxes, direct[0].boxes)


def test_without_data_facts_the_missing_argument_is_named(processed_dir, tmp_path):
    with open_dataset(processed_dir / "val_detector.npz") as dataset:
        rows = BatchLoader(dataset, batch_size=2)
        for action in ("validate", "test", "predict"):
            with pytest.raises(RuntimeError, match="num_classes is not known: give it"):
                getattr(trainer(tmp_path), action)(Detector(4), rows)
        with pytest.raises(ValueError, match="num_classes is not known: give it"):
            trainer(tmp_path, max_steps=1).fit(Detector(4), rows, rows)


def test_repeated_samples_have_no_result(checkpoints):
    model = load("detector", checkpoints)
    batch = {
        "image": torch.rand(3, 3, 64, 64),
        "image_path": ["a", "b", "c"],
        "valid": torch.tensor([True, False, True]),
    }
    with torch.no_grad():
        assert [one.image_path for one in model.predict_step(batch)] == ["a", "c"]


def test_data_of_other_categories_is_refused(checkpoints, processed_dir, tmp_path):
    model = load("detector", checkpoints)
    model.facts = DataFacts(category_names=("cat", "dog"), num_classes=1)
    datamodule = LazyNPZDataModule(data_dir=processed_dir)
    with pytest.raises(ValueError, match="trained on the categories cat, dog; the data has face"):
        trainer(tmp_path).validate(model, datamodule=datamodule)


def test_the_pixels_of_an_exact_input_are_not_changed(checkpoints):
    image = torch.rand(3, 64, 64)
    assert torch.equal(load("detector", checkpoints).prepare(image).pixels[0], image)


def test_the_rendering_is_that_of_the_processor(shared_raw_dir, processed_dir):
    with open_dataset(processed_dir / "train_detector.npz") as dataset:
        path = shared_raw_dir / "images" / str(dataset.image_paths[0]).rpartition("/")[2]
        data = path.read_bytes()
        pixels = decode(data, read_header(data)).pixels
        for given in (path, pixels):
            view = prepare(given, (64, 64))
            stored = torch.from_numpy(dataset[0]["image"]).permute(2, 0, 1) / 255
            np.testing.assert_allclose(view.pixels[0], stored, atol=1e-6)
            np.testing.assert_allclose(view.rects[0], dataset.source_rects[0], atol=1e-4)
