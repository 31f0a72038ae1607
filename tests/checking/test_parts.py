"""Faults of a part of a data set, told by the photographs: a split, some names, or any of them."""

import copy

import numpy as np
import pytest

from processing.data_processor import DataProcessor
from tests.checking.data_sets import demo_data, write
from tests.checking.faults import jpeg, move, numbers_of, pixels_of

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return demo_data(tmp_path_factory.mktemp("demo") / "raw", images=48, seed=11)


def alarms(data, directory, written_as):
    """The findings that are no information, by kind."""
    processor = DataProcessor(
        write(data, directory / "raw", written_as),
        directory / "out",
        image_size=SMALL,
        num_workers=2,
        progress=False,
    )
    return {one.kind: one for one in processor.check().findings if one.severity != "info"}


def test_the_clean_data_raise_no_alarm(demo, tmp_path):
    assert alarms(demo, tmp_path, "yolo") == {}


def test_boxes_of_val_that_were_shifted(demo, tmp_path):
    data = demo.copy()
    for one, thing in data.things():
        if one.split == "val":
            move(thing, 25, 18)
    finding = alarms(data, tmp_path, "voc")["looks_shifted"]
    assert "the photographs of val" in finding.message


def test_mirrored_copies_with_the_boxes_of_their_originals(demo, tmp_path):
    data = demo.copy()
    for one in list(data.photographs):
        mirrored = copy.deepcopy(one)
        mirrored.name = f"flip_{one.name}"
        mirrored.data = jpeg(pixels_of(one)[:, ::-1])
        data.photographs.append(mirrored)
    finding = alarms(data, tmp_path, "csv")["looks_mirrored"]
    assert "images/flip_#_#.jpg" in finding.message


def test_photographs_turned_here_and_there(demo, tmp_path):
    data = demo.copy()
    turned = data.rng.permutation(len(data.photographs))[::2].tolist()
    for number in turned:
        one = data.photographs[number]
        one.data = jpeg(pixels_of(one)[::-1, ::-1])
    finding = alarms(data, tmp_path, "csv")["looks_turned"]
    assert any(data.photographs[number].name in finding.message for number in turned)


def test_labels_shifted_from_one_photograph_on(demo, tmp_path):
    data = demo.copy()
    later = [one for one in data.photographs if one.split == "train"][18:]
    rows = [[numbers_of(t.box, one.size, "yolo") for t in one.things] for one in later]
    for one, written in zip(later[1:], rows, strict=False):
        one.things = [copy.copy(later[0].things[0]) for _ in written]
        for thing, numbers in zip(one.things, written, strict=True):
            thing.written = numbers
    finding = alarms(data, tmp_path, "yolo")["looks_like_neighbour"]
    assert "1 place before" in finding.message


def test_label_files_exchanged_in_a_small_val(demo, tmp_path):
    data = demo.copy()
    val = [one for one in data.photographs if one.split == "val"]
    rows = [[numbers_of(t.box, one.size, "yolo") for t in one.things] for one in val]
    for one, written in zip(val, np.roll(np.array(rows, dtype=object), 4).tolist(), strict=True):
        one.things = [copy.copy(data.thing()[1]) for _ in written]
        for thing, numbers in zip(one.things, written, strict=True):
            thing.written = numbers
    finding = alarms(data, tmp_path, "yolo")["unrelated_boxes"]
    assert "the photographs of val" in finding.message
