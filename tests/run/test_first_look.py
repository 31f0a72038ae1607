"""`limit`: a few photographs of a data set, in files that never pass for the whole of it."""

import logging

import numpy as np
import pytest

from processing import ForeignFileError, LazyNPZDataset, TooManyRejectedError
from processing.__main__ import main
from processing.core.annotations import SPLITS
from processing.data_processor import DataProcessor
from processing.imaging.tasks import TASKS
from processing.run.first_look import _shares, choose
from processing.run.output_directory import JOURNAL_NAME
from processing.run.splits import assign_splits
from processing.sources import read_sources
from tests.conftest import write_coco

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}


def processor(raw, output, **options):
    settings = {"image_size": SMALL, "num_workers": 2, "progress": False}
    return DataProcessor(raw, output, **(settings | options))


def images_of(directory):
    found = {}
    for path in sorted(directory.glob("*.npz")):
        with LazyNPZDataset(path) as dataset:
            found[path.stem] = list(dict.fromkeys(dataset.image_paths.tolist()))
    return found


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.npz")}


@pytest.fixture(scope="module")
def looked_at(shared_raw_dir, tmp_path_factory):
    """The files of a first look of 8 of 24 photographs, and its report."""
    folder = tmp_path_factory.mktemp("first") / "out"
    return folder, processor(shared_raw_dir, folder, limit=8).process_all()


def test_a_first_look_keeps_the_shares_of_splits_and_marks_its_files(looked_at, shared_raw_dir):
    folder, report = looked_at
    found = images_of(folder)
    assert (len(found["train_detector"]), len(found["val_detector"])) == (6, 2)
    assert set(found["train_landmarker"]) <= set(found["train_detector"])
    assert found["train_landmarker"]
    assert found["val_landmarker"]
    assert "first look: 8 of 24 photographs" in str(report)
    for path in folder.glob("*.npz"):
        with LazyNPZDataset(path) as dataset:
            assert dataset.metadata["options"]["limit"] == {"photographs": 8, "of": 24}


def test_a_first_look_takes_the_same_photographs_each_time_whatever_the_workers(
    looked_at, shared_raw_dir, tmp_path
):
    processor(shared_raw_dir, tmp_path, limit=8, num_workers=1, batch_size=3).process_all()
    assert files_of(tmp_path) == files_of(looked_at[0])
    assert processor(shared_raw_dir, tmp_path, limit=8).process_all().up_to_date


def test_opening_a_file_of_a_first_look_warns_once_and_verify_says_so(looked_at, caplog, capsys):
    path = looked_at[0] / "val_detector.npz"
    with caplog.at_level(logging.WARNING), LazyNPZDataset(path) as dataset:
        dataset[0]
        dataset[:2]
    messages = [record.getMessage() for record in caplog.records]
    said = "a first look, not the whole data set: 8 of 24 photographs in all splits"
    assert [said in message for message in messages] == [True]
    for verb in ("verify", "info"):
        assert main([verb, str(path)]) == 0
        assert said in capsys.readouterr().out


def test_a_run_of_all_replaces_a_first_look_and_copies_its_rows(shared_raw_dir, tmp_path):
    processor(shared_raw_dir, tmp_path / "a", limit=8).process_all()
    report = processor(shared_raw_dir, tmp_path / "a").process_all()
    assert (report.images_copied, report.images_decoded, report.first_look) == (8, 16, None)
    processor(shared_raw_dir, tmp_path / "b").process_all()
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert "limit" not in LazyNPZDataset(tmp_path / "a" / "val_detector.npz").metadata["options"]


def test_a_first_look_may_follow_another_and_copies_its_rows(shared_raw_dir, tmp_path):
    processor(shared_raw_dir, tmp_path, limit=8).process_all()
    report = processor(shared_raw_dir, tmp_path, limit=12).process_all()
    assert report.images_copied >= 6
    assert report.images_copied + report.images_decoded == 12


@pytest.mark.parametrize("task", TASKS)
def test_a_first_look_replaces_no_file_of_a_whole_data_set(shared_raw_dir, tmp_path, task):
    processor(shared_raw_dir, tmp_path).process([task])
    before = files_of(tmp_path)
    for names in ([task], ["detector"]):
        with pytest.raises(ForeignFileError, match=f"_{task}.npz: holds a whole data set"):
            processor(shared_raw_dir, tmp_path, limit=8).process(names)
    assert files_of(tmp_path) == before


def test_a_first_look_replaces_no_shards_of_a_whole_data_set(shared_raw_dir, tmp_path):
    processor(shared_raw_dir, tmp_path, samples_per_shard=10).process_detector()
    with pytest.raises(ForeignFileError, match="holds a whole data set"):
        processor(shared_raw_dir, tmp_path, limit=8).process_detector()


def test_a_first_look_does_not_throw_away_the_work_of_a_killed_run(
    shared_raw_dir, tmp_path, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("processing.run.processing_run.ProcessingRun._finish_lists", stop)
        with pytest.raises(KeyboardInterrupt):
            processor(shared_raw_dir, tmp_path).process_detector()
    with pytest.raises(ForeignFileError, match="unfinished work of another run"):
        processor(shared_raw_dir, tmp_path, limit=8).process_detector()
    assert processor(shared_raw_dir, tmp_path).process_detector().images_resumed == 24
    # A first look that was killed is continued.
    with monkeypatch.context() as patched:
        patched.setattr("processing.run.processing_run.ProcessingRun._finish_lists", stop)
        with pytest.raises(KeyboardInterrupt):
            processor(shared_raw_dir, tmp_path / "b", limit=8).process_detector()
    assert (tmp_path / "b" / JOURNAL_NAME).exists()
    report = processor(shared_raw_dir, tmp_path / "b", limit=8).process_detector()
    assert report.images_resumed == 8


def test_a_limit_that_leaves_nothing_out_is_none(shared_raw_dir, processed_dir, tmp_path):
    report = processor(shared_raw_dir, tmp_path, limit=24).process_all()
    assert report.first_look is None
    assert files_of(tmp_path) == files_of(processed_dir)


def test_the_share_of_bad_images_is_that_of_the_chosen_ones(raw_dir, tmp_path):
    (bad, *_) = images_of_first_look(raw_dir, tmp_path / "a")
    (raw_dir / bad).write_bytes(b"no image")
    options = {"limit": 8, "max_bad_fraction": 0.1}
    with pytest.raises(TooManyRejectedError, match="1 of 8 images"):
        processor(raw_dir, tmp_path / "b", **options).process_detector()


def images_of_first_look(raw, folder):
    processor(raw, folder, limit=8).process_detector()
    return images_of(folder)["train_detector"]


def test_each_split_and_task_has_a_photograph_if_there_are_enough():
    assert _shares(np.array([970, 20, 9, 1]), 4).tolist() == [1, 1, 1, 1]
    assert _shares(np.array([970, 20, 9, 1]), 2).tolist() == [1, 1, 0, 0]
    assert _shares(np.array([970, 20, 9, 1]), 100).tolist() == [96, 2, 1, 1]
    for limit in range(1, 1000, 7):
        shares = _shares(np.array([970, 20, 9, 1]), limit)
        assert shares.sum() == limit
        assert (shares <= [970, 20, 9, 1]).all()


def test_photographs_are_not_the_first_ones_of_each_split(tmp_path):
    table = read_sources(write_coco(tmp_path / "raw", images=60)).table
    splits = assign_splits(table.image_paths, table.splits, train_split=0.8)
    tasks = [TASKS["detector"]((8, 8))]
    chosen = choose(table, splits, tasks, 20, 0)
    for split in (0, 1):
        own = np.flatnonzero(chosen[splits == split])
        assert len(own) == (16, 4)[split], SPLITS[split]
        assert own[-1] > len(own)
    assert not np.array_equal(chosen, choose(table, splits, tasks, 20, 1))


def test_a_limit_that_cannot_be_kept_is_refused(shared_raw_dir, tmp_path, capsys):
    for options, message in [
        ({"limit": 0}, "limit must be"),
        ({"limit": 5, "samples_per_shard": 4}, "leave out samples_per_shard"),
    ]:
        with pytest.raises(ValueError, match=message):
            processor(shared_raw_dir, tmp_path, **options)
    with pytest.raises(ValueError, match="local output_dir"):
        DataProcessor(shared_raw_dir, "s3://bucket/out", limit=5)
    with pytest.raises(SystemExit) as ended:
        main(["process", "--all", "--dry-run", "--limit", "3"])
    assert ended.value.code == 2
    assert "without --limit" in capsys.readouterr().err
