"""The drawings of a report, without a page."""

import re
import warnings

import numpy as np

from processing.report.charts import Axis, Series, bars, steps

SHAPES = (1, 2, 0.5, 5, 0.2, 10, 0.1, 1.4, 0.7)


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_long_names_of_categories_keep_the_ends_that_tell_them_apart():
    names = [f"category number {number}" for number in (101, 102, 103)]
    shown = texts(bars("c", names, [Series(0, np.array([1.0, 2.0, 3.0]))]))[-3:]
    assert [name[-3:] for name in shown] == ["101", "102", "103"]


def test_names_in_other_scripts_raise_no_warning_and_stay_text():
    names = ["日本語", "حيوان", "😀"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = bars("c", names, [Series(0, np.array([1.0, 2.0, 3.0]))])
    assert set(names) <= set(texts(svg))


def test_whole_numbers_stand_below_the_middle_of_their_bins():
    axis = Axis("objects", np.arange(5) - 0.5, is_whole=True)
    assert axis.bins() == ["0", "1", "2", "3"]
    shown = texts(steps("c", axis, [Series(0, np.array([1, 2, 2, 1]))]))
    assert shown[:4] == ["0", "1", "2", "3"]
    assert Axis("objects", np.arange(3) * 4 - 0.5, is_whole=True).bins() == ["0 to 3", "4 to 7"]
    assert Axis("pixels", np.array([0.5, 0.75, 1])).bins() == ["0.5 to 0.75", "0.75 to 1"]


def test_labels_of_an_axis_are_left_out_where_they_would_overlap():
    edges = 2.0 ** np.arange(-4, 4.25, 0.25)
    counts = np.zeros(32, int)
    counts[[0, 31]] = 1
    wide = texts(steps("c", Axis("shape", edges, SHAPES), [Series(0, counts)]))
    assert {"0.5", "1", "2"} < set(wide)
    assert not {"0.7", "1.4"} & set(wide)
    counts = np.zeros(32, int)
    counts[14:18] = 1
    narrow = texts(steps("c", Axis("shape", edges, SHAPES), [Series(0, counts)]))
    assert {"1", "1.4", "0.7"} <= set(narrow)
