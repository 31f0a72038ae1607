import math

import numpy as np
import pytest

from processing.core.arguments import check_different, check_flag, check_integer, check_number

INTEGERS = [3, *(kind(3) for kind in (np.int8, np.uint8, np.int32, np.int64, np.uint64))]
NUMBERS = [*INTEGERS, 3.0, np.float16(3), np.float32(3), np.float64(3)]


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_any_integer_is_returned_as_an_int(value):
    found = check_integer("n", value, least=3)
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_any_number_is_returned_as_a_float(value):
    found = check_number("x", value, least=3, most=3)
    assert (type(found), found) == (float, 3.0)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_], ids=repr)
def test_any_boolean_is_returned_as_a_bool(value):
    found = check_flag("flag", value)
    assert type(found) is bool
    assert found == value


@pytest.mark.parametrize(
    "value", [True, np.True_, 3.0, np.float32(3), "3", None, np.array([3, 4])], ids=repr
)
def test_other_values_are_not_integers(value):
    with pytest.raises(TypeError, match=r"^n must be an integer, got "):
        check_integer("n", value, least=0)


@pytest.mark.parametrize("value", [True, np.True_, "3", None, 3j, np.array([3.0, 4.0])], ids=repr)
def test_other_values_are_not_numbers(value):
    with pytest.raises(TypeError, match=r"^x must be a number, got "):
        check_number("x", value, least=0)


@pytest.mark.parametrize("value", [0, 1, np.int64(1), 1.0, "true", "no", None], ids=repr)
def test_other_values_are_not_flags(value):
    with pytest.raises(TypeError, match=r"^flag must be true or false, got "):
        check_flag("flag", value)


@pytest.mark.parametrize("value", [np.int64(-1), -1, 1 << 63, np.uint64(1 << 63)], ids=repr)
def test_integers_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r"^n must be at (least 0|most)"):
        check_integer("n", value, least=0)


@pytest.mark.parametrize("value", [-1, math.nan, np.float32("nan"), math.inf, 1.5], ids=repr)
def test_numbers_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match=r"^x must be in \[0, 1\], got"):
        check_number("x", value, least=0, most=1)


def test_one_place_under_two_names_is_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file").write_text("")
    (tmp_path / "hard").hardlink_to(tmp_path / "file")
    for one, other in (
        (tmp_path / "a", str(tmp_path / "a")),
        (tmp_path / "a", tmp_path / "link"),
        (tmp_path / "a", tmp_path / "a" / ".." / "a"),
        (tmp_path / "file", tmp_path / "hard"),
        (tmp_path / "absent", tmp_path / "a" / ".." / "absent"),
        (tmp_path / "a" / "absent", tmp_path / "link" / "absent"),
    ):
        check_different("data_dir", [one])
        with pytest.raises(ValueError, match=r"data_dir names .* twice"):
            check_different("data_dir", [one, tmp_path / "other", other])
    check_different("data_dir", [tmp_path / "a", tmp_path / "file", tmp_path / "absent"])
