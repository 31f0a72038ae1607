"""``npz-vision preview FILE -o grid.png``: pictures are compared by what is drawn."""

import cv2
import numpy as np
import pytest

from processing.__main__ import main
from processing.data_processor import DataProcessor
from processing.imaging.row_pictures import COLOURS, POINT_COLOUR, displayable
from tests.conftest import damage_row, write_coco

SIDE = 128
CORNER = (6, 34)
"""x, y of the first tile on a sheet: a gap, and the caption above."""


def drawn(capsys, path, *arguments, picture="grid.png"):
    """Draws a sheet; returns its pixels (H, W, 3) RGB, and the numbers of the drawn rows."""
    output = path.parent / picture if path.parent.is_dir() else picture
    status = main(["preview", str(path), "-o", str(output), "--side", str(SIDE), *arguments])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    rows = [int(number) for number in shown.out.rpartition(": ")[2].split(",")]
    return cv2.imread(str(output))[..., ::-1], rows


def pixel(sheet, x, y, scale):
    """Returns the pixel of the first tile at coordinates of the stored image."""
    return sheet[CORNER[1] + round(y * scale), CORNER[0] + round(x * scale)].tolist()


def is_near(found, colour, by=60):
    return max(abs(a - b) for a, b in zip(found, colour, strict=True)) <= by


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Directories of files by store, with flat boxes on dark noise."""
    folder = tmp_path_factory.mktemp("preview")
    write_coco(folder / "photographs", images=10, sizes=((96, 96),))
    for store in ("raw", "jpeg", "original"):
        size = {"detector": 64, "landmarker": 48, "teacher": (40, 80)}
        DataProcessor(
            folder / "photographs", folder / store, image_size=size, store=store, num_workers=1
        ).process_all(train_split=1.0)
    return folder


@pytest.mark.parametrize("store", ["raw", "jpeg", "original"])
def test_the_outline_of_a_box_is_at_its_edges(store, stored, capsys):
    path = stored / store / "train_detector.npz"
    with np.load(path) as file:
        row = int(np.flatnonzero(np.diff(file["bboxes_offsets"]))[0])
        x1, y1, x2, y2 = file["bboxes"][file["bboxes_offsets"][row]]
    sheet, rows = drawn(capsys, path, "--rows", str(row))
    assert rows == [row]
    scale = SIDE / 64
    for x, y in ((x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2), ((x1 + x2) / 2, y1)):
        assert is_near(pixel(sheet, x, y, scale), COLOURS[0])
    inside = pixel(sheet, (x1 + x2) / 2, (y1 + y2) / 2, scale)
    assert not is_near(inside, COLOURS[0], by=10)


def test_points_of_a_landmarker_are_dots(stored, capsys):
    path = stored / "raw" / "train_landmarker.npz"
    with np.load(path) as file:
        points = file["keypoints"][2]
    sheet, _ = drawn(capsys, path, "--rows", "2")
    for x, y, _visibility in points:
        assert is_near(pixel(sheet, x, y, SIDE / 48), POINT_COLOUR)


def test_the_box_of_a_teacher_is_drawn_where_the_crop_shows_it(stored, capsys):
    """The crop has a quarter of the box as margin on each side, and boxes are flat areas."""
    path = stored / "raw" / "train_teacher.npz"
    sheet, _ = drawn(capsys, path, "--rows", "3")
    with np.load(path) as file:
        (x1, y1, x2, y2), rect = file["bboxes"][3], file["source_rects"][3]
    scales = 80 / (rect[2] - rect[0]), 40 / (rect[3] - rect[1])
    x1, x2 = (x1 - rect[0]) * scales[0], (x2 - rect[0]) * scales[0]
    y1, y2 = (y1 - rect[1]) * scales[1], (y2 - rect[1]) * scales[1]
    for x, y in ((x1, (y1 + y2) / 2), ((x1 + x2) / 2, y2)):
        assert is_near(pixel(sheet, x, y, SIDE / 80), COLOURS[0])


def test_rows_are_random_by_seed_and_all_of_a_small_file(stored, capsys):
    path = stored / "raw" / "train_detector.npz"
    first, again, other = (
        drawn(capsys, path, "-n", "4", "--seed", seed)[1] for seed in ("1", "1", "2")
    )
    assert len(set(first)) == 4
    assert first == again != other
    sheet, rows = drawn(capsys, path, "-n", "100")
    assert rows == list(range(10))
    assert sheet.shape[1] == 4 * (SIDE + 6) + 6


def test_a_set_is_drawn_and_the_ending_decides_between_png_and_jpeg(tmp_path, capsys):
    write_coco(tmp_path / "raw", images=4)
    DataProcessor(
        tmp_path / "raw", tmp_path / "out", image_size=32, samples_per_shard=2
    ).process_detector(train_split=1.0)
    _, rows = drawn(capsys, tmp_path / "out" / "train_detector.json", picture="grid.JPG")
    assert rows == [0, 1, 2, 3]
    assert (tmp_path / "out" / "grid.JPG").read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_a_row_that_differs_from_its_checksum_is_refused_as_by_verify(
    store, stored, tmp_path, capsys
):
    path = tmp_path / "train_detector.npz"
    path.write_bytes((stored / store / path.name).read_bytes())
    damage_row(path, 3)
    assert main(["preview", str(path), "-o", str(tmp_path / "grid.png"), "--rows", "2,3"]) == 1
    refused = capsys.readouterr().err
    assert main(["verify", str(path)]) == 1
    assert refused == capsys.readouterr().err
    assert "row 3 (images/" in refused
    assert not (tmp_path / "grid.png").exists()
    assert drawn(capsys, path, "--rows", "2")[1] == [2]


def write_foreign(path, images, **members):
    """Writes a file of another program with two boxes of category 1 and 9 in its first row."""
    boxes, labels = np.empty(2, object), np.empty(2, object)
    boxes[:] = [[[2, 3, 20, 12], [np.nan, 0, 4, 4]], []]
    labels[:] = [[1, 9], []]
    paths = np.array(["a/größe.png", "b.png"])
    np.savez(path, images=images, bboxes=boxes, labels=labels, image_paths=paths, **members)


IMAGES = {
    "channels_first": np.zeros((2, 3, 16, 32), np.uint8),
    "grey": np.zeros((2, 16, 32), np.uint8),
    "four_channels": np.zeros((2, 16, 32, 4), np.uint8),
    "floats": np.zeros((2, 16, 32, 3), np.float32),
    "uint16": np.zeros((2, 16, 32, 1), np.uint16),
    "bool": np.zeros((2, 16, 32, 1), bool),
}


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_files_of_other_programs_are_drawn(images, tmp_path, capsys):
    write_foreign(tmp_path / "theirs.npz", images)
    sheet, _ = drawn(capsys, tmp_path / "theirs.npz", "--rows", "0")
    assert is_near(pixel(sheet, 20, 8, SIDE / 32), COLOURS[1])  # the right edge of a box
    assert max(pixel(sheet, 28, 6, SIDE / 32)) < 40


def test_a_teacher_without_source_rects_is_drawn_and_the_sheet_says_that_its_box_is_not(
    tmp_path, capsys
):
    paths = np.array(["a.png"])
    images = np.zeros((1, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "t.npz", images=images, bboxes=np.ones((1, 4)), image_paths=paths)
    without, _ = drawn(capsys, tmp_path / "t.npz")
    rects = np.array([[0, 0, 2, 2]])
    np.savez(
        tmp_path / "t.npz", images=images, bboxes=np.ones((1, 4)), image_paths=paths,
        source_rects=rects,
    )  # fmt: skip
    with_box, _ = drawn(capsys, tmp_path / "t.npz")
    assert without.shape[1] > with_box.shape[1]  # the caption is longer
    assert without[CORNER[1] : CORNER[1] + SIDE, CORNER[0] : CORNER[0] + SIDE].max() == 0


def test_the_sheet_of_a_first_look_says_so(stored, tmp_path, capsys):
    processor = DataProcessor(stored / "photographs", tmp_path / "out", image_size=64, limit=1)
    processor.process_detector(train_split=1.0)
    part, _ = drawn(capsys, tmp_path / "out" / "train_detector.npz")
    whole, _ = drawn(capsys, stored / "raw" / "train_detector.npz", "-n", "1")
    assert part.shape[1] > whole.shape[1]  # the caption is longer


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--rows", "0,99"], 1, "there is no row 99; the file has rows 0 to 9"),
        (["--rows", "1", "--seed", "3"], 2, "--seed"),
        (["-n", "9000", "--side", "4096"], 1, "--side"),
    ],
)
def test_requests_that_cannot_be_fulfilled_are_refused(arguments, status, message, stored, capsys):
    path = stored / "raw" / "train_detector.npz"
    if "9000" in arguments:  # the limit counts rows that are there
        arguments = ["--rows", ",".join(["1"] * 17), *arguments[2:]]
    output = stored / "refused.png"
    assert main(["preview", str(path), "-o", str(output), *arguments]) == status
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [["-o", "grid.gif"], ["-o", "a.png", "-n", "0"], ["-o", "a.png", "--rows", "1,x"], []],
)
def test_wrong_usage_ends_with_status_2(arguments, stored, capsys):
    path = stored / "raw" / "train_detector.npz"
    with pytest.raises(SystemExit) as ended:
        main(["preview", str(path), *arguments])
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_empty_file_is_an_error(tmp_path, capsys):
    empty = tmp_path / "empty.npz"
    np.savez(
        empty,
        images=np.zeros((0, 8, 8, 3), np.uint8),
        bboxes=np.zeros((0, 4)),
        image_paths=np.zeros(0, "U1"),
    )
    assert main(["preview", str(empty), "-o", str(tmp_path / "a.png")]) == 1
    assert "has no row" in capsys.readouterr().err


def test_images_of_any_kind_become_visible():
    ramp = np.linspace(0, 1, 30).reshape(6, 5, 1)
    expected = np.round(ramp * 255).repeat(3, axis=2)
    for image in (ramp, ramp.astype(np.float32), (ramp * 60000).astype(np.uint16), ramp * 4 - 2):
        np.testing.assert_allclose(displayable(image), expected, atol=1)
    np.testing.assert_array_equal(displayable(expected.astype(np.int32)), expected)
    first = displayable(np.moveaxis(expected.astype(np.uint8), 2, 0))
    np.testing.assert_array_equal(first, expected)
    two = displayable(np.concatenate([ramp, 1 - ramp], axis=2))  # in doubt: channels are last
    np.testing.assert_array_equal(two, expected)
    assert displayable(np.full((2, 2, 3), np.nan)).max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "argument -n: expected a whole number, at least 1, got '0'"),
        (["-n", "many"], "argument -n: expected a whole number, at least 1, got 'many'"),
        (["--seed", "1.5"], "argument --seed: expected a whole number, at least 0, got '1.5'"),
        (["--side", "5"], "argument --side: expected a whole number, 32 to 4096, got '5'"),
        (["--rows", "0,1e3"], "at least 0, got '1e3'; give numbers of rows, such as 0,5,9"),
        (["--rows", "3,-1"], "at least 0, got '-1'; give numbers of rows"),
        (["--rows", ""], "at least 0, got ''; give numbers of rows"),
    ],
)
def test_a_number_that_is_none_or_out_of_range_is_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["preview", "any.npz", "-o", "refused.png", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
