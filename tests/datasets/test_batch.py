"""Batch is a dict to everybody who looks, in every way of looking."""

import copy
import pickle
from collections import ChainMap
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from processing.datasets.batch import Batch, PackedTensors, PackedTexts, TensorList

LENGTHS = [2, 0, 3]
NAMES = ["bboxes", "image_path", "index"]


def packed():
    return Batch(
        {
            "bboxes": PackedTensors(torch.arange(20.0).reshape(5, 4), np.array(LENGTHS)),
            "image_path": PackedTexts(np.array(["a", "b", "c"])),
            "index": torch.arange(3),
        }
    )


def made(batch):
    """Names of the fields whose lists have been made."""
    return {k for k, v in dict.items(batch) if not isinstance(v, PackedTensors | PackedTexts)}


def is_right(fields):
    assert list(fields) == NAMES
    assert type(fields["bboxes"]) is TensorList
    assert [len(boxes) for boxes in fields["bboxes"]] == LENGTHS
    assert fields["bboxes"][2].tolist() == torch.arange(8.0, 20).reshape(3, 4).tolist()
    assert fields["image_path"] == ["a", "b", "c"]
    assert fields["index"].tolist() == [0, 1, 2]
    return True


def as_arguments(**fields):
    return fields


LOOKS = {
    "by name": lambda b: {name: b[name] for name in b},
    "get": lambda b: {name: b.get(name) for name in b.keys()},  # noqa: SIM118 - of `keys`
    "items": lambda b: dict(list(b.items())),
    "values": lambda b: dict(zip(NAMES, b.values(), strict=True)),
    "pop": lambda b: {name: b.pop(name) for name in list(b)},
    "popitem": lambda b: dict(reversed([b.popitem() for _ in NAMES])),
    "setdefault": lambda b: {name: b.setdefault(name) for name in b},
    "dict()": dict,
    "{**b}": lambda b: {**b},
    "f(**b)": lambda b: as_arguments(**b),
    "update": lambda b: [d := {}, d.update(b)][0],
    "b | {}": lambda b: b | {},
    "{} | b": lambda b: {} | b,
    "|=": lambda b: copy.copy({}).__ior__(b),
    "copy": lambda b: b.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda b: pickle.loads(pickle.dumps(b)),
    "to another process": lambda b: pickle.loads(ForkingPickler.dumps(b)),
    "to a device": lambda b: b.to("cpu"),
    "match": lambda b: (lambda **f: f)(**{k: v for k, v in b.items()}),  # noqa: C416 - of `items`
    "ChainMap": lambda b: dict(ChainMap(b)),
    "fromkeys order": lambda b: {k: b[k] for k in list(reversed(list(reversed(b))))},
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_every_look_shows_lists(look):
    assert is_right(look(packed()))


def test_a_list_is_made_once_when_it_is_looked_at():
    batch = packed()
    assert made(batch) == {"index"}
    assert batch["bboxes"] is batch["bboxes"]
    assert made(batch) == {"index", "bboxes"}
    batch["bboxes"].append(torch.ones(1, 4))
    assert len(batch["bboxes"]) == 4


def test_length_and_names_make_nothing():
    batch = packed()
    assert len(batch) == 3
    assert "bboxes" in batch
    assert list(batch) == list(batch.keys()) == NAMES
    assert batch
    assert made(batch) == {"index"}


@pytest.mark.parametrize(
    "travel",
    [
        lambda b: b.to("cpu"),
        lambda b: pickle.loads(ForkingPickler.dumps(b)),
        copy.copy,
        Batch,
        lambda b: b.copy(),
    ],
)
def test_what_is_packed_travels_packed(travel):
    assert made(travel(packed())) == {"index"}


def test_comparing_compares_lists():
    batch = Batch({"image_path": PackedTexts(np.array(["a", "b"]))})
    assert batch == {"image_path": ["a", "b"]}
    assert {"image_path": ["a", "b"]} == batch  # noqa: SIM300 - a dict on the left asks the batch
    assert batch != {"image_path": ["a"]}
    with pytest.raises(TypeError, match="unhashable"):
        hash(batch)


def test_it_prints_as_a_dict():
    assert repr(Batch({"p": PackedTexts(np.array(["a"]))})) == "{'p': ['a']}"


def test_a_missing_field_is_a_key_error():
    batch = packed()
    with pytest.raises(KeyError, match="boxes"):
        batch["boxes"]
    assert batch.get("boxes", 3) == batch.pop("boxes", 3) == batch.setdefault("boxes", 3) == 3


def test_changes_of_a_list_travel():
    batch = packed()
    batch["bboxes"][0] = torch.ones(3, 4)
    moved = batch.to("cpu")
    assert [len(boxes) for boxes in moved["bboxes"]] == [3, 0, 3]


def test_every_tensor_moves_wherever_a_user_put_it():
    batch = packed()
    batch["targets"] = [{"mask": torch.zeros(2)}, (torch.ones(1), "text")]
    moved = batch.to("meta")
    assert moved["index"].device.type == "meta"
    assert {boxes.device.type for boxes in moved["bboxes"]} == {"meta"}
    assert moved["targets"][0]["mask"].device.type == "meta"
    assert moved["targets"][1][0].device.type == "meta"
    assert moved["targets"][1][1] == "text"
    assert batch["targets"][0]["mask"].device.type == "cpu"


def test_one_tensor_a_field_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(
        torch.Tensor, "pin_memory", lambda self: pinned.append(tuple(self.shape)) or self.clone()
    )
    assert is_right(pin_memory(packed()))
    assert pinned == [(5, 4), (3,)]


def test_lightning_moves_it_whole():
    apply = pytest.importorskip("lightning.fabric.utilities.apply_func")
    moved = apply.move_data_to_device(packed(), torch.device("meta"))
    assert type(moved) is Batch
    assert made(moved) == {"index"}
    assert moved["bboxes"][0].device.type == "meta"
