"""Under the rules of Windows, runs make the same files, or name the file that is in use."""

import gc
from unittest import mock

import pytest

from processing.core.error_notes import format_error, note_remedy
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.run.journal import Journal
from processing.sources import directory_listing
from tests.faults.small_runs import OPTIONS, SmallRuns, published
from tests.faults.windows import WindowsRules


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return SmallRuns(tmp_path_factory.mktemp("windows"))


def process(runs, name, output, **options):
    return DataProcessor(runs.raw[name], output, **OPTIONS | options).process_all()


def test_a_second_run_replaces_the_files_of_the_first(runs, tmp_path):
    with WindowsRules(tmp_path) as rules:
        process(runs, "old", tmp_path)
        assert published(tmp_path) == runs.published["old"]
        report = process(runs, "new", tmp_path)
        assert report.removed  # the files of the test split
        assert published(tmp_path) == runs.published["new"]
        assert process(runs, "new", tmp_path).up_to_date
    assert not rules.refused


def stop(tmp_path, runs, name, flushes):
    """Runs until the journal is flushed for the n-th time, and stops there."""
    append, left = Journal.append, [flushes]

    def stopping(self, records):
        append(self, records)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with mock.patch.object(Journal, "append", stopping), pytest.raises(KeyboardInterrupt):
        process(runs, name, tmp_path)
    gc.collect()  # the error holds files that a killed process would not have


def test_a_killed_run_continues_and_an_abandoned_one_is_used(runs, tmp_path):
    with WindowsRules(tmp_path) as rules:
        stop(tmp_path, runs, "old", 2)
        stop(tmp_path, runs, "new", 2)  # sets the rows of the run before it aside
        assert list(tmp_path.glob("*.earlier"))
        assert process(runs, "new", tmp_path).images_resumed
        assert published(tmp_path) == runs.published["new"]
    assert not rules.refused


@pytest.mark.long
def test_shards_and_jpegs_are_written_and_read(runs, tmp_path):
    options = {"samples_per_shard": 5, "store": "jpeg"}
    with WindowsRules(tmp_path) as rules:
        for name in ("old", "new"):
            process(runs, name, tmp_path, **options)
            with LazyNPZDataset(tmp_path / "train_detector-*.npz") as dataset:
                dataset.verify()
        process(runs, "new", tmp_path)  # removes the shards
        assert published(tmp_path) == runs.published["new"]
    assert not rules.refused


def test_a_file_that_a_training_run_has_mapped_is_named_and_nothing_is_lost(runs, tmp_path):
    process(runs, "old", tmp_path)
    with WindowsRules(tmp_path):
        dataset = LazyNPZDataset(tmp_path / "train_landmarker.npz")
        before = dataset[0]["image"].tobytes()
        with pytest.raises(PermissionError) as caught:
            process(runs, "new", tmp_path)
        told = format_error(caught.value)
        assert f"end the program that has {tmp_path / 'train_landmarker.npz'} open" in told
        assert "such as a training run" in told
        assert "choose another output_dir" in told
        assert "then run again" in told
        assert f"nothing is lost: {tmp_path / 'train_landmarker.npz.partial'} is finished" in told
        assert dataset[0]["image"].tobytes() == before  # the training goes on
        runs.check_files(tmp_path, runs.published["old"])

        dataset.close()
        del dataset, caught
        gc.collect()
        report = process(runs, "new", tmp_path)
    assert (report.images_decoded, report.images_copied) == (0, 0)
    assert published(tmp_path) == runs.published["new"]


@pytest.mark.parametrize("winerror", [5, 32, 33, 1224])
def test_each_error_of_a_file_in_use_has_the_same_remedy(winerror):
    error = OSError(13, "in use", "a.npz.partial", None, "a.npz")
    error.winerror = winerror
    with pytest.raises(OSError, match="in use"), note_remedy():
        raise error
    (told,) = error.__notes__
    assert told.startswith("what to do: end the program that has a.npz open")
    assert "chmod" not in told


class Junction:
    """The entry of a link, as Windows lists a junction: a folder that is no symbolic link."""

    def __init__(self, entry):
        self.name, self._entry = entry.name, entry

    def __fspath__(self):
        return self._entry.path

    def is_junction(self):
        return True

    def is_symlink(self):
        return False

    def is_dir(self, *, follow_symlinks=True):
        return True


def test_a_junction_is_followed_as_a_link_is_and_never_without_end(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "out").symlink_to(tmp_path / "elsewhere")
    (raw / "up").symlink_to(tmp_path)
    entries = directory_listing._entries

    def listed(root, prefix):
        return [Junction(e) if e.is_symlink() else e for e in entries(root, prefix)]

    monkeypatch.setattr(directory_listing, "_entries", listed)
    found, _, folders, skipped = directory_listing.list_directory(raw, follow_links=True)
    assert (found, folders, [path for path, _ in skipped]) == (["out/a.jpg"], ["out"], ["up"])
    found, _, _, skipped = directory_listing.list_directory(raw, follow_links=False)
    assert (found, sorted(path for path, _ in skipped)) == ([], ["out", "up"])
