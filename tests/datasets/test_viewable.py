"""Data sets in a notebook: their HTML, `plot` and `info`."""

import base64
import copy
import io
import json
import re
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from PIL import Image

from processing.core.errors import ChecksumError, DatasetClosedError
from processing.data_processor import DataProcessor
from processing.datasets.notebook import dataset_html
from processing.imaging.row_pictures import COLOURS, small_jpegs
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from processing.npz.summary import summarize
from tests.conftest import damage_row, write_coco

VOID = {"img", "br"}


class Page(HTMLParser):
    """Reads HTML; fails on tags that are not closed in order.

    Attributes:
        text: all text.
        images: the pictures (H, W, 3) of all data URIs.
        tags: all tags that were opened.
    """

    def __init__(self, html):
        super().__init__()
        self.text, self.images, self.tags, self._open = "", [], [], []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "img":
            kind, _, data = dict(attrs)["src"].partition(";base64,")
            assert kind == "data:image/jpeg"
            picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            assert dict(attrs)["alt"]
            self.images.append(np.asarray(picture))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def opened(processed_dir):
    """Data sets of all kinds."""
    train, val = (LazyNPZDataset(processed_dir / f"{s}_detector.npz") for s in ("train", "val"))
    combined = CombinedLazyDataset([train, val])
    found = {
        "file": train,
        "combined": combined,
        "selected": combined.select(min_box=12),
        "landmarker": LazyNPZDataset(processed_dir / "train_landmarker.npz"),
        "teacher": LazyNPZDataset(processed_dir / "train_teacher.npz"),
    }
    yield found
    for dataset in found.values():
        dataset.close()


KINDS = ["file", "combined", "selected", "landmarker", "teacher"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_shows_a_table_and_eight_thumbnails(kind, opened):
    dataset = opened[kind]
    html = dataset._repr_html_()
    page = Page(html)
    assert len(page.images) == min(8, len(dataset))
    assert {max(picture.shape[:2]) for picture in page.images} == {144}
    assert len(html) < 200_000
    assert f"{len(dataset)}" in page.text
    assert dataset.task in page.text
    assert "face" in page.text
    assert "table" in page.tags
    # Text has the colour of the page, whether that is light or dark.
    assert set(re.findall(r"[^-]color:([^;\"]+)", html)) <= {"inherit"}
    assert "script" not in page.tags


def test_a_thumbnail_shows_the_box(opened):
    dataset = opened["file"]
    chosen = np.linspace(0, len(dataset) - 1, 8).round().astype(int)
    position = next(i for i, index in enumerate(chosen) if len(dataset[index]["bboxes"]) == 1)
    x1, y1, _, y2 = dataset[chosen[position]]["bboxes"][0] * (144 / 64)
    picture = Page(dataset._repr_html_()).images[position]
    found = picture[round((y1 + y2) / 2), round(x1)].astype(int)
    assert np.abs(found - COLOURS[0]).max() < 90  # a JPEG of few bytes


def test_thumbnails_of_noise_stay_small():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (144, 144, 3), dtype=np.uint8) for _ in range(8)]
    assert sum(map(len, small_jpegs(noise, 100_000))) <= 100_000


def write(path, names, paths, rows=2):
    images = np.zeros((rows, 16, 16, 3), np.uint8)
    offsets = np.arange(rows + 1)
    np.savez(
        path,
        images=images,
        bboxes=np.tile(np.float32([[1, 2, 8, 9]]), (rows, 1)),
        bboxes_offsets=offsets,
        labels=np.arange(rows),
        labels_offsets=offsets,
        image_paths=np.array(paths),
        metadata=np.array(json.dumps({"category_names": names})),
    )


def test_text_of_files_is_escaped(tmp_path):
    names = ["<script>alert(1)</script>", "a&b</td>"]
    write(tmp_path / "<b>.npz", names, ['x"><img src=y>.png', "\udcff.png"])
    with LazyNPZDataset(tmp_path / "<b>.npz") as dataset:
        page = Page(dataset._repr_html_())
        ax = dataset.plot(1)
        ax.figure.savefig(io.BytesIO())
    assert "script" not in page.tags
    assert names[0] in page.text
    assert names[1] in page.text
    assert len(page.images) == 2
    assert "<b>.npz" in page.text


def test_an_empty_data_set_has_no_thumbnails(tmp_path):
    write(tmp_path / "a.npz", ["cat"], np.zeros(0, "U1"), rows=0)
    with LazyNPZDataset(tmp_path / "a.npz") as dataset:
        page = Page(dataset._repr_html_())
    assert page.images == []
    assert "detector" in page.text


@pytest.mark.parametrize("kind", ["file", "combined", "selected"])
def test_a_closed_data_set_shows_text_that_says_so(kind, processed_dir):
    dataset = LazyNPZDataset(processed_dir / "train_detector.npz")
    if kind != "file":
        dataset = CombinedLazyDataset([dataset])
    if kind == "selected":
        dataset = dataset.select(limit=3)
    dataset.close()
    page = Page(dataset._repr_html_())
    assert "closed" in page.text
    assert page.images == []
    with pytest.raises(DatasetClosedError):
        dataset.info()


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_damaged_row_is_text_between_the_others(store, tmp_path):
    write_coco(tmp_path / "raw", images=8)
    DataProcessor(tmp_path / "raw", tmp_path, image_size=32, store=store).process_detector(
        train_split=1.0
    )
    path = tmp_path / "train_detector.npz"
    damage_row(path, 2)
    with LazyNPZDataset(path) as dataset:
        page = Page(dataset._repr_html_())
        with pytest.raises(ChecksumError, match="row 2"):
            dataset.plot(2)
    assert len(page.images) == 7
    assert "row 2 cannot be shown: ChecksumError" in page.text


def test_a_file_that_was_cut_is_text_and_no_error(processed_dir, tmp_path):
    path = tmp_path / "train_detector.npz"
    path.write_bytes((processed_dir / path.name).read_bytes())
    with LazyNPZDataset(path) as dataset:
        with path.open("r+b") as file:
            file.truncate(5000)
        page = Page(dataset._repr_html_())
    assert "was cut while in use" in page.text


class Broken(LazyNPZDataset):
    """A data set none of whose methods work."""

    def __repr__(self):
        raise RuntimeError("no text")

    def info(self):
        raise ValueError("no <facts>")


def test_html_never_raises(processed_dir):
    with Broken(processed_dir / "train_detector.npz") as dataset:
        page = Page(dataset_html(dataset))
    assert "Broken" in page.text
    assert "ValueError: no <facts>" in page.text


def test_many_rows_are_not_counted_to_be_shown(opened, monkeypatch):
    monkeypatch.setattr("processing.datasets.viewable._MOST_ROWS", 5)
    page = Page(opened["file"]._repr_html_())
    assert len(page.images) == 8
    assert "info() counts the objects" in page.text
    assert repr(opened["file"]) in page.text


def test_info_of_a_file_is_its_summary_and_that_of_a_view_has_what_it_selects(opened):
    assert opened["file"].info() == summarize(opened["file"].columns)
    combined, selected = opened["combined"], opened["selected"]
    assert combined.info().rows == len(combined)
    assert len(combined.info().paths) == 2
    found = selected.info()
    assert found.rows == len(selected) < found.selected_from == len(combined)
    assert found.objects.total == selected.objects.kept
    assert found.objects.empty == 0
    assert (found.first_path, found.last_path) == (
        selected[0]["image_path"],
        selected[-1]["image_path"],
    )
    assert f"{len(selected)} selected of {len(combined)}" in str(found)
    again = CombinedLazyDataset([selected, selected]).info()
    assert (again.rows, again.selected_from) == (2 * found.rows, 2 * len(combined))


def test_a_selection_of_a_selection_counts_from_all_rows(opened):
    twice = opened["selected"].select(limit=3)
    assert twice.info().selected_from == len(opened["combined"])


def test_info_prints_nicely_and_shows_itself_in_a_notebook(opened):
    info = opened["landmarker"].info()
    assert repr(info) == str(info)
    assert "keypoints" in str(info)
    page = Page(info._repr_html_())
    assert "left_eye" in page.text
    assert "images" in page.text


@pytest.mark.parametrize("kind", KINDS)
def test_plot_draws_boxes_and_points_where_they_are(kind, opened):
    dataset = opened[kind]
    number = next(i for i in range(len(dataset)) if len(dataset.shown_rows([i])[0].names) or i > 2)
    (row,) = dataset.shown_rows([number])
    ax = dataset.plot(number)
    boxes = [] if row.boxes is None else row.boxes
    drawn = [[*p.get_xy(), p.get_width(), p.get_height()] for p in ax.patches]
    expected = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
    np.testing.assert_allclose(np.reshape(drawn, (-1, 4)), np.reshape(expected, (-1, 4)))
    points = np.stack(ax.lines[0].get_data(), axis=1)
    np.testing.assert_allclose(points, row.visible_points)
    height, width = dataset.image_size
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, width), (height, 0))
    assert ax.images[0].get_extent() == [0, width, height, 0]
    assert row.path in ax.get_title()


def test_plot_shows_itself_and_leaves_no_figure_and_no_setting_behind(opened):
    before = copy.deepcopy(dict(matplotlib.rcParams))
    ax = opened["file"].plot(-1)
    picture = Image.open(io.BytesIO(ax._repr_png_()))
    assert picture.width > 100
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_plot_draws_on_given_axes_and_names_categories(tmp_path):
    from matplotlib.figure import Figure

    write(tmp_path / "a.npz", ["cat", r"$\dog_2$"], ["a.png", r"b_$\x$.png"])
    axes = Figure().subplots(1, 2)
    with LazyNPZDataset(tmp_path / "a.npz") as dataset:
        assert dataset.plot(1, ax=axes[1]) is axes[1]
        with pytest.raises(IndexError, match="out of range for 2"):
            dataset.plot(2)
    assert [text.get_text() for text in axes[1].texts] == [r"$\dog_2$"]
    assert axes[1].get_title() == r"1: b_$\x$.png"
    axes[1].figure.savefig(io.BytesIO())  # dollar signs are no formula
    assert not axes[0].images


def test_rows_are_shown_before_the_transform(processed_dir):
    path = processed_dir / "train_detector.npz"
    with LazyNPZDataset(path, transform=lambda sample: 0) as dataset:
        assert len(Page(dataset._repr_html_()).images) == 8
        assert dataset.shown_rows([3])[0].image.shape == (64, 64, 3)
