"""Annotations that cannot mean what their format says are refused, with what they usually mean."""

import json

import pytest

from processing.core.errors import SourceError
from processing.data_processor import DataProcessor
from processing.sources import read_sources
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    reasons_of,
    splits_of,
    write_raw,
)

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def test_a_table_of_fractions_is_refused_and_its_images_are_no_negatives(tmp_path):
    rows = "a.jpg,200,100,cat,.4,.3,.6,.7\nb.jpg,200,100,cat,.4,.3,.6,.7\n"
    files = {"labels.csv": HEADER + rows, "other.csv": "c.jpg,1,2,30,40,cat\n"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert list(boxes_of(reading)) == ["c.jpg"]
    assert reasons_of(reading) == [
        ("labels.csv", "looks_like_fractions"),
        ("a.jpg", "no_usable_annotation"),
        ("b.jpg", "no_usable_annotation"),
    ]
    assert "'units': 'fractions'" in reading.rejections[0].message


def test_the_option_units_reads_a_table_of_fractions(tmp_path):
    write_raw(tmp_path, {"labels.csv": HEADER + "a.jpg,200,100,cat,.4,.3,.6,.7\n"}, ["a.jpg"])
    reading = read_sources(tmp_path, [{"format": "csv_manifest", "units": "fractions"}])
    assert reading.table.normalized.tolist() == [True]
    assert boxes_of(reading) == {"a.jpg": [("cat", [0.4, 0.3, 0.6, 0.7])]}
    assert reading.rejections == []


def test_pixels_that_are_said_to_be_fractions_are_refused(tmp_path):
    rows = "a.jpg,200,100,cat,.4,.3,.6,.7\nb.jpg,200,100,cat,4,3,60,70\n"
    write_raw(tmp_path, {"labels.csv": HEADER + rows}, ["a.jpg", "b.jpg"])
    reading = read_sources(tmp_path, [{"format": "csv_manifest", "units": "fractions"}])
    assert list(boxes_of(reading)) == ["a.jpg"]
    assert reasons_of(reading)[0] == ("labels.csv", "looks_like_pixels")
    assert "line 3" in reading.rejections[0].message


def test_a_unit_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SourceError, match="units is 'mm', expected pixels or fractions"):
        read_sources(write_raw(tmp_path, {"x.csv": "a.jpg,,,,,\n"}), [
            {"format": "csv_manifest", "units": "mm"}
        ])  # fmt: skip


def test_one_box_of_fractions_among_pixels_is_refused_by_its_line(tmp_path):
    rows = "a.jpg,.4,.3,.6,.7,cat\nb.jpg,1,2,30,40,cat\n"
    reading = read_sources(write_raw(tmp_path, {"x.csv": rows}, ["a.jpg", "b.jpg"]))
    assert list(boxes_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [
        ("x.csv", "looks_like_fractions"),
        ("a.jpg", "no_usable_annotation"),
    ]
    assert "line 1: (0.4, 0.3, 0.6, 0.7)" in reading.rejections[0].message


def test_a_box_of_one_whole_pixel_is_kept_among_others(tmp_path):
    rows = "a.jpg,0,0,1,1,cat\nb.jpg,1,2,30,40,cat\n"
    reading = read_sources(write_raw(tmp_path, {"x.csv": rows}, ["a.jpg", "b.jpg"]))
    assert boxes_of(reading)["a.jpg"] == [("cat", [0, 0, 1, 1])]
    assert reading.rejections == []


def test_points_in_fractions_are_refused(tmp_path):
    rows = "image_name,part_0_x,part_0_y\na.jpg,.5,.25\nb.jpg,.1,.75\n"
    files = {"x.csv": rows, "y.csv": "c.jpg,1,2,30,40,cat\n"}
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg", "c.jpg"]))
    assert reasons_of(reading)[0] == ("x.csv", "looks_like_fractions")
    assert list(boxes_of(reading)) == ["c.jpg"]


@pytest.mark.parametrize(
    ("box", "meaning"),
    [
        ("90,80,30,20", r"10 of 11 boxes are inverted.*x, y, width, height"),
        ("20,30,20,30", r"10 of 11 boxes are without extent.*points"),
        ("nan,1,2,3", r"10 of 11 boxes are not finite.*missing"),
        ("800,30,900,90", r"10 of 11 boxes are outside of their images.*resized"),
    ],
)
def test_a_file_whose_boxes_are_almost_all_bad_for_one_reason_stops_the_run(tmp_path, box, meaning):
    line = "{}.jpg,200,100,cat,{}\n"
    rows = "".join(line.format(i, box) for i in range(10)) + line.format(10, "1,2,30,40")
    write_raw(tmp_path, {"x.csv": HEADER + rows}, [f"{i}.jpg" for i in range(11)])
    with pytest.raises(SourceError, match=rf"x\.csv: {meaning}"):
        read_sources(tmp_path)


def test_a_few_bad_boxes_do_not_stop_the_run(tmp_path):
    line = "{}.jpg,200,100,cat,{}\n"
    boxes = ["90,80,30,20"] * 8 + ["1,2,30,40"] * 2 + ["120,2,180,40"]
    rows = "".join(line.format(i, box) for i, box in enumerate(boxes))
    write_raw(tmp_path, {"x.csv": HEADER + rows}, [f"{i}.jpg" for i in range(11)])
    assert len(read_sources(tmp_path).table) == 11


def test_two_kinds_of_landmarks_cannot_be_in_one_file(tmp_path, raw_dir):
    five = read_sources(raw_dir)
    assert five.mixed_landmarks == ""
    write_raw(raw_dir, {"images/0000.pts": "n_points: 2\n{\n3 4\n9 9\n}\n"})
    reading = read_sources(raw_dir)
    assert "*.pts has 2 points without names" in reading.mixed_landmarks
    processor = DataProcessor(raw_dir, tmp_path / "out", image_size=32, progress=False)
    with pytest.raises(SourceError, match="landmarks of different kinds cannot be in one file"):
        processor.process_all()
    assert processor.process_detector().files[0].rows > 0


def test_landmarks_of_the_same_number_but_other_names_cannot_be_in_one_file(tmp_path):
    def content(path, names):
        categories = [{"id": 1, "name": "face", "keypoints": names}]
        boxes = [coco_box(keypoints=[1, 2, 2, 3, 4, 2])]
        return coco_file([coco_image(name=path)], boxes, categories)

    files = {
        "x.json": content("a.jpg", ["left", "right"]),
        "y.json": content("b.jpg", ["right", "left"]),
    }
    reading = read_sources(write_raw(tmp_path, files, ["a.jpg", "b.jpg"]))
    assert "x.json has 2 points (left, right, …)" in reading.mixed_landmarks


def test_two_data_sets_that_only_number_their_classes_are_not_merged(tmp_path):
    files = {"cats/labels/a.txt": "0 .5 .5 .2 .2\n", "cars/labels/b.txt": "0 .5 .5 .2 .2\n"}
    images = ["cats/images/a.jpg", "cars/images/b.jpg"]
    with pytest.raises(SourceError, match="cars/labels and cats/labels only number their classes"):
        read_sources(write_raw(tmp_path, files, images))
    write_raw(tmp_path, {"cats/labels/classes.txt": "cat\n"})
    assert set(read_sources(tmp_path).table.category_names) == {"0", "cat"}


def test_images_of_val_stay_there_if_all_images_of_train_are_rejected(tmp_path):
    files = {
        "data.yaml": "train: images/train\nval: images/val\nnames: [cat]\n",
        "labels/val/a.txt": "0 .5 .5 .2 .2\n",
        "labels/val/b.txt": "0 .5 .5 .2 .2\n",
        "labels/train_old/c.txt": "0 .5 .5 .2 .2\n",
    }
    images = ["images/val/a.jpg", "images/val/b.jpg", "images/train/c.jpg"]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert splits_of(reading) == {"images/val/a.jpg": "val", "images/val/b.jpg": "val"}
    assert ("images/train/c.jpg", "no_label_file") in reasons_of(reading)


BOXES_AS_SIZES = ("100,50,60,40", "10,20,60,40", "80,30,50,40", "120,10,40,60")


def test_sizes_in_columns_of_corners_are_refused_although_only_some_boxes_are_inverted(tmp_path):
    rows = "".join(f"{i}.jpg,200,100,cat,{box}\n" for i, box in enumerate(BOXES_AS_SIZES))
    write_raw(tmp_path, {"x.csv": HEADER + rows}, [f"{i}.jpg" for i in range(4)])
    with pytest.raises(SourceError, match=r"3 of 4 boxes are inverted.*x, y, width, height"):
        read_sources(tmp_path)


def test_boxes_drawn_backwards_next_to_others_are_dropped_one_by_one(tmp_path):
    # The last box does not fit as x, y, width, height.
    boxes = (*BOXES_AS_SIZES, "100,50,180,90")
    rows = "".join(f"{i}.jpg,200,100,cat,{box}\n" for i, box in enumerate(boxes))
    write_raw(tmp_path, {"x.csv": HEADER + rows}, [f"{i}.jpg" for i in range(5)])
    assert len(read_sources(tmp_path).table.boxes) == 5


def test_an_object_in_a_file_of_many_images_is_named_with_its_image(tmp_path):
    good = {"x": 60, "y": 70, "width": 80, "height": 40}
    bad = {"x": 0.3, "y": 0.4, "width": 0.2, "height": 0.1}
    images = [
        {"image": f"{i}.jpg", "annotations": [{"label": "cat", "coordinates": box}]}
        for i, box in enumerate([good, bad])
    ]
    raw = write_raw(tmp_path, {"a.json": json.dumps(images)}, ["0.jpg", "1.jpg"])
    (message,) = [r.message for r in read_sources(raw).rejections if r.path == "a.json"]
    assert message.startswith("a.json: 1.jpg: annotation 1: ")
