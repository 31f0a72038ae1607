import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

# In the publisher's own spelling.
BBOX = """2
image_id x_1 y_1 width height
000001.jpg    95  71 226 313
000002.jpg    72  94 221 306
"""
NAMES = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y "
LANDMARKS = f"""2
{NAMES}rightmouth_x rightmouth_y
000001.jpg 165  184  244  176  196  249  194  271  266  260
000002.jpg 140  204  220  204  168  254  146  289  226  289
"""
ALIGNED = f"""2
{NAMES}rightmouth_x rightmouth_y
000001.jpg 69  109  106  113   77  142   73  152  108  154
000002.jpg 69  110  107  112   81  135   70  151  108  153
"""
PARTITION = "000001.jpg 0\n000002.jpg 2\n"
# As Kaggle has them.
KAGGLE = {
    "list_bbox_celeba.csv": "image_id,x_1,y_1,width,height\n000001.jpg,95,71,226,313\n",
    "list_landmarks_align_celeba.csv": (
        f"image_id,{NAMES.replace(' ', ',')}rightmouth_x,rightmouth_y\n"
        "000001.jpg,69,109,106,113,77,142,73,152,108,154\n"
    ),
    "list_eval_partition.csv": "image_id,partition\n000001.jpg,1\n",
    "list_attr_celeba.csv": "image_id,5_o_Clock_Shadow\n000001.jpg,-1\n",
}
WILD = ["Img/img_celeba/000001.jpg", "Img/img_celeba/000002.jpg"]
CROPS = ["img_align_celeba/img_align_celeba/000001.jpg"]


def published(**more):
    return {
        "Anno/list_bbox_celeba.txt": BBOX,
        "Anno/list_landmarks_celeba.txt": LANDMARKS,
        "Eval/list_eval_partition.txt": PARTITION,
    } | more


def points(*numbers):
    return [[x, y, 2] for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def test_boxes_and_points_of_a_photograph_are_one_face(tmp_path):
    reading = read_sources(write_raw(tmp_path, published(), WILD))
    assert boxes_of(reading) == {
        WILD[0]: [("face", [95, 71, 321, 384])],
        WILD[1]: [("face", [72, 94, 293, 400])],
    }
    assert points_of(reading)[WILD[0]] == [points(165, 184, 244, 176, 196, 249, 194, 271, 266, 260)]
    assert reading.table.keypoint_names == (
        *("lefteye", "righteye", "nose", "leftmouth", "rightmouth"),
    )
    assert list(splits_of(reading).values()) == [None, "test"]
    assert reading.rejections == []
    assert reading.table.entries.tolist() == [3, 4]


def test_coordinate_base_one_is_subtracted(tmp_path):
    write_raw(tmp_path, published(), WILD)
    reading = read_sources(tmp_path, [{"format": "celeba", "coordinate_base": 1}])
    assert boxes_of(reading)[WILD[0]] == [("face", [94, 70, 320, 383])]
    assert points_of(reading)[WILD[0]][0][0] == [164, 183, 2]


def test_photographs_and_aligned_copies_keep_their_own_lists(tmp_path):
    files = published() | {"Anno/list_landmarks_align_celeba.txt": ALIGNED}
    crops = ["Img/img_align_celeba_png/000001.png", "Img/img_align_celeba_png/000002.png"]
    reading = read_sources(write_raw(tmp_path, files, WILD + crops))
    assert boxes_of(reading)[crops[0]] == [("face", None)]
    assert points_of(reading)[crops[0]] == [points(69, 109, 106, 113, 77, 142, 73, 152, 108, 154)]
    assert boxes_of(reading)[WILD[0]] == [("face", [95, 71, 321, 384])]
    assert reading.rejections == []


def test_boxes_of_photographs_never_go_to_aligned_copies(tmp_path):
    reading = read_sources(write_raw(tmp_path, KAGGLE, CROPS))
    assert boxes_of(reading) == {CROPS[0]: [("face", None)]}
    assert points_of(reading) == {CROPS[0]: [points(69, 109, 106, 113, 77, 142, 73, 152, 108, 154)]}
    assert reading.table.flags.tolist() == [Flag.NO_BOX]
    assert reading.rejections == []
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("other_images", "list_bbox_celeba.csv")
    ]


@pytest.mark.parametrize("folder", ["img_align_celeba", "images"])
def test_boxes_without_their_photographs_are_refused(tmp_path, folder):
    files = {"list_bbox_celeba.txt": BBOX}
    with pytest.raises(SourceError, match=r"no images in a folder img_celeba/: rename"):
        read_sources(write_raw(tmp_path, files, [f"{folder}/000001.jpg"]))


def test_the_folder_of_the_images_can_be_named(tmp_path):
    write_raw(tmp_path, published(), ["photos/000001.jpg", "photos/000002.jpg"])
    reading = read_sources(tmp_path, [{"format": "celeba", "images": "photos"}])
    assert list(boxes_of(reading)) == ["photos/000001.jpg", "photos/000002.jpg"]


def test_only_a_bad_line_is_rejected(tmp_path):
    files = {"list_bbox_celeba.txt": f"{BBOX}000003.jpg 1 2 3\n000002.jpg 1 2 3 4\n"}
    images = [f"img_celeba/00000{i}.jpg" for i in (1, 2, 3)]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert list(boxes_of(reading)) == images[:1]
    assert reasons_of(reading) == [
        ("list_bbox_celeba.txt", "malformed"),
        ("list_bbox_celeba.txt", "malformed"),
        (images[1], "no_usable_annotation"),
        (images[2], "no_usable_annotation"),
    ]
    assert "line 5: expected an image and 4 numbers" in reading.rejections[0].message
    assert "000002.jpg is described twice" in reading.rejections[1].message


def test_a_bad_split_is_rejected(tmp_path):
    files = published() | {"Eval/list_eval_partition.txt": f"{PARTITION}000001.jpg 3\n"}
    reading = read_sources(write_raw(tmp_path, files, WILD))
    assert reasons_of(reading) == [("Eval/list_eval_partition.txt", "malformed")]


def test_all_splits_are_read(tmp_path):
    files = published() | {"Eval/list_eval_partition.txt": "000001.jpg 0\n000002.jpg 1\n"}
    reading = read_sources(write_raw(tmp_path, files, WILD))
    assert list(splits_of(reading).values()) == ["train", "val"]


def test_the_list_of_points_says_how_many_faces_have_them(tmp_path):
    boxes, landmarks = read_sources(write_raw(tmp_path, published(), WILD)).sets
    assert (boxes.images, landmarks.images) == (2, 0)
    assert landmarks.details.endswith("points of 2 faces with a box in the other list")
    assert "points" not in boxes.details
