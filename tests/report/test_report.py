"""The data report: what its page says about processed files, without a browser."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import simplejpeg
from isal.isal_zlib import crc32

from processing import DataProcessor
from processing.__main__ import main
from processing.core.errors import ForeignFileError
from processing.core.urls import URL
from processing.report.chart_data import charts_of
from processing.report.duplicates import path_of
from processing.report.hashes import different, hash_paths
from processing.report.pixels import as_rgb
from processing.report.sheets import make_sheets
from processing.report.statistics import HEAT_SIDE, SIZE_EDGES, measure
from processing.report.summary import photographs
from processing.report.survey import Survey, survey
from processing.report.thumbnails import encode_all
from processing.report.write import make_report, write_report
from tests.conftest import damage_row
from tests.remote.servers import RangeServer
from tests.report.data import HOSTILE, make_raw

LIMIT = 5_000_000


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """A directory with raw data that has one fault of each kind, and the files made of it."""
    root = tmp_path_factory.mktemp("report")
    make_raw(root / "raw")
    settings = {"image_size": 64, "progress": False, "num_workers": 1}
    DataProcessor(root / "raw", root / "preprocessed", **settings).process_all()
    return root


@pytest.fixture(scope="module")
def page(processed):
    return make_report([processed / "preprocessed"], processed / "raw")


@pytest.fixture(scope="module")
def known(processed):
    return survey([processed / "preprocessed"], processed / "raw")


def test_the_summary_states_photographs_and_problems_in_plain_words(page):
    (title,) = re.findall(r"<h1[^>]*>(.*?)</h1>", page)
    assert title == "24 photographs, 4 problems to look at"
    for problem in ("1 pair of identical images in different splits", "2 inputs rejected"):
        assert problem in page


def test_names_and_paths_cannot_become_markup(page):
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert page.count("<script") == page.count("</script") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert HOSTILE in data["names"]


def test_the_page_refers_to_nothing_outside_of_it(page):
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "default-src 'none'" in page
    assert len(page.encode()) < LIMIT


def test_every_picture_has_a_text_and_every_table_a_caption(page):
    assert len(re.findall(r'<img src="data:image/webp;base64,[^"]+" alt="[^"]+"', page)) > 20
    assert page.count("<img") == len(re.findall(r'<img src="[^"]*" alt="[^"]+"', page))
    assert page.count("<table") == page.count("<caption")
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_each_chart_of_several_splits_says_which_colour_is_which(page):
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    keys = [re.findall(r'class="swatch s(\d)', figure) for figure in figures]
    assert len(figures) > 10
    for figure, key in zip(figures, keys, strict=True):
        assert key == ([] if ">Places<" in figure else ["0", "1"])


def test_only_a_chart_of_many_categories_takes_two_rows(processed, monkeypatch):
    found = survey([processed / "preprocessed" / "train_detector.npz"], None)
    assert not any(chart.is_tall for chart in charts_of(found, "detector"))
    names = [f"category {number}" for number in range(20)]
    monkeypatch.setattr(Survey, "names_of", lambda *_: tuple(names))
    tall = [chart.title for chart in charts_of(found, "detector") if chart.is_tall]
    assert tall == ["Categories"]


def test_equal_files_give_equal_bytes_wherever_they_are(page, processed, tmp_path):
    moved = shutil.copytree(processed, tmp_path / "moved")
    assert make_report([moved / "preprocessed"], moved / "raw") == page


def test_photographs_that_are_gone_are_named_with_the_reason(processed):
    without = make_report([processed / "preprocessed" / "train_teacher.npz"])
    assert "The photographs are not known here: give --raw-data-dir" in without
    assert "<code>train/gone.jpg</code>" in without


def test_counts_are_those_of_the_files(known):
    (train,) = [i for i in known.of_task("detector") if known.files[i].split == "train"]
    file, found = known.files[train], known.statistics[train]
    boxes = file.contents.annotations["bboxes"]
    counts = np.diff(boxes.offsets)
    assert found.objects == len(boxes.values) == found.sizes.sum() == found.labels.sum()
    assert found.empty == (counts == 0).sum()
    assert found.crowded[0][0] == counts.max()
    sizes = np.sqrt(np.prod(boxes.values[:, 2:] - boxes.values[:, :2], axis=1))
    assert found.smallest[0][0] == pytest.approx(sizes.min())
    assert found.sizes.tolist() == np.histogram(sizes, SIZE_EDGES)[0].tolist()
    assert found.heat.shape == (HEAT_SIDE, HEAT_SIDE)


def test_identical_images_of_two_splits_are_a_leak_and_those_of_one_are_not(known):
    assert (known.same.across, known.same.within) == (1, 1)
    (one, other), _ = known.same.pairs
    assert {known.compared[place.file].split for place in (one, other)} == {"train", "val"}


def test_an_image_that_was_changed_a_little_looks_like_the_original(known):
    assert known.near.across + known.near.within >= 1
    assert not {frozenset(p) for p in known.near.pairs} & {frozenset(p) for p in known.same.pairs}


def test_none_of_three_copies_is_said_to_look_like_another_one(tmp_path):
    make_raw(tmp_path / "raw")  # where copy_in_val.jpg is a copy of 1.jpg
    shutil.copy(tmp_path / "raw/train/1.jpg", tmp_path / "raw/val/17.jpg")
    settings = {"image_size": 64, "progress": False, "num_workers": 1}
    DataProcessor(tmp_path / "raw", tmp_path / "out", **settings).process(["detector"])
    found = survey([tmp_path / "out"], None)
    assert found.same.across == 2
    paths = [{path_of(found.compared, place) for place in pair} for pair in found.near.pairs]
    assert {"val/17.jpg", "val/copy_in_val.jpg"} not in paths


@pytest.fixture(scope="module")
def two_data_sets(tmp_path_factory):
    """Output directories of two data sets whose files, paths and labels mean other things."""
    root = tmp_path_factory.mktemp("two")
    for name, categories in (("one", ["cat", "dog"]), ("other", ["bird", "cat"])):
        splits = {"train": "a.png", "val": "b.png"} if name == "one" else {"val": "a.png"}
        for split, path in splits.items():
            (root / name).mkdir(exist_ok=True)
            np.savez(
                root / name / f"{split}_detector.npz",
                images=np.random.default_rng(len(name)).integers(0, 256, (1, 32, 32, 3), np.uint8),
                bboxes=np.array([[2, 2, 9, 9], [3, 3, 30, 30], [4, 4, 20, 20]], np.float32),
                bboxes_offsets=np.array([0, 3]),
                labels=np.array([0, 0, 1]),
                labels_offsets=np.array([0, 3]),
                image_paths=np.array([path]),
                metadata=json.dumps({"category_names": categories, "split": split}),
            )
    return survey([root / "one", root / "other"], None)


def test_files_of_one_name_are_told_apart_by_their_directories(two_data_sets):
    names = [file.name for file in two_data_sets.files]
    assert names == ["train_detector.npz", "one/val_detector.npz", "other/val_detector.npz"]


def test_each_data_set_keeps_the_names_of_its_own_categories(two_data_sets):
    assert two_data_sets.names_of("detector") == ("cat", "dog", "bird")
    labels = [counted.labels.tolist() for counted in two_data_sets.statistics]
    assert labels == [[2, 1, 0], [2, 1, 0], [1, 0, 2]]
    pictures = [picture for sheet in make_sheets(two_data_sets) for picture in sheet.pictures]
    shown = {picture.file: picture.categories for picture in pictures}
    assert shown["other/val_detector.npz"] == ["bird", "bird", "cat"]
    assert shown["one/val_detector.npz"] == ["cat", "cat", "dog"]


def test_charts_have_one_column_for_all_files_of_a_split(two_data_sets):
    categories = next(c for c in charts_of(two_data_sets, "detector") if c.title == "Categories")
    assert categories.head == ["category", "train", "val"]
    assert categories.rows == [["cat", "2", "3"], ["dog", "1", "1"], ["bird", "0", "2"]]


def test_equal_paths_in_two_data_sets_are_no_leak(two_data_sets):
    assert two_data_sets.paths == []


def test_each_directory_counts_as_a_data_set_of_its_own(processed, tmp_path):
    shutil.copytree(processed / "preprocessed", tmp_path / "copy")
    found = survey([processed / "preprocessed", tmp_path / "copy"], processed / "raw")
    assert photographs(found) == 2 * 24
    assert {reason.name: reason.count for reason in found.left_out.rejected} == {
        "missing_image": 2,
        "truncated": 2,
    }
    dropped = next(sheet for sheet in make_sheets(found) if sheet.name == "dropped")
    shown = [(picture.path, picture.file) for picture in dropped.pictures]
    assert len(shown) == len(set(shown)) == 4


def test_lists_are_counted_once_for_all_tasks(known):
    rejected = {reason.name: reason.count for reason in known.left_out.rejected}
    assert rejected == {"truncated": 1, "missing_image": 1}
    dropped = {reason.name: reason.count for reason in known.left_out.dropped}
    assert dropped == {"inverted": 1, "crowd": 1}
    assert [reason.by_rules for reason in known.left_out.dropped] == [False, True]


def test_a_file_that_cannot_be_read_is_a_problem_and_the_others_are_shown(processed, tmp_path):
    directory = shutil.copytree(
        processed / "preprocessed", tmp_path / "d", ignore=shutil.ignore_patterns("*[kt]*r.npz")
    )
    shutil.copy(processed / "preprocessed" / "train_teacher.npz", directory)
    (directory / "val_teacher.npz").write_bytes(b"PK\x03\x04 cut off")
    (directory / "train_teacher.dropped.jsonl").write_text("{no json\n")
    text = make_report([directory])
    assert "2 files cannot be read" in text
    assert str(tmp_path) not in text


def test_an_image_that_several_pictures_would_show_is_one_that_cannot_be_read(processed, tmp_path):
    shutil.copytree(processed / "preprocessed", tmp_path / "d")
    path = tmp_path / "d" / "train_detector.npz"
    with np.load(path) as npz:
        members = dict(npz)
    rows = [simplejpeg.encode_jpeg(image) for image in members.pop("images")]
    rows[3] = rows[3][:-200]
    members["images_jpeg"] = np.frombuffer(b"".join(rows), np.uint8)
    members["images_offsets"] = np.cumsum([0, *map(len, rows)])
    members["image_crc32"] = np.array([crc32(row) for row in rows], np.uint32)
    np.savez(path, **members)
    text = make_report([tmp_path / "d"])
    assert "1 image cannot be read" in text
    assert text.count("row 3 (") == 1


def test_an_image_that_differs_from_its_checksum_is_named_and_not_shown(processed, tmp_path):
    path = tmp_path / "train_detector.npz"
    shutil.copy(processed / "preprocessed" / path.name, path)
    damage_row(path, 0)
    found = survey([path], None)
    assert len(found.failures) == 1
    assert "row 0 (train/" in found.failures[0]
    assert 0 not in found.looks[0].rows
    assert "1 image cannot be read" in make_report([path])


def test_files_of_which_none_can_be_read_are_an_error_that_names_them(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val_teacher.npz").write_bytes(b"PK\x03\x04 cut off")
    assert main(["report", "val_teacher.npz"]) == 1
    error = capsys.readouterr().err
    assert "so there is nothing to show: val_teacher.npz: not a complete NPZ" in error


@pytest.mark.parametrize("settings", [{"store": "original"}, {"samples_per_shard": 6}])
def test_encoded_images_sets_and_urls_are_read(processed, tmp_path, settings):
    common = {"image_size": 64, "progress": False, "num_workers": 1, "store": "jpeg", **settings}
    DataProcessor(processed / "raw", tmp_path, **common).process(["detector"])
    text = make_report([tmp_path], processed / "raw")
    assert "24 photographs" in text
    assert "1 pair of identical images in different splits" in text
    with RangeServer(tmp_path).running() as server:
        url = URL(server.url)
        assert make_report([url], processed / "raw") == text
        with pytest.raises(FileNotFoundError, match="no NPZ file there"):
            make_report([url / "nowhere"])


def test_files_of_other_programs_are_read(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        images=rng.random((5, 3, 20, 24), np.float32),
        bboxes=rng.random((5, 4)).astype(np.float32),
        image_paths=np.array([f"{i}.png" for i in range(5)]),
    )
    assert "5 photographs" in make_report([tmp_path / "mine.npz"])


def test_a_run_writes_the_page_and_never_replaces_that_of_another_program(processed, tmp_path):
    settings = {"image_size": 32, "progress": False, "num_workers": 1, "report": True}
    processor = DataProcessor(processed / "raw", tmp_path, **settings)
    processor.process(["teacher"])
    written = (tmp_path / "report.html").read_text()
    assert "problems to look at" in written
    processor.process(["teacher"])
    (tmp_path / "report.html").write_text("<html>mine</html>")
    with pytest.raises(ForeignFileError, match=r"report\.html: expected a report of ours"):
        processor.process(["teacher"])
    with pytest.raises(ValueError, match="report needs all shards"):
        processor.process_shards(["teacher"], 0)
    with pytest.raises(ValueError, match="report needs a local output_dir"):
        DataProcessor(processed / "raw", "s3://bucket/out", report=True)


def test_the_command_writes_the_page_and_finds_the_photographs_next_to_it(
    processed, tmp_path, capsys
):
    output, file = tmp_path / "new" / "page.html", processed / "preprocessed" / "val_detector.npz"
    assert main(["report", str(file), "-o", str(output)]) == 0
    assert output.read_text() == make_report([file], processed / "raw")
    assert capsys.readouterr().out == f"{output}: {output.stat().st_size:,} bytes\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 1, "not there; expected a directory of NPZ files"),
        (["."], 1, "no NPZ file there"),
        ([".", "--raw-data-dir", "nowhere"], 2, "is not a directory"),
        ([".", "-o", "."], 2, "expected the name of a file"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == status
    assert message in capsys.readouterr().err


def test_without_the_extra_the_message_has_the_command_that_installs_it(
    processed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", str(processed / "preprocessed")]) == 1
    assert 'pip install "npz-vision-data[report]"' in capsys.readouterr().err
    with pytest.raises(ImportError, match=r"npz-vision-data\[report\]"):
        DataProcessor(processed / "raw", tmp_path, report=True)


@pytest.mark.long
def test_a_page_of_noise_stays_below_its_limit(tmp_path):
    rng = np.random.default_rng(0)
    rows = 400
    counts = np.full(rows, 300)
    np.savez(
        tmp_path / "noise.npz",
        images=rng.integers(0, 256, (rows, 320, 320, 3), np.uint8),
        bboxes=rng.random((rows * 300, 4), np.float32) * 320,
        bboxes_offsets=np.append(0, np.cumsum(counts)),
        labels=rng.integers(0, 500, rows * 300),
        labels_offsets=np.append(0, np.cumsum(counts)),
        image_paths=np.array(['"' * 400 + f"{i}.png" for i in range(rows)]),
    )
    write_report(tmp_path / "page.html", [tmp_path / "noise.npz"])
    assert 1_000_000 < (tmp_path / "page.html").stat().st_size < LIMIT


def test_pictures_share_the_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    flat = np.zeros((320, 320, 3), np.uint8)
    urls = encode_all([flat, noise, flat, noise], 40_000)
    assert sum(map(len, urls)) <= 40_000
    assert len(urls[1]) > 5_000


def test_hashes_of_paths_do_not_depend_on_the_length_of_the_longest():
    short, long = np.array(["a/b.jpg", "b"]), np.array(["a/b.jpg", "b", "x" * 90])
    assert hash_paths(long)[:2].tolist() == hash_paths(short).tolist()
    assert len(different(hash_paths(np.array(["ab", "ba", "ab"])))) == 2


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (np.full((4, 5, 1), 7, np.uint8), 7),
        (np.full((3, 4, 5), 0.5, np.float32), 128),
        (np.ones((4, 5, 1), bool), 255),
        (np.full((4, 5, 4), 300, np.uint16), 0),  # stretched: all values are the lowest
    ],
)
def test_images_of_any_kind_become_rgb(image, pixel):
    rgb = as_rgb(image)
    assert (rgb.shape, rgb.dtype) == ((4, 5, 3), np.uint8)
    assert (rgb == pixel).all()


def test_measuring_in_chunks_gives_the_same(known, monkeypatch):
    monkeypatch.setattr("processing.report.statistics._CHUNK", 3)
    for file, whole in zip(known.files, known.statistics, strict=True):
        parts = measure(file)
        for name in ("sizes", "aspects", "per_image", "heat", "labels", "visibility", "paths"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        assert parts.crowded == whole.crowded
        assert parts.smallest == whole.smallest
        assert parts.first == whole.first
