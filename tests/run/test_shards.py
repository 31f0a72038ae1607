"""A data set in shards: the same rows as in one file, whoever makes which shard, and when."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from processing import IncompleteSetError, open_dataset
from processing.core.errors import ForeignFileError, TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from processing.npz.mapped import MappedNPZ
from tests.conftest import write_coco

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
TASKS = tuple(SMALL)
NAMES = [f"{split}_{task}" for task in TASKS for split in ("train", "val")]


def processor(raw, output, **options):
    settings = {"image_size": SMALL, "num_workers": 2, "batch_size": 4, "progress": False}
    return DataProcessor(raw, output, **(settings | options))


def files(directory, endings=("*.npz", "*.json", "*.jsonl")):
    return {p.name: p.read_bytes() for ending in endings for p in sorted(directory.glob(ending))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A raw directory, its files, and the same in shards of 5 images, with both reports."""
    folder = tmp_path_factory.mktemp("shards")
    write_coco(folder / "raw", images=24)
    whole = processor(folder / "raw", folder / "whole").process_all()
    parts = processor(folder / "raw", folder / "parts", samples_per_shard=5).process_all()
    return folder, whole, parts


@pytest.fixture
def raw(made, tmp_path):
    """A copy of the raw directory that the test may change."""
    return shutil.copytree(made[0] / "raw", tmp_path / "raw")


@pytest.fixture
def parts(made, tmp_path):
    """A copy of the shards that the test may change."""
    return shutil.copytree(made[0] / "parts", tmp_path / "parts")


@pytest.mark.parametrize("name", NAMES)
def test_shards_have_the_rows_of_one_file_in_the_same_order(made, name):
    folder, *_ = made
    with (
        open_dataset(folder / "whole", name) as whole,
        open_dataset(folder / "parts", name, verify=True) as parts,
    ):
        parts.verify()
        assert len(parts) == len(whole) > 3
        assert parts.layout == whole.layout
        expected, found = whole.get_batch(range(len(whole))), parts.get_batch(range(len(whole)))
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            for one, other in zip(values, found[key], strict=True):
                np.testing.assert_array_equal(one, other)


def test_each_shard_is_an_ordinary_file_with_its_number(made):
    folder, *_ = made
    shards = sorted((folder / "parts").glob("train_detector-*.npz"))
    assert [path.name for path in shards] == [
        f"train_detector-{index:05}-of-00004.npz" for index in range(4)
    ]
    for index, path in enumerate(shards):
        with LazyNPZDataset(path) as dataset:
            dataset.verify()
            assert len(dataset) == (5 if index < 3 else 4)
            assert dataset.metadata["shard"] == [index, 4]
    with np.load(shards[0]) as plain:
        assert plain["images"].shape == (5, 64, 64, 3)


def test_the_manifest_describes_every_shard(made):
    folder, *_ = made
    manifest = json.loads((folder / "parts" / "train_detector.json").read_text())
    paths = sorted((folder / "parts").glob("train_detector-*.npz"))
    assert manifest["shards"] == len(paths) == 4
    assert manifest["rows"] == [5, 5, 5, 4]
    assert manifest["sizes"] == [path.stat().st_size for path in paths]
    assert manifest["checksums"] == [MappedNPZ(path).content_id for path in paths]
    assert (manifest["task"], manifest["split"]) == ("detector", "train")


def test_the_report_has_the_sums_of_one_file(made):
    _, whole, parts = made
    ignored = {"path"}
    for one, other in zip(whole.files, parts.files, strict=True):
        fields = {field.name for field in dataclasses.fields(one)} - ignored
        assert {f: getattr(one, f) for f in fields} == {f: getattr(other, f) for f in fields}
        assert other.path.name == one.path.name.replace(".npz", "-*.npz")
    assert parts.images_decoded == whole.images_decoded
    assert parts.notes == whole.notes
    assert not parts.missing_shards


@pytest.mark.parametrize("jobs", [1, 2, 3, None])
def test_the_bytes_do_not_depend_on_who_makes_which_shard(made, tmp_path, jobs):
    folder, *_ = made
    one = processor(folder / "raw", tmp_path, samples_per_shard=5, num_workers=1, batch_size=3)
    numbers = range(jobs or 5)
    reports = [one.process_shards(TASKS, index, jobs) for index in reversed(numbers)]
    assert files(tmp_path) == files(folder / "parts")
    assert [bool(report.missing_shards) for report in reports] == [True] * (len(numbers) - 1) + [
        False
    ]


def test_a_second_run_and_a_late_job_change_nothing(made, parts):
    folder, *_ = made
    before = {path: path.stat().st_mtime_ns for path in parts.glob("*.*")}
    one = processor(folder / "raw", parts, samples_per_shard=5)
    assert one.process_all().up_to_date
    assert one.process_shards(TASKS, 3).up_to_date
    assert one.finalize(TASKS).files == one.process_all().files
    assert {path: path.stat().st_mtime_ns for path in parts.glob("*.*")} == before


def test_only_the_shard_of_a_changed_photograph_is_made_again(raw, parts):
    with open_dataset(parts, "train_detector") as dataset:
        changed = raw / str(dataset.image_paths[7])
    before = files(parts)
    changed.write_bytes(changed.read_bytes() + b"\0\0")  # decodes to the same, but is another file
    report = processor(raw, parts, samples_per_shard=5).process_all()
    assert (report.images_decoded, report.images_copied) == (1, 4)
    after = files(parts)
    different = {name for name in after if after[name] != before[name]}
    assert different == {f"train_{task}-00001-of-00004.npz" for task in TASKS} | {
        f"train_{task}.json" for task in TASKS
    }
    assert before.keys() == after.keys()


def test_without_a_manifest_the_missing_shards_are_named(made, tmp_path):
    folder, *_ = made
    one = processor(folder / "raw", tmp_path, samples_per_shard=5)
    report = one.process_shards(TASKS, 0, 2)
    assert report.missing_shards == 2
    assert "shards that are not there yet: 2" in str(report)
    with pytest.raises(IncompleteSetError, match=r"no manifest, and 2 of 4 shards are missing"):
        open_dataset(tmp_path, "train_detector")
    with pytest.raises(IncompleteSetError, match=r"train_detector-00001-of-00004\.npz"):
        LazyNPZDataset(tmp_path / "train_detector-*.npz")
    with pytest.raises(IncompleteSetError, match=r"missing.*train_detector-00001-of-00004\.npz"):
        one.finalize(TASKS)


def test_a_lost_shard_is_named_and_made_again(made, parts):
    lost = parts / "val_teacher-00000-of-00001.npz"
    expected = files(parts)
    lost.unlink()
    with pytest.raises(IncompleteSetError, match=rf"1 of 1 shards are missing: {lost.name}"):
        open_dataset(parts, "val_teacher")
    processor(made[0] / "raw", parts, samples_per_shard=5).process_all()
    assert files(parts) == expected


def test_a_shard_of_another_set_is_refused(made, raw, parts):
    one, other = sorted(parts.glob("train_detector-*.npz"))[:2]
    shutil.copy(one, other)
    manifest = json.loads((parts / "train_detector.json").read_text())
    manifest["sizes"][1] = manifest["sizes"][0]  # as if both had the same size
    (parts / "train_detector.json").write_text(json.dumps(manifest))
    with open_dataset(parts, "train_detector") as dataset:
        dataset[0]
        with pytest.raises(IncompleteSetError, match=rf"{other.name}: is not the shard"):
            dataset[5]
    (parts / "train_detector-00002-of-00004.npz").write_bytes(one.read_bytes()[:-10])
    with pytest.raises(IncompleteSetError, match=r"1 shards have other sizes.*00002-of-00004"):
        open_dataset(parts, "train_detector")


def test_shards_of_other_options_are_not_finalized(made, tmp_path):
    folder, *_ = made
    processor(folder / "raw", tmp_path, samples_per_shard=5).process_shards(TASKS, 0, 2)
    other = processor(folder / "raw", tmp_path, samples_per_shard=5, min_box_size=9.0)
    report = other.process_shards(TASKS, 1, 2)  # the job of the other shards may still come
    assert report.missing_shards == 3
    assert not list(tmp_path.glob("*.json"))
    with pytest.raises(IncompleteSetError, match="9 of 15 files are missing, or are of other"):
        other.finalize(TASKS)
    assert not other.process_shards(TASKS, 0, 2).missing_shards
    with open_dataset(tmp_path, "train_detector") as dataset:
        assert dataset.metadata["options"]["min_box_size"] == 9.0


def test_another_division_replaces_the_set(made, parts):
    folder, *_ = made
    report = processor(folder / "raw", parts, samples_per_shard=9).process_all()
    assert "train_detector-*-of-00004.npz" in report.removed
    assert len(list(parts.glob("train_detector-*.npz"))) == 3
    with open_dataset(parts, "train_detector") as dataset:
        assert len(dataset) == 19
    report = processor(folder / "raw", parts).process_all()
    assert "train_detector-*-of-00003.npz" in report.removed
    assert "removed: train_detector-*-of-00003.npz, replaced by train_detector.npz" in str(report)
    assert files(parts) == files(folder / "whole")
    assert not (parts / "processing.shards").exists()
    report = processor(folder / "raw", parts, samples_per_shard=5).process_all()
    assert "train_detector.npz" in report.removed
    assert "removed: train_detector.npz, replaced by train_detector-*.npz" in str(report)
    assert files(parts) == files(folder / "parts")


def test_a_file_next_to_a_set_of_its_name_is_refused(made, parts):
    shutil.copy(made[0] / "whole" / "train_detector.npz", parts)
    with pytest.raises(ValueError, match=r"there is a file train_detector\.npz and a set"):
        open_dataset(parts, "train_detector")


def test_a_foreign_file_with_the_name_of_a_manifest_is_kept(made, tmp_path):
    mine = tmp_path / "train_detector.json"
    mine.write_text('{"images": []}')
    with pytest.raises(ForeignFileError, match=r"train_detector\.json"):
        processor(made[0] / "raw", tmp_path, samples_per_shard=5).process_all()
    assert mine.read_text() == '{"images": []}'


def test_the_limit_of_bad_images_holds_for_all_shards_together(raw, tmp_path):
    photographs = sorted((raw / "images").rglob("*.jpg"))
    for path in photographs[:3]:
        path.write_bytes(b"not a photograph")
    options = {"samples_per_shard": 5, "max_bad_fraction": 0.2}
    report = processor(raw, tmp_path / "out", **options).process_all()
    of_detector = [file for file in report.files if file.task == "detector"]
    assert sum(sum(file.rejected.values()) for file in of_detector) == 3
    strict = processor(raw, tmp_path / "other", samples_per_shard=5, max_bad_fraction=0.1)
    with pytest.raises(TooManyRejectedError, match="3 of 24 images"):
        strict.process_all()
    assert not list((tmp_path / "other").glob("*.json"))


def test_a_shard_may_lose_all_its_images(raw, tmp_path):
    with_rows = processor(raw, tmp_path / "out", samples_per_shard=2)
    with_rows.process_all()
    with open_dataset(tmp_path / "out", "train_detector") as dataset:
        lost = [raw / str(path) for path in dataset.image_paths[2:4]]
    for path in lost:
        path.write_bytes(b"not a photograph")
    report = with_rows.process_all()
    manifest = json.loads((tmp_path / "out" / "train_detector.json").read_text())
    assert manifest["rows"][:3] == [2, 0, 2]
    with open_dataset(tmp_path / "out", "train_detector") as dataset:
        assert len(dataset) == 17
        assert len(dataset.get_batch(range(17))["images"]) == 17
    assert report.has_rejections
    for path in sorted((raw / "images").rglob("*.jpg")):
        path.write_bytes(b"not a photograph")
    with pytest.raises(TooManyRejectedError, match="no row is left"):
        with_rows.process_all()


@pytest.mark.parametrize("train_split", [0.0, 1.0])
@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_split_without_images_is_an_empty_set(made, tmp_path, train_split, store):
    options = {"store": store, "samples_per_shard": 7}
    report = processor(made[0] / "raw", tmp_path, **options).process_detector(train_split)
    empty, full = ("val", "train") if train_split else ("train", "val")
    counts = {file.path.name.partition("_")[0]: file.rows for file in report.files}
    assert counts[empty] == 0 < counts[full]
    with open_dataset(tmp_path, f"{empty}_detector") as dataset:
        assert len(dataset) == 0
    with open_dataset(tmp_path, f"{full}_detector") as dataset:
        assert len(dataset) == counts[full]
    assert processor(made[0] / "raw", tmp_path, **options).process_detector(train_split).up_to_date


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "5"])
def test_a_wrong_number_of_samples_is_refused(tmp_path, wrong):
    with pytest.raises((TypeError, ValueError), match="samples_per_shard"):
        DataProcessor(tmp_path, tmp_path / "out", samples_per_shard=wrong)


def test_shards_need_their_size_and_a_number_that_exists(made, tmp_path):
    raw = made[0] / "raw"
    with pytest.raises(ValueError, match="shards need samples_per_shard"):
        processor(raw, tmp_path).process_shards(TASKS, 0)
    one = processor(raw, tmp_path, samples_per_shard=5)
    with pytest.raises(ValueError, match=r"shard_index must be in \[0, 3\)"):
        one.process_shards(TASKS, 3, 3)


def test_a_shard_with_one_of_several_categories_has_the_names_of_all(raw, tmp_path):
    listed = raw / "annotations" / "instances.json"
    content = json.loads(listed.read_text())
    content["categories"].append({"id": 2, "name": "lens", "keypoints": ["a", "b", "c", "d", "e"]})
    for annotation in content["annotations"]:
        annotation["category_id"] = 1 + (annotation["image_id"] > 12)
        del annotation["keypoints"]
    listed.write_text(json.dumps(content))
    processor(raw, tmp_path / "parts", samples_per_shard=3).process_detector()
    for path in (tmp_path / "parts").glob("*.npz"):
        with LazyNPZDataset(path) as shard:
            assert shard.category_names == ("face", "lens"), path.name
