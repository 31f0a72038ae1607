import pytest

from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

# As published: 196 coordinates, the corners of the box, six attributes, the image.
POINTS = " ".join(f"{182.212006 + i:.6f} {268.895019 + i:.6f}" for i in range(98))
FOLDER = "WFLW_annotations/list_98pt_rect_attr_train_test"
TRAIN, TEST = (f"{FOLDER}/list_98pt_rect_attr_{split}.txt" for split in ("train", "test"))
IMAGES = [
    "WFLW_images/37--Soccer/37_Soccer_soccer_ball_37_45.jpg",
    "WFLW_images/7--Cheering/7_Cheering_Cheering_7_16.jpg",
]


def line(image, points=POINTS, box="181 268 294 396", attributes="0 0 1 0 1 0"):
    return f"{points} {box} {attributes} {image.removeprefix('WFLW_images/')}\n"


def test_every_line_is_a_face_with_box_and_points(tmp_path):
    files = {
        TRAIN: line(IMAGES[0]) + line(IMAGES[0], box="1 2 30 40"),
        TEST: line(IMAGES[1]),
        "WFLW_annotations/list_98pt_test/list_98pt_test_blur.txt": f"{POINTS} {IMAGES[1]}\n",
    }
    reading = read_sources(write_raw(tmp_path, files, IMAGES))
    assert boxes_of(reading) == {
        IMAGES[0]: [("face", [181, 268, 294, 396]), ("face", [1, 2, 30, 40])],
        IMAGES[1]: [("face", [181, 268, 294, 396])],
    }
    face = points_of(reading)[IMAGES[1]][0]
    assert len(face) == 98
    assert face[0] == pytest.approx([182.212006, 268.895019, 2])
    assert face[97] == pytest.approx([279.212006, 365.895019, 2])
    assert splits_of(reading)[IMAGES[1]] == "test"
    assert reading.rejections == []
    assert reading.table.flags.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "bad",
    [
        line(IMAGES[1], points=POINTS.removeprefix("182.212006 ")),
        line(IMAGES[1], box="181 268 294 x"),
        line(IMAGES[1], attributes="0 0 1 0 1"),
    ],
)
def test_only_a_bad_line_is_rejected(tmp_path, bad):
    reading = read_sources(write_raw(tmp_path, {TRAIN: line(IMAGES[0]) + bad}, IMAGES))
    assert list(boxes_of(reading)) == IMAGES[:1]
    assert reasons_of(reading) == [(TRAIN, "malformed"), (IMAGES[1], "no_usable_annotation")]
    assert "line 2: expected 206 numbers and an image" in reading.rejections[0].message
