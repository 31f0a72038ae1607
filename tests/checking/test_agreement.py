"""A check predicts what a run then does, on the same directories."""

import errno
import os

import pytest

from processing.core.errors import SourceError
from processing.data_processor import DataProcessor
from tests.checking.data_sets import demo_data, write
from tests.checking.faults import FAULTS
from tests.sources.test_real_annotations import SETS

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
SPOILT = (
    *("cut_short", "photograph_missing", "web_page_as_photograph", "enlarged_after_annotating"),
    *("other_unit_in_one", "box_outside", "tiny_box", "number_missing", "points_in_one_place"),
)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A raw directory with several faults at once, in COCO."""
    data_set = demo_data(tmp_path_factory.mktemp("demo") / "raw", images=16, seed=3)
    for seed, name in enumerate(SPOILT):
        data_set.rng = data_set.copy(seed).rng
        FAULTS[name][0](data_set, "coco")
    return write(data_set, tmp_path_factory.mktemp("spoilt") / "raw", "coco")


def compare(directory, output_dir, **settings):
    """Checks and processes a directory; returns both reports."""
    processor = DataProcessor(directory, output_dir, progress=False, num_workers=2, **settings)
    checked = processor.check()
    assert not output_dir.exists()
    processed = processor.process_all()
    assert checked.files == processed.files
    assert checked.sets == processed.sets
    assert checked.splits == processed.splits
    assert checked.skipped_tasks == processed.skipped_tasks
    errors = any(finding.severity == "error" for finding in checked.findings)
    dropped = any(file.dropped for file in processed.files)
    assert errors or not processed.has_rejections
    assert dropped or processed.has_rejections or not errors
    return checked, processed


@pytest.mark.parametrize("store", ["raw", "jpeg", "original"])
def test_a_check_predicts_files_rows_rejections_and_bytes(spoilt, tmp_path, store):
    checked, processed = compare(spoilt, tmp_path / "out", image_size=SMALL, store=store)
    assert processed.has_rejections
    for file in processed.files:
        size = file.path.stat().st_size
        tolerance = 0.02 if store == "raw" else 0.15  # JPEGs are estimated by a sample
        assert abs(checked.file_bytes[file.path.stem] - size) < tolerance * size + 8192
    reasons = {reason for file in processed.files for reason in file.rejected}
    assert reasons <= {finding.kind for finding in checked.findings}


@pytest.mark.parametrize(
    "settings", [{"min_box_size": 45.0}, {"sources": "coco", "group_by": r"(\d)\."}]
)
def test_a_check_follows_the_settings(spoilt, tmp_path, settings):
    compare(spoilt, tmp_path / "out", image_size=SMALL, **settings)


def test_a_run_that_would_stop_is_a_finding(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/notes.txt").write_text("nothing here")
    processor = DataProcessor(tmp_path / "raw", tmp_path / "out")
    (finding,) = processor.check().findings
    assert finding.kind == "refused"
    assert finding.severity == "error"
    with pytest.raises(SourceError, match="no annotations found") as stopped:
        processor.process_all()
    assert finding.message == str(stopped.value)


def test_a_directory_that_cannot_be_listed_asks_for_another_check_not_for_a_run(
    tmp_path, monkeypatch
):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(SourceError, match="cannot be listed") as caught:
        DataProcessor(tmp_path).check()
    assert caught.value.__notes__[-1].endswith("; then check again")


def test_a_task_without_rows_is_a_finding(shared_raw_dir, tmp_path):
    processor = DataProcessor(shared_raw_dir, tmp_path / "out", min_box_size=5000.0)
    kinds = {finding.kind for finding in processor.check(["teacher"]).findings}
    assert "no_rows" in kinds


def test_too_many_bad_photographs_are_a_finding(spoilt, tmp_path):
    processor = DataProcessor(spoilt, tmp_path / "out", image_size=SMALL, max_bad_fraction=0.01)
    kinds = {finding.kind for finding in processor.check().findings}
    assert "too_many_rejected" in kinds


def test_on_error_raise_does_not_stop_a_check(spoilt, tmp_path):
    processor = DataProcessor(spoilt, tmp_path / "out", image_size=SMALL, on_error="raise")
    assert processor.check().needs_a_look


@pytest.mark.long
@pytest.mark.parametrize("name", SETS)
def test_a_check_predicts_what_is_made_of_real_data(real_data, tmp_path, name):
    compare(real_data / name, tmp_path / "out")
