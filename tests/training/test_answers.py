"""The actions predict and export: from a checkpoint and photographs to files."""

import json
import sys
from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch
import yaml
from faster_coco_eval import COCO
from PIL import Image

import train_example
from models import Detector, Landmarker, Teacher
from models.data_facts import DataFacts
from tests.markdown import code_blocks, run_python
from training.exit_status import SettingsError
from training.export import export
from training.photographs import find_photographs
from training.predict import Prediction
from training.saved_model import load_model

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "prediction.md"

NAMES = ("left_eye", "right_eye", "nose")
FACTS = DataFacts(("cat", "dog"), NAMES, 2, 3, (64, 96), 0.25)
MODELS = {
    "detector": lambda: Detector(4, num_classes=2),
    "landmarker": lambda: Landmarker(4, num_keypoints=3),
    "teacher": lambda: Teacher(4, code_channels=4),
}


def tiny(task):
    torch.manual_seed(0)
    model = MODELS[task]()
    model.facts = FACTS
    if task == "detector":
        torch.nn.init.constant_(model.heat.bias, -2.0)  # scores above the lowest that is written
    return model.eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Returns the path of a checkpoint of each model."""
    directory = tmp_path_factory.mktemp("checkpoints")
    paths = {task: directory / f"{task}.ckpt" for task in MODELS}
    for task, path in paths.items():
        save(tiny(task), path)
    return paths


def save(model, path):
    """Saves a checkpoint of a model that was not trained."""
    trainer = L.Trainer(
        default_root_dir=path.parent, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)


@pytest.fixture
def photos(tmp_path):
    """A folder with a landscape, a photograph turned by EXIF, a grey one, and two bad files."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)

    def noise(*shape):
        return Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8))

    noise(300, 400, 3).save(folder / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, it is 400 high and 300 wide
    noise(300, 400, 3).save(folder / "sub" / "turned.jpg", exif=exif)
    noise(50, 70).save(folder / "sub" / "grey.PNG")
    noise(1700, 900, 3).save(folder / "sub" / "large.tif")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:5000])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("not a photograph")
    (folder / ".hidden.jpg").touch()
    return folder


def run_script(monkeypatch, directory, *arguments):
    """Does the same as ``python train_example.py ARGUMENTS``; returns the exit status."""
    monkeypatch.chdir(directory)
    quiet = ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled", "run_dir=run"]
    plain = ["trainer=cpu", "trainer.enable_progress_bar=false"]
    monkeypatch.setattr(sys, "argv", ["train_example.py", *plain, *quiet, *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        train_example.main()
    except SystemExit as stop:
        return stop.code
    return 0


def contents(run_dir):
    images = json.loads((run_dir / "images.json").read_text())
    return images, json.loads((run_dir / "predictions.json").read_text())


def test_the_command_writes_coco_results_drawings_and_the_list_of_bad_files(
    checkpoints, photos, tmp_path, monkeypatch, capsys
):
    arguments = [f"ckpt_path={checkpoints['detector']}", f"source={photos}"]
    status = run_script(monkeypatch, tmp_path, "action=predict", *arguments)
    printed = capsys.readouterr()
    assert status == 3
    assert "left out 2 of 6 photographs" in printed.err
    assert "skipped 1 that have no name of an image" in printed.out
    run_dir = tmp_path / "run"
    images, results = contents(run_dir)
    sizes = {one["file_name"]: (one["width"], one["height"]) for one in images["images"]}
    assert sizes == {
        "a.jpg": (400, 300),
        "sub/grey.PNG": (70, 50),
        "sub/large.tif": (900, 1700),
        "sub/turned.jpg": (300, 400),
    }
    assert images["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    names = {one["id"]: one["file_name"] for one in images["images"]}
    model = load_model(checkpoints["detector"])
    for number, name in names.items():
        own = [one for one in results if one["image_id"] == number]
        (expected,) = model.predict(photos / name, threshold=0.02)
        boxes = np.array([one["bbox"] for one in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
        assert [one["category_id"] - 1 for one in own] == expected.labels.tolist()
    assert len(COCO(str(run_dir / "images.json")).loadRes(str(run_dir / "predictions.json")).anns)
    drawings = sorted(run_dir.glob("predictions/**/*.*"))
    assert [str(path.relative_to(run_dir / "predictions")) for path in drawings] == [
        "a.jpg",
        "sub/grey.PNG",
        "sub/large.tif.jpg",
        "sub/turned.jpg",
    ]
    shapes = [cv2.imread(str(path)).shape for path in drawings]
    assert shapes == [(360, 480, 3), (343, 480, 3), (1280, 678, 3), (480, 360, 3)]
    lines = (run_dir / "predictions.rejected.jsonl").read_text().splitlines()
    bad = [json.loads(line) for line in lines]
    assert [(one["path"], one["reason"]) for one in bad] == [
        ("cut.jpg", "truncated"),
        ("empty.png", "not_an_image"),
    ]


def test_another_run_in_the_same_folder_leaves_nothing_of_the_first(checkpoints, photos, tmp_path):
    model = load_model(checkpoints["detector"])
    for source, left_out in ((photos, 2), (photos / "a.jpg", 0)):
        prediction = Prediction(model, find_photographs(str(source)), tmp_path / "run", {})
        assert len(prediction.run().left_out) == left_out
    assert not (tmp_path / "run" / "predictions.rejected.jsonl").exists()
    assert not list((tmp_path / "run").glob("*.partial"))
    images, _ = contents(tmp_path / "run")
    assert [one["file_name"] for one in images["images"]] == ["a.jpg"]


def test_only_boxes_above_the_threshold_are_drawn(photos, tmp_path):
    model = tiny("detector")
    boxes = torch.tensor([[[30.0, 10.0, 60.0, 40.0], [10.0, 5.0, 90.0, 60.0]]])
    scores, labels = torch.tensor([[0.9, 0.2]]), torch.tensor([[1, 0]])
    model.answer = lambda _: {"boxes": boxes, "scores": scores, "labels": labels}
    model.threshold = 0.5
    source = find_photographs(str(photos / "sub" / "grey.PNG"))
    summary = Prediction(model, source, tmp_path, {}).run()
    assert (summary.drawn, summary.results, model.threshold) == (1, 2, 0.5)
    picture = cv2.imread(str(tmp_path / "predictions" / "grey.PNG"))[..., ::-1].astype(int)
    # The photograph is grey: coloured pixels are those of the box, blue for the second category.
    coloured = np.argwhere(picture.max(axis=2) - picture.min(axis=2) > 100)
    # 50x70 pixels fill 64x90 of the input, 3 to 93 along x; the drawing has 480x343 pixels.
    scale = 480 / (64 / 50 * 70)
    assert coloured[:, 1].min() == pytest.approx((30 - 3) * scale, abs=10)
    assert coloured[:, 1].max() == pytest.approx((60 - 3) * scale, abs=10)
    assert coloured[:, 0].max() == pytest.approx(40 * 343 / 64, abs=10)


@pytest.mark.parametrize("task", ["landmarker", "teacher"])
def test_the_other_models_draw_and_write_their_answers(task, photos, tmp_path):
    model = tiny(task)
    found = find_photographs([str(photos / "a.jpg"), str(photos / "sub" / "turned.jpg")])
    Prediction(model, found, tmp_path, {}, batch_size=1).run()
    images, results = contents(tmp_path)
    assert [one["file_name"] for one in images["images"]] == ["a.jpg", "sub/turned.jpg"]
    (expected,) = model.predict(photos / "sub" / "turned.jpg")
    picture = cv2.imread(str(tmp_path / "predictions" / "sub" / "turned.jpg"))
    if task == "teacher":
        assert results[1]["psnr"] == pytest.approx(float(expected.psnr), abs=0.001)
        assert picture.shape == (64, 192, 3)
        return
    points = np.array(results[1]["keypoints"]).reshape(-1, 3)
    np.testing.assert_allclose(points[:, :2], expected.points, atol=0.01)
    assert images["categories"][0]["keypoints"] == list(NAMES)
    assert picture.shape == (480, 360, 3)
    assert len(COCO(str(tmp_path / "images.json")).loadRes(str(tmp_path / "predictions.json")).anns)


def test_ctrl_c_keeps_the_results_so_far(photos, tmp_path):
    model = tiny("teacher")
    calls = iter(range(10))

    def stop_at_the_second(prepared, batch_size):
        if next(calls):
            raise KeyboardInterrupt
        return type(model).predict_prepared(model, prepared, batch_size)

    model.predict_prepared = stop_at_the_second
    found = find_photographs(str(photos / "sub"))
    summary = Prediction(model, found, tmp_path, {}, batch_size=1).run()
    assert summary.interrupted
    images, results = contents(tmp_path)
    assert len(images["images"]) == len(results) == summary.predicted == 1


def test_another_error_leaves_no_half_files(photos, tmp_path):
    model = tiny("teacher")
    model.predict_prepared = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Prediction(model, find_photographs(str(photos)), tmp_path / "run", {}).run()
    assert list((tmp_path / "run").iterdir()) == []


def test_sources_are_files_folders_patterns_and_lists(photos):
    names = {
        "photos": ["a.jpg", "cut.jpg", "empty.png", *("sub/" + n for n in SUB)],
        "photos/sub": SUB,
        "photos/a.jpg": ["a.jpg"],
        "photos/notes.txt": ["notes.txt"],
        "photos/*.jpg": ["a.jpg", "cut.jpg"],
        "photos/**/t*.jpg": ["sub/turned.jpg"],
    }
    for source, expected in names.items():
        found = find_photographs(str(photos.parent / source))
        assert [found.name(file) for file in found.files] == expected, source
    found = find_photographs([str(photos / "a.jpg"), str(photos / "sub"), str(photos / "a.jpg")])
    assert [found.name(file) for file in found.files] == ["a.jpg", *("sub/" + n for n in SUB)]


SUB = ["grey.PNG", "large.tif", "turned.jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "source is required"),
        ("", "source is required"),
        ([], "source is required"),
        ("missing", "source=missing: there is no such file or folder"),
        ("*.nothing", "there is no photograph"),
    ],
)
def test_a_source_without_photographs_is_refused(source, message):
    with pytest.raises(SettingsError, match=message.replace("*", r"\*")):
        find_photographs(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["source=photos"], "ckpt_path is required for action=predict"),
        (["ckpt_path=CKPT"], "source is required"),
        (["ckpt_path=CKPT", "export.format=onx"], "export.format=onx: must be torch or onnx"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(
    arguments, message, checkpoints, photos, monkeypatch, capsys
):
    given = [one.replace("CKPT", str(checkpoints["detector"])) for one in arguments]
    assert run_script(monkeypatch, photos.parent, "action=predict", *given) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing.ckpt", "ckpt_path=nothing.ckpt: there is no such checkpoint"),
        ("photos/a.jpg", "is not a checkpoint of Lightning, or it is damaged"),
        ("photos", "is a folder"),
        ("other.ckpt", "of another project"),
        ("weights.pt", "is not a checkpoint of Lightning"),
        ("cut.ckpt", "is not a checkpoint of Lightning, or it is damaged"),
    ],
)
def test_files_that_are_no_checkpoint_of_ours_are_refused(
    path, message, checkpoints, photos, monkeypatch
):
    monkeypatch.chdir(photos.parent)
    torch.save({"weight": torch.zeros(2)}, "weights.pt")
    torch.save({"state_dict": {}, "hyper_parameters": {}}, "other.ckpt")
    (photos.parent / "cut.ckpt").write_bytes(checkpoints["teacher"].read_bytes()[:2000])
    with pytest.raises(SettingsError, match=message):
        load_model(path)


def test_a_checkpoint_that_does_not_fit_its_class_is_refused(checkpoints, tmp_path):
    content = torch.load(checkpoints["detector"], weights_only=True)
    content["hyper_parameters"]["width"] = 6
    torch.save(content, tmp_path / "wide.ckpt")
    with pytest.raises(SettingsError, match="does not fit Detector"):
        load_model(tmp_path / "wide.ckpt")
    content["npz_vision_data"]["model"] = "Segmenter"
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(SettingsError, match="of the model Segmenter; known are Detector"):
        load_model(tmp_path / "other.ckpt")


# Export


@pytest.fixture(scope="module")
def exported(checkpoints, tmp_path_factory):
    """Returns the folder with the file of an exported detector, and the comparisons."""
    directory = tmp_path_factory.mktemp("exported")
    model = load_model(checkpoints["detector"])
    _, comparisons = export(model, directory, "torch", torch.rand(5, 3, 64, 96))
    return directory, comparisons


def test_an_exported_file_gives_the_same_answers_for_any_number_of_images(exported, checkpoints):
    directory, comparisons = exported
    assert [one.inputs for one in comparisons] == ["4 random images", "5 photographs"]
    assert all(set(one.differences) == {"boxes", "scores", "labels"} for one in comparisons)
    program = torch.export.load(directory / "detector.pt2").module()
    model = load_model(checkpoints["detector"])
    for count in (1, 7):
        images = torch.rand(count, 3, 64, 96)
        with torch.no_grad():
            expected = model.answer(images)
            for name, value in program(images).items():
                torch.testing.assert_close(value, expected[name])


def test_the_command_compares_on_photographs_of_the_user(
    checkpoints, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("training.export._write_torch", lambda model, path: path.touch())
    model = load_model(checkpoints["landmarker"])
    answers = lambda images: {"points": model.answer(images)["points"].numpy()}  # noqa: E731
    monkeypatch.setattr("training.export._load_torch", lambda path: answers)
    arguments = [f"ckpt_path={checkpoints['landmarker']}", f"source={photos / 'a.jpg'}"]
    assert run_script(monkeypatch, tmp_path, "action=export", *arguments) == 0
    printed = capsys.readouterr().out
    assert "on 4 random images: points 0" in printed
    assert "on 1 photographs: points 0" in printed
    assert "landmarker: exported to run/landmarker.pt2" in printed


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning")
def test_the_code_of_the_page_runs(
    exported, processed_dir, shared_raw_dir, tmp_path, monkeypatch, capsys
):
    """Its paths are those of a trained run."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "outputs" / "run"
    (run / "checkpoints").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "preprocessed").symlink_to(processed_dir)
    (tmp_path / "photos").mkdir()
    for number in (1, 2):
        photograph = shared_raw_dir / "images" / f"{number:04}.jpg"
        (tmp_path / "photos" / f"{number:06}.jpg").symlink_to(photograph)
    (run / "detector.pt2").symlink_to(exported[0] / "detector.pt2")
    model = tiny("detector")
    model.facts, model.threshold = DataFacts(("face",), (), 2, 0, (64, 96)), 0.05
    save(model, run / "checkpoints" / "best.ckpt")
    Prediction(model, find_photographs("photos"), run, {}).run()
    namespace = {}
    for block in code_blocks(PAGE):
        if block.language == "python":
            run_python(block, namespace, PAGE)
    assert capsys.readouterr().out.startswith("photos/000001.jpg [('")
    assert len(namespace["found"].anns) > 0
    assert namespace["boxes"].shape == namespace["results"][0].boxes.shape
    assert set(namespace["answers"]) == set(Detector.outputs)
    assert namespace["facts"]["category_names"] == ["cat", "dog"]


def test_the_commands_of_the_page_use_settings_that_exist():
    text = "".join(block.code for block in code_blocks(PAGE) if block.language == "bash")
    settings = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())
    commands = [line for line in text.splitlines() if line.startswith("python train_example.py ")]
    assert len(commands) == 4
    for command in commands:
        for argument in command.split()[2:]:
            key = argument.partition("=")[0]
            assert key.partition(".")[0] in settings, key


@pytest.mark.long
@pytest.mark.parametrize("task", MODELS)
def test_an_onnx_file_gives_the_same_answers(task, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = tiny(task)
    photographs = torch.rand(7, 3, 64, 96)
    path, comparisons = export(model, tmp_path, "onnx", photographs)
    assert [one.inputs for one in comparisons] == ["4 random images", "7 photographs"]
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_outputs()] == list(model.outputs)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["category_names"]) == ["cat", "dog"]


def test_an_export_that_differs_is_refused_and_removed(tmp_path, monkeypatch):
    model = tiny("teacher")

    def load_shifted(path):
        return lambda images: {
            name: value.numpy() + 0.01 for name, value in model.answer(images).items()
        }

    monkeypatch.setattr("training.export._write_torch", lambda model, path: path.touch())
    monkeypatch.setattr("training.export._load_torch", load_shifted)
    with pytest.raises(RuntimeError, match=r"differs by 0\.01"):
        export(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_detections_in_another_order_are_no_difference(tmp_path, monkeypatch):
    model = tiny("detector")

    def load_reversed(path):
        return lambda images: {
            name: value.flip(1).numpy() for name, value in model.answer(images).items()
        }

    monkeypatch.setattr("training.export._write_torch", lambda model, path: path.touch())
    monkeypatch.setattr("training.export._load_torch", load_reversed)
    _, (comparison,) = export(model, tmp_path)
    assert max(comparison.differences.values()) == 0


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("training.export._NEEDED_FOR_ONNX", ("no_such_package",))
    with pytest.raises(SettingsError, match=r'no_such_package: run pip install .*"\.\[onnx\]"'):
        export(tiny("teacher"), tmp_path, "onnx")
