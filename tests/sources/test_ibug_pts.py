import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

TWO = "version: 1\nn_points:  2\n{\n115.5 220.25\n1 1\n}\n"


def test_points_are_counted_from_one(tmp_path):
    reading = read_sources(write_raw(tmp_path, {"a.pts": TWO}, ["a.png"]))
    assert points_of(reading) == {"a.png": [[[114.5, 219.25, 2], [0, 0, 2]]]}
    assert boxes_of(reading) == {"a.png": [("face", None)]}
    assert reading.table.flags.tolist() == [Flag.NO_BOX]


def test_coordinate_base_zero_takes_points_as_written(tmp_path):
    write_raw(tmp_path, {"a.pts": TWO}, ["a.png"])
    reading = read_sources(tmp_path, [{"format": "ibug_pts", "coordinate_base": 0}])
    assert points_of(reading) == {"a.png": [[[115.5, 220.25, 2], [1, 1, 2]]]}


@pytest.mark.parametrize(
    "text",
    [
        TWO.replace("\n", "\r\n"),
        "\ufeff" + TWO,
        TWO + "\n\n",
        TWO.removesuffix("\n"),
        TWO.replace("{\n", "{ \n\n"),
        "n_points: 2 {115.5 220.25\n1\t1}",
    ],
)
def test_spacing_and_line_ends_do_not_matter(tmp_path, text):
    reading = read_sources(write_raw(tmp_path, {"a.pts": text}, ["a.png"]))
    assert points_of(reading) == {"a.png": [[[114.5, 219.25, 2], [0, 0, 2]]]}


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png"])
def test_the_image_is_next_to_the_points_with_the_same_name(tmp_path, suffix):
    images = [f"x/i.1{suffix}", "y/i.1.png", f"x/i.1_mirror{suffix}"]
    reading = read_sources(write_raw(tmp_path, {"x/i.1.pts": TWO}, images))
    assert list(boxes_of(reading)) == [images[0]]


def test_trainset_and_testset_are_splits(tmp_path):
    paths = ["lfpw/trainset/a", "lfpw/testset/b", "val/c"]
    reading = read_sources(
        write_raw(tmp_path, {f"{p}.pts": TWO for p in paths}, [f"{p}.png" for p in paths])
    )
    assert list(splits_of(reading).values()) == ["test", "train", "val"]


@pytest.mark.parametrize(
    "text",
    [
        TWO.replace("2\n{", "3\n{"),
        TWO.replace("1 1\n", ""),
        TWO.replace("1 1", "1"),
        TWO.replace("1 1", "1 1 1"),
        TWO.replace("1 1", "x 1"),
        TWO.replace("}\n", ""),
        "",
    ],
)
def test_only_a_bad_file_and_its_image_are_rejected(tmp_path, text):
    files = {"a.pts": TWO, "b.pts": text}
    reading = read_sources(write_raw(tmp_path, files, ["a.png", "b.png"]))
    assert list(boxes_of(reading)) == ["a.png"]
    assert reasons_of(reading) == [("b.pts", "malformed"), ("b.png", "no_usable_annotation")]


def test_a_file_cut_short_at_any_byte_is_rejected(tmp_path):
    whole = TWO.removesuffix("\n")
    for end in range(len(whole)):
        with pytest.raises(SourceError, match=r"a\.pts: expected"):
            read_sources(write_raw(tmp_path, {"a.pts": whole[:end]}, ["a.png"]))


def test_points_without_an_image_are_rejected(tmp_path):
    reading = read_sources(write_raw(tmp_path, {"a.pts": TWO, "b.pts": TWO}, ["a.png"]))
    assert reasons_of(reading) == [("b.pts", "missing_image")]


def test_a_missing_image_is_not_replaced_by_one_of_another_folder(tmp_path):
    files = {"lfpw/testset/a.pts": TWO, "lfpw/trainset/a.pts": TWO, "helen/a.pts": TWO}
    reading = read_sources(write_raw(tmp_path, files, ["lfpw/trainset/a.png"]))
    assert list(boxes_of(reading)) == ["lfpw/trainset/a.png"]
    assert len(reading.table.points) == 1
    assert reasons_of(reading) == [
        ("helen/a.pts", "missing_image"),
        ("lfpw/testset/a.pts", "missing_image"),
    ]


@pytest.mark.parametrize("row", ["31,41", "31 41 5", "31"])
def test_a_row_that_is_no_point_is_shown(tmp_path, row):
    files = {"a.pts": f"version: 1\nn_points: 2\n{{\n30 40\n{row}\n}}\n", "b.pts": TWO}
    reading = read_sources(write_raw(tmp_path, files, ["a.png", "b.png"]))
    assert reasons_of(reading)[0] == ("a.pts", "malformed")
    assert f"found {row!r}" in reading.rejections[0].message
