import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.core.annotations import SPLITS, UNASSIGNED
from processing.run.splits import assign_splits

TRAIN, VAL, TEST = (SPLITS.index(name) for name in ("train", "val", "test"))


def split_free(paths, **options):
    official = np.full(len(paths), UNASSIGNED, dtype=np.int8)
    return assign_splits(paths, official, **{"train_split": 0.8, **options})


@pytest.mark.parametrize("train_split", [0.0, 0.25, 0.8, 1.0])
def test_the_share_is_met_exactly(train_split):
    splits = split_free([f"{i}.jpg" for i in range(1000)], train_split=train_split)
    assert (splits == TRAIN).sum() == 1000 * train_split


def test_neither_side_is_empty_where_there_are_two_groups():
    assert sorted(split_free(["a", "b"], train_split=0.99).tolist()) == [TRAIN, VAL]


@settings(max_examples=60, deadline=None)
@given(
    paths=st.lists(st.text("abc/é", min_size=1, max_size=4), min_size=1, max_size=40, unique=True),
    train_split=st.floats(0, 1),
    seed=st.integers(0, 5),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_order_of_the_images_does_not_matter(paths, train_split, seed, shuffle):
    shuffled = list(paths)
    shuffle.shuffle(shuffled)
    first = dict(zip(paths, split_free(paths, train_split=train_split, seed=seed), strict=True))
    again = dict(
        zip(shuffled, split_free(shuffled, train_split=train_split, seed=seed), strict=True)
    )
    assert first == again


def test_ten_percent_more_data_moves_less_than_one_percent():
    old = [f"{i}.jpg" for i in range(10_000)]
    before = split_free(old)
    after = split_free(old + [f"new/{i}.jpg" for i in range(1_000)])[:10_000]
    assert (before != after).sum() < 100


def test_another_seed_is_another_split():
    paths = [f"{i}.jpg" for i in range(100)]
    assert (split_free(paths, seed=0) != split_free(paths, seed=1)).any()


@settings(max_examples=40, deadline=None)
@given(videos=st.lists(st.integers(0, 9), min_size=2, max_size=60), train_split=st.floats(0, 1))
def test_no_group_is_in_two_splits(videos, train_split):
    paths = [f"video{v}/frame{i}.jpg" for i, v in enumerate(videos)]
    splits = split_free(paths, group_by=r"video(\d+)/", train_split=train_split)
    for video in set(videos):
        assert len({s for s, v in zip(splits.tolist(), videos, strict=True) if v == video}) == 1


def test_official_splits_stay_and_their_groups_follow():
    paths = ["p1/a.jpg", "p1/b.jpg", "p2/a.jpg", "p3/a.jpg"]
    official = np.array([VAL, UNASSIGNED, TEST, UNASSIGNED], dtype=np.int8)
    splits = assign_splits(paths, official, train_split=1.0, group_by=r"^(p\d)")
    assert splits.tolist() == [VAL, VAL, TEST, TRAIN]


def test_an_image_that_the_pattern_does_not_match_is_a_group_of_its_own():
    paths = [f"loose{i}.jpg" for i in range(10)]
    assert (split_free(paths, group_by=r"video(\d+)") == TRAIN).sum() == 8


def test_the_first_group_that_finds_something_names_the_image_s_group():
    paths = [f"{person}_{i}.jpg" for person in ("p1", "p2", "q1", "q2", "q3") for i in range(4)]
    splits = split_free(paths, group_by=r"(p\d+)_|(q\d+)_", train_split=0.5)
    sides = {path[:2]: set() for path in paths}
    for path, side in zip(paths, splits.tolist(), strict=True):
        sides[path[:2]].add(side)
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match=r"train_split must be in \[0, 1\]"):
        split_free(["a"], train_split=bad)


def test_a_broken_pattern_is_named():
    with pytest.raises(ValueError, match=r"group_by='\('"):
        split_free(["a"], group_by="(")
