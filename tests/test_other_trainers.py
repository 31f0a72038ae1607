"""Runs the examples of docs/other_trainers.md, with stand-ins for the libraries they import.

Each stand-in raises an error for arguments that its library would refuse.
"""

import builtins
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.markdown import code_blocks, run_python, section

PAGE = Path(__file__).parents[1] / "docs" / "other_trainers.md"

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning"),
    # Raised by Lightning's own code.
    pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning"),
    # The examples are about training; a model of one's own would have a `validation_step`.
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no:UserWarning"),
]


class StandIn(nn.Module):
    """A model with one weight that counts the batches it has checked."""

    def __init__(self, **settings):
        super().__init__()
        self.settings = settings
        self.weight = nn.Parameter(torch.ones(()))
        self.batches = 0


class FakeFasterRCNN(StandIn):
    def forward(self, images, targets):
        assert isinstance(images, list)
        assert len(images) == len(targets)
        for image, target in zip(images, targets, strict=True):
            _, height, width = image.shape
            boxes, labels = target["boxes"], target["labels"]
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes >= 0).all()
            assert (boxes <= torch.tensor([width, height] * 2)).all()
            assert labels.dtype == torch.int64
            assert labels.shape == boxes.shape[:1]
            assert ((labels > 0) & (labels < self.settings["num_classes"])).all()
        self.batches += 1
        return {"loss_box_reg": self.weight, "loss_classifier": self.weight}


def assert_targets_of_detr(targets, labels_name):
    for target in targets:
        assert ((target["boxes"] >= 0) & (target["boxes"] <= 1)).all()
        assert target[labels_name].dtype == torch.int64
        assert target[labels_name].shape == target["boxes"].shape[:1]


class FakeDetr(StandIn):
    def __init__(self, config):
        super().__init__()
        assert config.id2label[0]

    def forward(self, pixel_values, pixel_mask=None, labels=None):
        assert pixel_mask.shape == pixel_values.shape[:1] + pixel_values.shape[2:]
        assert len(labels) == len(pixel_values)
        assert_targets_of_detr(labels, "class_labels")
        self.batches += 1
        return SimpleNamespace(loss=self.weight)


class FakeRFDetr(StandIn):
    def forward(self, samples):
        assert samples.mask.dtype == torch.bool
        assert samples.mask.shape == samples.tensors.shape[:1] + samples.tensors.shape[2:]
        self.batches += 1
        return self.weight


class FakeCriterion:
    def __init__(self):
        self.weight_dict = {"loss_ce": 1, "loss_bbox": 5}

    def __call__(self, outputs, targets):
        assert_targets_of_detr(targets, "labels")
        return {"loss_ce": outputs, "loss_bbox": outputs, "class_error": outputs}


class FakeYolo(StandIn):
    def __init__(self, cfg, nc):
        super().__init__(nc=nc)

    def forward(self, batch):
        assert self.args.box  # `v8DetectionLoss` reads the weights of the losses from here
        columns = (batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"])
        table = torch.cat(columns, 1)
        assert table.shape[1] == 6
        assert ((table[:, 0] >= 0) & (table[:, 0] < len(batch["img"]))).all()
        assert ((table[:, 1] >= 0) & (table[:, 1] < self.settings["nc"])).all()
        assert batch["img"].max() <= 1
        self.batches += 1
        return self.weight.repeat(3), self.weight.detach().repeat(3)


STAND_INS = {
    "torchvision.models.detection": {
        "fasterrcnn_resnet50_fpn": lambda num_classes: FakeFasterRCNN(num_classes=num_classes)
    },
    "transformers": {"DetrConfig": SimpleNamespace, "DetrForObjectDetection": FakeDetr},
    "rfdetr.util.misc": {"NestedTensor": lambda t, m: SimpleNamespace(tensors=t, mask=m)},
    "ultralytics.cfg": {"get_cfg": lambda: SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)},
    "ultralytics.nn.tasks": {"DetectionModel": FakeYolo},
}


def import_with_stand_ins(name, *arguments):
    """Imports as the examples do; for all other code, the libraries stay absent."""
    if name in STAND_INS:
        return SimpleNamespace(**STAND_INS[name])
    return builtins.__import__(name, *arguments)


def test_each_example_trains_a_model_that_checks_its_targets(
    shared_raw_dir, tmp_path, monkeypatch, capsys
):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "raw").symlink_to(shared_raw_dir)
    monkeypatch.chdir(tmp_path)
    beginning, torchvision, detr, rfdetr, yolo, photograph = code_blocks(PAGE)
    namespace = {"__builtins__": {**vars(builtins), "__import__": import_with_stand_ins}}
    run_python(beginning, namespace, PAGE)
    for block in (torchvision, detr, rfdetr, yolo):
        namespace["trainer"] = namespace["L"].Trainer(
            max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        run_python(block, namespace, PAGE)
        if block is rfdetr:
            namespace["model"] = FakeRFDetr()
            module = namespace["RFDetr"](namespace["model"], FakeCriterion())
            namespace["trainer"].fit(module, datamodule=namespace["datamodule"])
        assert namespace["model"].batches == 5, block.code  # all 19 training images
        lines = [line for line in block.code.splitlines() if line]
        assert len(lines) <= 12
    namespace["datamodule"].setup("fit")
    capsys.readouterr()
    run_python(photograph, namespace, PAGE)
    assert capsys.readouterr().out.startswith("[[")


def test_the_page_states_the_contract_of_each_library():
    for heading in ("torchvision", "Hugging Face DETR", "Ultralytics"):
        assert "Contract: " in section(PAGE, f"## {heading}")
