import math
from itertools import chain

import pytest

from models.gallery import GROUP_SIZE, GROUPS, Candidate, Gallery


def gallery_of(qualities):
    """A gallery that was offered one sample of each quality; the image of a sample is its key."""
    gallery = Gallery()
    for key, quality in qualities.items():
        gallery.add(Candidate(quality, key), lambda key=key: (f"image of {key}", key))
    return gallery


def many(count):
    return {f"{i}.jpg": (i * 37 % count) / count for i in range(count)}


def test_it_shows_the_best_and_the_worst_samples_in_their_order():
    qualities = many(100)
    groups = gallery_of(qualities).groups()
    assert list(groups) == list(GROUPS)
    assert [qualities[key] for key in groups["best"]] == [0.99, 0.98, 0.97, 0.96]
    assert [qualities[key] for key in groups["worst"]] == [0, 0.01, 0.02, 0.03]


def test_no_sample_is_shown_twice_and_every_image_is_at_hand():
    for count in range(20):
        gallery = gallery_of(many(count))
        keys = list(chain(*gallery.groups().values()))
        assert len(keys) == len(set(keys)) == min(count, 3 * GROUP_SIZE)
        assert gallery.chosen() == {key: (f"image of {key}", key) for key in keys}


def test_few_images_are_kept_of_many_samples():
    assert len(gallery_of(many(1000)).samples) <= 36


def test_the_choice_does_not_depend_on_the_order_of_samples():
    qualities = many(50) | {f"equal {i}": 0.5 for i in range(50)}
    backwards = dict(reversed(qualities.items()))
    assert gallery_of(qualities).groups() == gallery_of(backwards).groups()


def test_the_random_samples_are_neither_the_first_nor_of_special_quality():
    ranks = []
    for start in range(0, 1000, 50):
        names = {f"{start + i}.jpg": i for i in range(50)}
        ranks += [names[key] for key in gallery_of(names).groups()["random"]]
    assert 15 < sum(ranks) / len(ranks) < 35


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_that_share_the_samples_choose_the_same(ranks):
    qualities = many(40)
    shares = [gallery_of(dict(list(qualities.items())[rank::ranks])) for rank in range(ranks)]
    chosen = {}
    for own in shares:
        gallery = Gallery()
        for share in shares:
            gallery.merge(share.seen, share.shortlist)
        assert gallery.groups() == gallery_of(qualities).groups()
        gallery.samples = own.samples
        chosen |= gallery.chosen()
    assert set(chosen) == set(chain(*gallery_of(qualities).groups().values()))


def test_a_sample_without_quality_is_among_the_worst():
    groups = gallery_of({**many(20), "unknown": math.nan}).groups()
    assert groups["worst"][0] == "unknown"
    assert "unknown" not in groups["best"]
