"""numpy's functions on StringDType that this project uses agree with Python's lists.

The dtype is young: `numpy.searchsorted` reads wrong memory for strings of more than 15 bytes
(numpy#31533), without an error. A numpy with another such fault fails here.
"""

import random

import numpy as np
import pytest

TEXT = np.dtypes.StringDType()
LENGTHS = (0, 1, 14, 15, 16, 17, 40, 300)  # up to 15 bytes are stored in the array itself
ALPHABETS = ("a", "ab", "ab/._é\N{GRINNING FACE}")


def some_texts(rng):
    """Returns texts of all kinds, some of them several times."""

    def text():
        return "".join(rng.choices(rng.choice(ALPHABETS), k=rng.choice(LENGTHS)))

    texts = [text() for _ in range(rng.choice((0, 1, 2, 30)))]
    return texts + rng.choices(texts, k=3) if texts else texts


@pytest.fixture(params=range(200))
def texts(request):
    return some_texts(random.Random(request.param))


def test_sorting_is_stable_and_by_code_point(texts):
    expected = sorted(range(len(texts)), key=texts.__getitem__)
    assert np.argsort(np.array(texts, dtype=TEXT), kind="stable").tolist() == expected


def test_unique_finds_each_text_its_copies_and_their_number(texts):
    array = np.array(texts, dtype=TEXT)
    unique, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    assert unique.tolist() == sorted(set(texts))
    assert unique[inverse].tolist() == texts
    assert counts.tolist() == [texts.count(text) for text in unique.tolist()]


def test_comparing_taking_and_joining_keep_every_text(texts):
    array, rng = np.array(texts, dtype=TEXT), random.Random(len(texts))
    backwards = texts[::-1]
    assert (array == array[::-1]).tolist() == [
        a == b for a, b in zip(texts, backwards, strict=True)
    ]
    for wanted in (*texts[:3], "absent" * 5):
        assert (array == wanted).tolist() == [text == wanted for text in texts]
    chosen = rng.choices(range(len(texts)), k=7) if texts else []
    assert array[np.array(chosen, dtype=np.int64)].tolist() == [texts[i] for i in chosen]
    mask = [rng.random() < 0.5 for _ in texts]
    kept = [text for text, is_kept in zip(texts, mask, strict=True) if is_kept]
    assert array[np.array(mask, dtype=bool)].tolist() == kept
    assert np.concatenate([array, array[:0], array]).tolist() == texts + texts
    assert np.full(3, "y" * 50, dtype=TEXT).tolist() == ["y" * 50] * 3


def test_assigning_through_a_mask_changes_these_texts_only(texts):
    array = np.array(texts, dtype=TEXT)
    is_long = np.array([len(text) > 15 for text in texts], dtype=bool)
    array[is_long] = "replaced by a longer text than before"
    expected = [t if len(t) <= 15 else "replaced by a longer text than before" for t in texts]
    assert array.tolist() == expected
