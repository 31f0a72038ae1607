import json
import math
import os
from datetime import timedelta
from itertools import pairwise

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Dataset

from models import Detector, Landmarker, Teacher
from models.detector import STRIDE, focal_loss, giou_loss
from models.metrics import Detections, Truth
from models.schedule import Schedule
from processing.imaging.drawing import draw_box, draw_lines, draw_points, enlarge, sheet, stack

pytestmark = [
    # One ready-made batch needs no worker processes.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    # Raised by Lightning's own code.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
]

RED = (255, 0, 0)


def images(count, height=64, width=96):
    return torch.rand(count, 3, height, width).to(memory_format=torch.channels_last)


def detector_batch():
    torch.manual_seed(0)
    return {
        "image": images(3),
        "bboxes": [
            torch.tensor([[8.0, 8, 40, 40], [50, 10, 90, 60]]),
            torch.zeros(0, 4),
            torch.tensor([[60.0, 16, 84, 60]]),
        ],
        "labels": [torch.tensor([1, 0], dtype=torch.int32), torch.zeros(0), torch.tensor([1])],
        "image_path": ["a.jpg", "b.jpg", "c.jpg"],
    }


def landmarker_batch():
    torch.manual_seed(0)
    points = torch.rand(3, 4, 3) * torch.tensor([96.0, 64, 0]) + torch.tensor([0, 0, 2.0])
    points[1, 2, 2] = 0
    return {"image": images(3), "keypoints": points, "image_path": ["a.jpg", "b.jpg", "c.jpg"]}


def teacher_batch():
    torch.manual_seed(0)
    return {"image": images(3, 32, 48), "image_path": ["a.jpg", "b.jpg", "c.jpg"]}


class OneBatch(Dataset):
    """A dataset of one ready-made batch."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {name: field[index] for name, field in self.batch.items()}

    def __getitems__(self, indices):
        return self.batch


class OneBatchModule(L.LightningDataModule):
    """Serves a ready-made batch, and knows the numbers that models ask for."""

    num_classes = 2
    num_keypoints = 4

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def train_dataloader(self):
        return DataLoader(OneBatch(self.batch), collate_fn=lambda batch: batch)

    val_dataloader = train_dataloader


def trainer(tmp_path, **options):
    return L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )


CASES = {
    "detector": (lambda: Detector(8, 1e-2), detector_batch),
    "landmarker": (lambda: Landmarker(8, 1e-2), landmarker_batch),
    "teacher": (lambda: Teacher(8, 1e-2, code_channels=16), teacher_batch),
}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    model, batch = CASES[request.param]
    return model(), batch()


def test_each_model_learns_one_batch_and_draws_it(case, tmp_path):
    model, batch = case
    datamodule = OneBatchModule(batch)
    before = trainer(tmp_path).validate(model, datamodule=datamodule, verbose=False)
    epochs = 80 if isinstance(model, Teacher) else 40
    # Validated at the end only: each validation takes as long as the step before it.
    fitted = trainer(tmp_path, max_epochs=epochs, check_val_every_n_epoch=epochs)
    fitted.fit(model, datamodule=datamodule)
    after = trainer(tmp_path).validate(model, datamodule=datamodule, verbose=False)
    gain = after[0][model.metric] - before[0][model.metric]
    assert (
        gain * (1 if model.mode == "max" else -1)
        > {"AP@0.5": 0.6, "NME": 0.1, "PSNR": 1}[model.metric]
    )
    assert len(model.records) == 3
    assert next(iter(model.last_scores)) == model.metric
    page = model.picture()
    assert page.dtype == np.uint8
    assert page.shape[0] > 3 * 320, "one row each for the best, the worst and a random sample"


def test_a_checkpoint_restores_the_numbers_of_categories_and_landmarks(case, tmp_path):
    model, batch = case
    datamodule = OneBatchModule(batch)
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(model, datamodule=datamodule)
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    again = type(model).load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu")
    for found, expected in zip(*(output(m.eval(), batch) for m in (again, model)), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_finished_run_can_continue_for_more_epochs(case, tmp_path):
    model, batch = case
    first = trainer(tmp_path, max_epochs=2)
    first.fit(model, datamodule=OneBatchModule(batch))
    first.save_checkpoint(tmp_path / "last.ckpt")
    again = type(model).load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu")
    longer = trainer(tmp_path, max_epochs=4)
    longer.fit(again, datamodule=OneBatchModule(batch), ckpt_path=tmp_path / "last.ckpt")
    assert longer.global_step == 4


def teacher_and_images(rank=None):
    """A teacher, and the images of both ranks or of one: three of noise, and a black one.

    The reconstruction of the black one is of another quality, and the ranks' shares are unequal:
    so the mean over the samples is neither rank's mean, nor the mean of the two.
    """
    torch.manual_seed(0)
    model = Teacher(8)
    noise, black = images(3), torch.zeros(1, 3, 64, 96)
    if rank is None:
        return model, {"image": torch.cat([noise, black])}
    return model, {"image": black if rank else noise}


def validate_a_rank(ranks, directory):
    """Validates in each of several ranks; called by a `ForkServer`."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    model, batch = teacher_and_images(rank)
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60))
    run = trainer(directory, strategy=strategy, devices=ranks, use_distributed_sampler=False)
    (logged,) = run.validate(model, datamodule=OneBatchModule(batch), verbose=False)
    shown = sorted(key for keys in model.gallery.groups().values() for key in keys)
    assert len(shown) == len(model.gallery.chosen())
    outcome = {"score": logged["PSNR"], "loss": logged["val_loss"], "shown": shown}
    outcome["records"] = len(model.records)
    with open(f"{directory}/rank_{rank}.json", "w") as file:
        json.dump(outcome, file)


def test_two_ranks_report_the_score_of_all_samples(programs, tmp_path):
    model, batch = teacher_and_images()
    (alone,) = trainer(tmp_path).validate(model, datamodule=OneBatchModule(batch), verbose=False)
    log = tmp_path / "log"
    status = programs.run_ranks(validate_a_rank, log, ranks=2, directory=tmp_path)
    assert status == 0, log.read_text()[-3000:]
    for rank in range(2):
        outcome = json.loads((tmp_path / f"rank_{rank}.json").read_text())
        assert outcome == {
            "score": pytest.approx(alone["PSNR"], rel=1e-5),
            "loss": pytest.approx(alone["val_loss"], rel=1e-5),
            "shown": [" 0 0", " 0 1", " 0 2", " 1 0"],  # rank and number; images of both ranks
            "records": 4,
        }


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_zero():
    rates = [Schedule.planned(1000).factor(step) for step in range(1001)]
    top = rates.index(max(rates))
    assert (rates[0], top) == (pytest.approx(0.04), 100)
    short = [Schedule.planned(100).factor(step) for step in range(101)]
    assert short.index(max(short)) == 30, "a short run does not spend most steps on the rise"
    assert rates[top] == pytest.approx(1)
    assert rates[-1] < 1e-5
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a > b for a, b in pairwise(rates[top:]))


def test_a_continued_run_with_the_same_end_keeps_its_learning_rates():
    schedule = Schedule.planned(100)
    assert schedule.continued(40, 100) is schedule


@pytest.mark.parametrize(("step", "steps"), [(35, 60), (50, 200), (90, 95), (90, 1000)])
def test_another_end_lets_the_learning_rate_fall_from_that_of_the_checkpoint(step, steps):
    schedule = Schedule.planned(100)
    continued = schedule.continued(step, steps)
    assert continued.factor(step) == pytest.approx(max(schedule.factor(step), 0.1))
    rates = [continued.factor(later) for later in range(step, steps + 1)]
    assert all(a > b for a, b in pairwise(rates))
    assert rates[-1] < 1e-5


def test_a_finished_run_that_is_extended_starts_at_a_tenth_of_the_peak():
    continued = Schedule.planned(100).continued(100, 300)
    assert continued.factor(100) == pytest.approx(0.1)
    assert continued.continued(300, 400).factor(300) == pytest.approx(0.1)


def test_a_run_that_is_extended_while_its_rate_rises_completes_the_rise():
    schedule = Schedule.planned(100)
    continued = schedule.continued(10, 500)
    assert [continued.factor(step) for step in range(31)] == [
        schedule.factor(step) for step in range(31)
    ]
    assert continued.factor(31) < 1
    assert continued.factor(500) < 1e-5


def test_a_run_without_a_planned_end_keeps_the_peak():
    endless = Schedule.planned(math.inf)
    assert endless.factor(10**6) == 1
    assert endless.continued(1000, 2000).factor(1500) == pytest.approx(0.5, abs=0.01)


def test_data_of_another_task_is_refused_with_a_remedy(tmp_path):
    datamodule = OneBatchModule(teacher_batch())
    datamodule.task = "teacher"
    with pytest.raises(ValueError, match=r"Detector learns from detector.*datamodule=detector"):
        trainer(tmp_path, max_epochs=1).fit(Detector(8), datamodule=datamodule)


def test_more_categories_than_the_model_has_are_refused(tmp_path):
    datamodule = OneBatchModule(detector_batch())
    with pytest.raises(ValueError, match="has 1 categories, the data 2"):
        trainer(tmp_path, max_epochs=1).fit(Detector(8, num_classes=1), datamodule=datamodule)


def output(model, batch):
    out = model(batch["image"])
    return out if isinstance(out, tuple) else (out,)


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (100, 36)])
def test_images_of_any_size_are_accepted(size):
    x = images(2, *size)
    cells = tuple(-(-side // STRIDE) for side in size)
    logits, boxes = Detector(8, num_classes=5)(x)
    assert logits.shape == (2, 5, *cells)
    assert boxes.shape == (2, 4, *cells)
    points = Landmarker(8, num_keypoints=7)(x)
    assert points.shape == (2, 7, 2)
    assert ((points >= 0) & (points <= torch.tensor(size[::-1]) + STRIDE)).all()
    assert Teacher(8)(x).shape == x.shape


def test_a_model_without_data_names_the_missing_argument():
    with pytest.raises(RuntimeError, match="num_classes is not known"):
        Detector(8)(images(1))
    with pytest.raises(RuntimeError, match="num_keypoints is not known"):
        Landmarker(8)(images(1))


def test_the_detector_decodes_the_peaks_of_its_heat_maps():
    model = Detector(8, num_classes=2)
    logits = torch.full((1, 2, 16, 24), -9.0)
    logits[0, 1, 3, 5], logits[0, 1, 3, 6], logits[0, 0, 8, 20] = 3.0, 2.0, 1.0
    boxes = torch.arange(4 * 16 * 24, dtype=torch.float32).view(1, 4, 16, 24)
    model.forward = lambda _: (logits, boxes)
    batch = {"image": images(1), "bboxes": [torch.zeros(0, 4)], "labels": [torch.zeros(0)]}
    ((found, truth),) = model.evaluate(batch)
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.scores, torch.tensor([3.0, 1.0]).sigmoid())
    np.testing.assert_allclose(found.boxes[0], boxes[0, :, 3, 5])
    np.testing.assert_allclose(found.boxes[1], boxes[0, :, 8, 20])
    assert truth.boxes.shape == (0, 4)


def test_the_gaussian_of_a_box_is_one_only_in_the_cell_of_its_centre():
    boxes = torch.tensor([[8.0, 16, 24, 40], [90, 60, 99, 70], [3, 3, 4, 4]])
    gaussians = Detector(8, num_classes=1).gaussians(boxes, (16, 24))
    peaks = [(gaussian == 1).nonzero().tolist() for gaussian in gaussians]
    assert peaks == [[[7, 4]], [[15, 23]], [[0, 0]]]
    assert gaussians.max() == 1


def test_focal_loss_is_that_of_the_formula_of_centernet():
    logits = torch.randn(3, 2, 5, 4, dtype=torch.float64).requires_grad_()
    heat = torch.rand(3, 2, 5, 4, dtype=torch.float64)
    heat[0, 1, 2, 3] = heat[0, 0, 0, 0] = heat[2, 1, 4, 1] = 1.0
    p = logits.sigmoid()
    terms = torch.where(heat == 1, (1 - p) ** 2 * p.log(), (1 - heat) ** 4 * p**2 * (1 - p).log())
    expected = -terms.sum(dim=(1, 2, 3))
    loss = focal_loss(logits, heat)
    torch.testing.assert_close(loss, expected)
    (slope,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), logits)[0])


def test_focal_loss_is_smallest_for_the_target_itself():
    heat = torch.tensor([[0.0, 0.5, 1.0, 0.5, 0.0]])
    right, flat = focal_loss(heat * 16 - 8, heat), focal_loss(torch.zeros_like(heat), heat)
    wrong = focal_loss(8 - heat * 16, heat)
    assert 0 <= right < 0.1 < flat < wrong
    assert torch.isfinite(focal_loss(torch.tensor([[-99.0, 99.0]]), torch.tensor([[1.0, 0.0]])))


def test_giou_loss_of_equal_touching_and_distant_boxes():
    box = torch.tensor([[0.0, 0, 10, 10]])
    others = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [30, 0, 40, 10]])
    torch.testing.assert_close(giou_loss(others, box.expand(3, -1)), torch.tensor([0.0, 1.0, 1.5]))


def test_the_detector_loss_of_images_without_boxes_is_finite():
    batch = {"image": images(2), "bboxes": [torch.zeros(0, 4)] * 2, "image_path": ["a", "b"]}
    loss = Detector(8, num_classes=1).loss(batch)
    loss.backward()
    assert torch.isfinite(loss)


def test_unlabelled_landmarks_do_not_change_the_loss():
    batch, model = landmarker_batch(), Landmarker(8, num_keypoints=4)
    before = model.loss(batch)
    batch["keypoints"][1, 2, :2] = 1000
    torch.testing.assert_close(model.loss(batch), before)
    batch["keypoints"][..., 2] = 0
    assert model.loss(batch) == 0


def test_samples_with_different_numbers_of_landmarks_are_refused():
    batch = {
        "image": images(2),
        "keypoints": [torch.zeros(5, 3), torch.zeros(68, 3)],
        "image_path": ["a.jpg", "b.jpg"],
    }
    with pytest.raises(ValueError, match=r"with 5, 68 in the batch of a\.jpg"):
        Landmarker(8, num_keypoints=5).loss(batch)


def test_boxes_are_drawn_at_their_edges():
    image = np.zeros((60, 80, 3), np.uint8)
    draw_box(image, np.array([10.0, 20, 50, 40]), RED)
    rows, columns = image[..., 0].nonzero()
    assert abs(rows.min() - 19) <= 2
    assert abs(rows.max() - 40) <= 2
    assert abs(columns.min() - 9) <= 2
    assert abs(columns.max() - 50) <= 2
    assert image[30, 30].tolist() == [0, 0, 0]
    assert image[..., 1:].max() == 0


def test_no_rim_of_a_point_covers_the_point_beside_it():
    image = np.zeros((20, 60, 3), np.uint8)
    draw_points(image, np.stack([np.arange(10, 50), np.full(40, 10)], axis=1), (0, 255, 0))
    assert (image[10, 12:48] == (0, 255, 0)).all()


def test_points_are_centred_on_their_position_and_lines_join_them():
    image = np.full((60, 80, 3), 255, np.uint8)
    draw_points(image, np.array([[30.5, 20.5]]), (0, 0, 255))
    rows, columns = (image[..., 0] < 200).nonzero()
    assert (rows.mean(), columns.mean()) == pytest.approx((20, 30), abs=0.1)
    image[:] = 0
    draw_lines(image, np.array([[10.5, 20.5]]), np.array([[40.5, 20.5]]), RED)
    assert image[20, 11:40, 0].min() > 200


@pytest.mark.parametrize("value", [1e9, -1e9, np.nan, np.inf])
def test_coordinates_far_outside_and_nan_are_drawn_without_error(value):
    image = np.zeros((20, 20, 3), np.uint8)
    draw_box(image, np.full(4, value), RED, "0.9")
    draw_points(image, np.full((1, 2), value), RED)


def test_enlarging_keeps_the_aspect_and_returns_the_factor():
    image, scale = enlarge(np.zeros((40, 20, 3), np.uint8), 100)
    assert image.shape == (100, 50, 3)
    assert scale == 2.5


def test_a_sheet_holds_every_tile_below_the_caption():
    tiles = [np.full((20, 30, 3), 60 + 20 * i, np.uint8) for i in range(6)]
    page = sheet(tiles, 4, [("score", RED)])
    assert page.shape[1] > 4 * 30
    assert all((page == 60 + 20 * i).all(axis=2).sum() >= 600 for i in range(6))
    distance = np.abs(page[:34].astype(int) - RED).sum(axis=2)  # OpenCV 4 draws paler strokes
    assert distance.min() < 200 < np.abs(np.array([24] * 3) - RED).sum()
    assert sheet(tiles[:1], 4, [("long " * 30, RED)]).shape[1] > 900, "the caption is cut off"
    both = stack([page, sheet([], 4, [("below", RED)])])
    assert both.shape[1] == page.shape[1]
    assert both.shape[0] > page.shape[0]


def test_the_detector_draws_truth_and_predictions_that_reach_the_threshold():
    truth = Truth(np.array([[5.0, 5, 20, 20]]), np.array([0]))
    unsure = Detections(np.array([[40.0, 5, 60, 20]]), np.array([0.2]), np.array([0]))
    sure = unsure._replace(scores=np.array([0.8]))
    image, model = np.zeros((32, 64, 3), np.uint8), Detector(8, num_classes=1)
    model.threshold = 0.5
    without, shown = model.draw(image, (unsure, truth)), model.draw(image, (sure, truth))
    assert without.any()
    assert not without[:, 320:].any()
    assert shown[:, 320:].any()


def test_the_detector_chooses_its_threshold_from_the_scores_and_names_categories():
    model = Detector(8, num_classes=2)
    truth = Truth(np.array([[5.0, 5, 20, 20]]), np.array([1]))
    boxes = np.array([[5.0, 5, 20, 20], [40, 5, 60, 20]])
    found = Detections(boxes, np.array([0.7, 0.1]), np.array([1, 1]))
    scores = model.scores([(found, truth)])
    assert scores == {"AP@0.5": 1, "AP@0.5:0.95": 1}
    assert model.threshold == 0.7
    assert "0.70" in model.legend()[1][0]


def with_copy(batch):
    """The batch with its first sample repeated at the end, as a rank with too few samples does."""
    copied = {"valid": torch.tensor([True, True, True, False]), "index": torch.tensor([0, 1, 2, 0])}
    for name, field in batch.items():
        if isinstance(field, torch.Tensor):
            copied[name] = torch.cat([field, field[:1]])
        else:
            copied[name] = [*field, field[0]]
    return copied


def test_a_repeated_sample_changes_neither_the_loss_nor_the_records(case, tmp_path):
    model, batch = case
    trainer(tmp_path, max_epochs=1).fit(model, datamodule=OneBatchModule(batch))
    model.eval()
    batch["index"] = torch.arange(3)
    repeated = with_copy(batch)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(repeated), model.loss(batch))
        # Only the weight of the copy is 0: no other sample can take its place.
        repeated["valid"] = torch.tensor([False, True, True, True])
        torch.testing.assert_close(model.loss(repeated), model.loss(batch))
        repeated["valid"][:] = False
        assert model.loss(repeated) == 0
    outcomes = []
    for one in (batch, with_copy(batch)):
        run = trainer(tmp_path)
        outcomes += run.validate(model, datamodule=OneBatchModule(one), verbose=False)
        assert len(model.records) == model.gallery.seen == 3
    assert outcomes[0] == pytest.approx(outcomes[1])
    assert {"val_loss", model.metric} <= set(outcomes[0])
