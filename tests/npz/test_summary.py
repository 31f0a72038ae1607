"""Summaries: what they count, and in how much memory."""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from processing.core.columns import RaggedArray
from processing.core.errors import NPZFormatError
from processing.data_processor import DataProcessor
from processing.npz.lists import UNREADABLE
from processing.npz.object_counts import count_objects
from processing.npz.set_contents import open_contents
from processing.npz.summary import add_summaries, summarize
from tests.conftest import write_coco


def of(path, **options):
    return summarize(open_contents(path, **options))


def test_objects_and_empty_images_are_those_of_the_annotations(processed_dir, shared_raw_dir):
    annotations = json.loads((shared_raw_dir / "annotations" / "instances.json").read_text())
    both = add_summaries(
        of(processed_dir / "train_detector.npz"), of(processed_dir / "val_detector.npz")
    )
    boxes = {entry["id"]: 0 for entry in annotations["images"]}
    for one in annotations["annotations"]:
        boxes[one["image_id"]] += 1
    assert both.rows == both.photographs == len(boxes)
    assert both.objects.total == sum(boxes.values())
    assert both.objects.empty == list(boxes.values()).count(0)
    assert both.objects.by_category == {"face": sum(boxes.values())}
    expected = {number: list(boxes.values()).count(number) for number in sorted(boxes.values())}
    assert both.objects.rows_by_objects == expected
    assert (both.split, both.files, both.image_size) == (None, 2, (64, 64))


def test_members_and_bytes_are_those_that_numpy_finds(processed_dir):
    path = processed_dir / "train_landmarker.npz"
    summary = of(path)
    with np.load(path) as file:
        found = {name: (str(file[name].dtype), file[name].shape) for name in file}
    assert {one.name: (one.dtype, one.shape) for one in summary.members} == found
    assert summary.file_bytes == path.stat().st_size
    assert summary.objects.rows_by_points == {5: summary.rows}
    assert summary.keypoint_names[2] == "nose"
    assert summary.options["crop_margin"] == 0.25


@pytest.mark.parametrize("store", ["raw", "original"])
def test_a_set_is_summarized_as_the_file_of_the_same_rows_is(store, tmp_path):
    write_coco(tmp_path / "raw", images=9)
    for name, shards in (("one", None), ("set", 3)):
        DataProcessor(
            tmp_path / "raw", tmp_path / name, image_size=32, store=store, samples_per_shard=shards
        ).process_detector(train_split=1.0)
    one = of(tmp_path / "one" / "train_detector.npz")
    several = of(tmp_path / "set" / "train_detector-*.npz")
    assert several.files == 3
    assert several.codec == one.codec == store
    assert several.objects == one.objects
    assert (several.rows, several.photographs) == (one.rows, one.photographs)
    assert (several.first_path, several.last_path) == (one.first_path, one.last_path)
    assert several.fingerprint
    rows = {member.name: member.shape for member in several.members}
    assert rows["image_paths"] == (9,)


def test_lists_next_to_the_file_are_counted_by_reason(tmp_path, processed_dir):
    path = tmp_path / "train_detector.npz"
    path.write_bytes((processed_dir / path.name).read_bytes())
    lines = [{"path": "a", "stage": "read", "reason": "truncated", "message": ""}] * 2
    text = "\n".join(map(json.dumps, lines)) + '\n{"path": "b", "sta'
    path.with_suffix(".rejected.jsonl").write_text(text)
    path.with_suffix(".dropped.jsonl").write_text('{"reason": "too_small"}\n')
    summary = of(path)
    assert summary.rejected == {"truncated": 2, UNREADABLE: 1}
    assert summary.dropped == {"too_small": 1}
    assert "truncated 2" in str(summary)
    assert "too_small 1" in str(summary)


def write_foreign(path, **members):
    """Writes a file as another program would; channels are first, and labels have no names."""
    boxes = np.empty(3, object)
    boxes[:] = [[[1, 2, 9, 12]], [], [[0, 0, 4, 4], [2, 2, 8, 8]]]
    labels = np.empty(3, object)
    labels[:] = [[7], [], [7, 2]]
    images = np.zeros((3, 1, 16, 24), np.float32)
    paths = np.array(["a.png", "b.png", "c.png"])
    save = np.savez_compressed if members.pop("compressed", False) else np.savez
    save(path, images=images, bboxes=boxes, labels=labels, image_paths=paths, **members)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_of_another_program_is_summarized(compressed, tmp_path):
    path = tmp_path / "theirs.npz"
    write_foreign(path, compressed=compressed, notes=np.arange(6).reshape(2, 3))
    summary = of(path, cache_dir=tmp_path)
    assert not summary.written_by_us
    assert summary.format_version is None
    assert (summary.image_size, summary.channels, summary.channels_first) == ((16, 24), 1, True)
    assert summary.objects.by_category == {"7": 2, "2": 1}
    assert summary.objects.rows_by_objects == {0: 1, 1: 1, 2: 1}
    assert {one.name: one.shape for one in summary.members}["notes"] == (2, 3)
    assert "another program" in str(summary)
    # A member that nobody needs is not unpacked, however large it is.
    assert not list(tmp_path.glob("*notes*"))


def test_a_file_that_another_program_saved_again_is_not_ours(processed_dir, tmp_path):
    with np.load(processed_dir / "val_teacher.npz") as file:
        np.savez(tmp_path / "again.npz", **file)
    again, ours = of(tmp_path / "again.npz"), of(processed_dir / "val_teacher.npz")
    assert (again.written_by_us, ours.written_by_us) == (False, True)
    assert again.options == ours.options
    assert "another program, with our metadata" in str(again)


def test_the_description_of_a_summary_can_be_encoded_as_json(processed_dir):
    summary = of(processed_dir / "val_teacher.npz")
    decoded = json.loads(json.dumps(summary.as_dict()))
    assert decoded["rows"] == summary.rows
    assert decoded["objects"] == summary.rows  # each row of a teacher is one object
    assert decoded["image_size"] == [32, 32]


def test_millions_of_rows_are_counted_in_little_memory():
    rows = 3_000_000
    offsets = np.arange(rows + 1, dtype=np.int32)  # one object a row
    labels = RaggedArray(np.resize(np.arange(5, dtype=np.int8), rows), offsets, check=False)
    boxes = RaggedArray(np.broadcast_to(np.float32(0), (rows, 4)), offsets, check=False)
    tracemalloc.start()
    try:
        counts = count_objects(
            [{"bboxes": boxes, "labels": labels}], list("abcde"), rows, where="file"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts.rows_by_objects == {1: rows}
    assert counts.by_category == dict.fromkeys("abcde", rows // 5)
    assert peak < 20e6


def test_files_read_as_one_keep_the_mark_of_a_first_look(processed_dir):
    whole = of(processed_dir / "val_detector.npz")
    part = replace(whole, options={**whole.options, "limit": {"photographs": 2, "of": 9}})
    for both in (add_summaries(whole, part), add_summaries(part, whole)):
        assert both.options["limit"] == {"photographs": 2, "of": 9}
        assert "first look" in str(both)
    assert "first look" not in str(whole)


def test_offsets_that_decrease_are_refused_with_their_row():
    boxes = RaggedArray(np.zeros((4, 4)), np.array([0, 3, 2, 4]), check=False)
    with pytest.raises(NPZFormatError, match=r"f\.npz: member 'bboxes_offsets', row 1"):
        count_objects([{"bboxes": boxes}], [], 3, where="f.npz")


def test_labels_that_are_no_categories_are_counted_by_their_number():
    boxes = RaggedArray(np.zeros((4, 4)), np.array([0, 4]), check=False)
    labels = RaggedArray(np.array([0, -1, 1 << 40, 0]), np.array([0, 4]), check=False)
    counts = count_objects([{"bboxes": boxes, "labels": labels}], ["cat", "dog"], 1, where="")
    assert counts.by_category == {"cat": 2, "-1": 1, str(1 << 40): 1, "dog": 0}
