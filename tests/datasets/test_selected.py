"""A selection is a view of some samples with some of their objects."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing import BatchLoader, CombinedLazyDataset, LazyNPZDataset
from processing.datasets import selected
from processing.npz.writer import NPZWriter

NAMES = ("cat", "dog", "bird")
SIZE = 16


def write(path, boxes, labels, names=NAMES):
    """Writes a detector's file of this package; each image is filled with its number."""
    import contextlib
    import json

    offsets = np.cumsum([0, *map(len, boxes)])
    with contextlib.closing(NPZWriter(path)) as writer:
        images = np.arange(len(boxes), dtype=np.uint8)[:, None, None, None]
        writer.write("images", np.broadcast_to(images, (len(boxes), SIZE, SIZE, 3)).copy())
        writer.write("bboxes", np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32))
        writer.write("bboxes_offsets", offsets)
        writer.write("labels", np.concatenate([[], *labels]).astype(np.int32))
        writer.write("labels_offsets", offsets)
        writer.write("image_paths", np.array([f"{i}.jpg" for i in range(len(boxes))], "<U8"))
        writer.write(
            "metadata", np.array(json.dumps({"task": "detector", "category_names": names}))
        )
        writer.finish()
    return path


def samples(rng, count):
    boxes, labels = [], []
    for _ in range(count):
        number = rng.integers(0, 4)
        corners = np.sort(rng.integers(0, SIZE + 1, (number, 2, 2)), axis=1).reshape(-1, 4)
        boxes.append(corners.astype(np.float32))
        labels.append(rng.integers(0, len(NAMES), number))
    return boxes, labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    boxes, labels = samples(np.random.default_rng(0), 60)
    return write(tmp_path_factory.mktemp("selected") / "a.npz", boxes, labels), boxes, labels


@pytest.fixture
def dataset(data):
    with LazyNPZDataset(data[0], return_index=True) as opened:
        yield opened


@given(
    classes=st.none() | st.lists(st.sampled_from(range(3)), min_size=1, unique=True),
    min_box=st.sampled_from([0, 2, 5, 30]),
    background=st.booleans(),
    limit=st.none() | st.integers(1, 70),
    at_once=st.sampled_from([1, 7, 1000]),
)
def test_a_selection_has_the_samples_and_objects_that_were_asked_for(
    data, classes, min_box, background, limit, at_once
):
    path, boxes, labels = data
    expected = []
    for i, (own, names) in enumerate(zip(boxes, labels, strict=True)):
        keep = np.minimum(own[:, 2] - own[:, 0], own[:, 3] - own[:, 1]) >= min_box
        if classes is not None:
            keep &= np.isin(names, classes)
        if background or keep.any():
            new = names[keep] if classes is None else [classes.index(n) for n in names[keep]]
            expected.append((i, own[keep].tolist(), list(new)))
    with pytest.MonkeyPatch.context() as patch, LazyNPZDataset(path) as whole:
        patch.setattr(selected, "_ROWS_AT_ONCE", at_once)
        view = whole.select(classes=classes, min_box=min_box, background=background, limit=limit)
        found = [
            (int(view[i]["image"][0, 0, 0]), view[i]["bboxes"].tolist(), view[i]["labels"].tolist())
            for i in range(len(view))
        ]
        if limit is None or limit >= len(expected):
            assert found == expected
        else:
            assert len(found) == limit
            assert [one for one in expected if one in found] == found
        assert view.samples == (len(found), 60)
        assert view.objects == (sum(len(b) for _, b, _ in found), sum(map(len, boxes)))
        batch = view.get_batch(range(len(view)))
        assert [b.tolist() for b in batch["bboxes"]] == [b for _, b, _ in found]
        if classes is not None:
            assert view.category_names == tuple(NAMES[one] for one in classes)


def test_names_and_numbers_select_the_same(dataset):
    by_name = dataset.select(classes=["dog", "cat"])
    by_number = dataset.select(classes=[1, 0])
    assert by_name.rows.tolist() == by_number.rows.tolist()
    assert by_name.category_names == by_number.category_names == ("dog", "cat")
    assert repr(by_name).startswith("SelectedDataset(detector, ")


def test_limits_choose_other_samples_with_another_seed(dataset):
    chosen = [dataset.select(limit=10, background=True, seed=seed).rows.tolist() for seed in (0, 1)]
    assert chosen[0] != chosen[1]
    assert chosen[0] == dataset.select(limit=10, background=True).rows.tolist()
    assert max(chosen[0]) > 10  # not the first ones


def test_loaders_copies_and_combinations_take_selections(data, dataset):
    view = dataset.select(classes=["bird"])
    loader = BatchLoader(view, 4, shuffle=True, num_workers=1)
    seen = [i for batch in loader for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(len(view)))
    copy = pickle.loads(pickle.dumps(view))
    assert copy[0]["bboxes"].tolist() == view[0]["bboxes"].tolist()
    copy.close()
    other = LazyNPZDataset(data[0], return_index=True).select(classes=["bird"], min_box=3)
    with CombinedLazyDataset([view, other]) as both:
        assert len(both) == len(view) + len(other)
        again = both.select(min_box=3)
        assert len(again) == 2 * len(other)
        assert again.file_offsets.tolist() == [0, len(other), 2 * len(other)]
        assert both.category_names == ("bird",)


def test_a_selection_of_a_selection_counts_in_its_own_rows(dataset):
    view = dataset.select(classes=["cat", "dog"]).select(classes=["dog"], min_box=4)
    direct = dataset.select(classes=["dog"], min_box=4)
    assert [s["image"][0, 0, 0] for s in view] == [s["image"][0, 0, 0] for s in direct]
    assert {label for s in view for label in s["labels"].tolist()} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["cow"]}, "no category 'cow'; there are cat, dog, bird"),
        ({"classes": [3]}, "no category 3"),
        ({"classes": ["cat", 0]}, "names a category twice"),
        ({"classes": "cat"}, "must be a list"),
        ({"classes": []}, "must be a list"),
        ({"min_box": -1}, "min_box"),
        ({"limit": 0}, "limit"),
        ({"background": 1}, "background"),
    ],
)
def test_what_cannot_be_selected_is_refused(dataset, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dataset.select(**arguments)


def test_a_transform_gets_the_selected_objects(data):
    with LazyNPZDataset(data[0], transform=lambda sample: sample["labels"].tolist()) as dataset:
        view = dataset.select(classes=["dog"])
        assert {label for labels in view for label in labels} == {0}
        assert "a.npz, row" in view._place(0)


def test_selecting_takes_memory_for_row_numbers_only(tmp_path):
    count = 300_000
    corners = np.tile(np.array([0, 0, 8, 8], np.float32), (count, 1, 1))
    offsets = np.arange(count + 1)

    class Many(LazyNPZDataset):
        def __len__(self):
            return count

        def annotation_parts(self):
            yield {
                "bboxes": selected.RaggedArray(corners.reshape(-1, 4), offsets, check=False),
                "labels": selected.RaggedArray(np.zeros(count, np.int32), offsets, check=False),
            }

    boxes, labels = samples(np.random.default_rng(0), 2)
    with Many(write(tmp_path / "b.npz", boxes, labels)) as dataset:
        tracemalloc.start()
        view = dataset.select(classes=["cat"], min_box=4)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert view.samples == (count, count)
        assert peak < 60 * count
