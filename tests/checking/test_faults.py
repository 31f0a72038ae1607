"""Faults injected into clean data sets: each must be found, and clean data raises no alarm."""

from zlib import crc32

import pytest

from processing.data_processor import DataProcessor
from tests.checking.data_sets import FORMATS, demo_data, from_directory, write
from tests.checking.faults import FAULTS, WHOLE_SETS

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
REAL = ("coco_det", "coco_roboflow", "voc_raccoon", "wider_face", "yolo_coco128")
CASES = [(name, each) for name, (_, formats, _) in FAULTS.items() for each in formats]
# One format of each fault in the quick suite, and not the same for all; the others are long.
QUICK = {
    name: formats[crc32(name.encode()) % len(formats)] for name, (_, formats, _) in FAULTS.items()
}
MARKED = [
    pytest.param(name, each, marks=() if QUICK[name] == each else pytest.mark.long)
    for name, each in CASES
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return demo_data(tmp_path_factory.mktemp("demo") / "raw", images=14)


def alarms(directory):
    """The findings that are errors or warnings, by kind."""
    report = DataProcessor(
        directory, directory.parent / "out", image_size=SMALL, num_workers=2, progress=False
    ).check()
    assert not (directory.parent / "out").exists()
    found = {}
    for finding in report.findings:
        if finding.severity != "info":
            found.setdefault(finding.kind, []).append(finding)
    return found


def spoilt(data_set, name, written_as, directory, seed=0):
    """Injects a fault and writes the data set; skips a fault that these data cannot have."""
    data_set = data_set.copy(seed)
    spoil, _, kinds = FAULTS[name]
    try:
        spoil(data_set, written_as)
    except (ValueError, StopIteration, AssertionError):
        pytest.skip("these data have no object to spoil: no points, or one category")
    return write(data_set, directory, written_as), kinds


@pytest.mark.parametrize("written_as", FORMATS)
def test_clean_data_raise_no_alarm(demo, tmp_path, written_as):
    assert alarms(write(demo, tmp_path / "raw", written_as)) == {}


@pytest.mark.parametrize(("name", "written_as"), MARKED)
def test_a_fault_is_found(demo, tmp_path, name, written_as):
    directory, kinds = spoilt(demo, name, written_as, tmp_path / "raw")
    found = alarms(directory)
    assert kinds & found.keys(), found.keys()
    for finding in (one for kind in kinds & found.keys() for one in found[kind]):
        assert finding.message
        assert finding.remedy


# One box in a third of three photographs, or a category in one of them, proves nothing.
TOO_FEW = {
    *(("category_only_in_val", name) for name in ("wider_face", "coco_roboflow")),
    ("one_box_pasted", "wider_face"),
    ("whole_photographs_in_part", "wider_face"),
    ("declared_width_and_height_exchanged", "wider_face"),
}

MANY_SMALL_BOXES = ("coco_det",)


@pytest.mark.long
@pytest.mark.parametrize("data", REAL)
def test_real_data_raise_no_alarm_in_any_format(real_data, tmp_path, data):
    assert alarms_of_original(real_data / data, tmp_path) == {}
    data_set = from_directory(real_data / data)
    for written_as in FORMATS:
        assert alarms(write(data_set, tmp_path / "raw", written_as)) == {}


def alarms_of_original(directory, tmp_path):
    """The alarms about the data set as it is distributed."""
    report = DataProcessor(directory, tmp_path / "out", image_size=SMALL, progress=False).check()
    return {one.kind: one for one in report.findings if one.severity != "info"}


@pytest.mark.long
@pytest.mark.parametrize(("name", "written_as"), CASES)
@pytest.mark.parametrize("data", REAL)
def test_a_fault_in_real_data_is_found(real_data, tmp_path, data, name, written_as):
    if (name, data) in TOO_FEW or (name in WHOLE_SETS and data not in MANY_SMALL_BOXES):
        pytest.skip("too few photographs")
    data_set = from_directory(real_data / data)
    directory, kinds = spoilt(data_set, name, written_as, tmp_path / "raw", seed=21)
    assert kinds & alarms(directory).keys()
