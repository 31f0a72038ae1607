"""Every reason to reject an annotation, each with the smallest input that causes it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import processing.sources
from processing.core.errors import SourceError
from processing.sources import read_sources
from processing.sources.text import MAX_SINGLE_FILE_BYTES
from tests.raw_files import (
    boxes_of,
    coco_box,
    coco_file,
    coco_image,
    reasons_of,
    write_raw,
)

# Next to each bad input lies a sound one, since a directory of rejections only is an error.
SOUND = {"sound.csv": "sound.jpg,1,2,3,4,cat\n"}
DATA_YAML = "train: images\nnames: [cat]\n"
XML = "<annotation><{0}><name>x</name><bndbox/></{0}></annotation>"
VOC = (
    "<annotation><object><name>x</name>{}<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax>"
    "<ymax>4</ymax></bndbox></object></annotation>"
)
PTS = "n_points: 1\n{\n3 4\n}\n"
SHAPE = {"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}
REGION = {
    "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4},
    "region_attributes": {"colour": "red", "form": "round"},
}
MIXED_KEYPOINTS = coco_file(
    annotations=[coco_box(1, 1, keypoints=[1, 2, 2]), coco_box(1, 2, keypoints=[1, 2, 2])],
    categories=[
        {"id": 1, "name": "cat", "keypoints": ["ear"]},
        {"id": 2, "name": "dog", "keypoints": ["tail"]},
    ],
)


@dataclass
class Case:
    """A bad input: its files, and the rejection as path, reason and a part of the message."""

    name: str
    files: dict[str, object]
    path: str
    reason: str
    message: str
    images: list[str] = field(default_factory=list)


CASES = [
    Case(
        "COCO corners instead of sizes",
        {
            "x.json": coco_file(
                [coco_image(width=200, height=100)],
                [coco_box(bbox=(100, 40, 190, 80 + i)) for i in range(3)],
            )
        },
        "x.json",
        "looks_like_corners",
        "100% of its boxes reach beyond their images as x, y, width, height",
    ),
    Case(
        "COCO image without a name",
        {"x.json": coco_file([coco_image(), {"id": 2}])},
        *("x.json", "malformed", r"images\[1\]: .*file_name"),
    ),
    Case(
        "COCO image id of two images",
        {"x.json": coco_file([coco_image(1, "a.jpg"), coco_image(1, "b.jpg")])},
        *("b.jpg", "duplicate_image_id", "image id 1 names 'b.jpg' and another image"),
    ),
    Case(
        "COCO annotation of an unlisted image",
        {"x.json": coco_file(annotations=[coco_box(7)])},
        *("x.json", "unknown_image_id", r"annotations\[0\]: image_id 7 is not among the images"),
    ),
    Case(
        "COCO annotation of an unlisted category",
        {"x.json": coco_file(annotations=[coco_box(1, 7)])},
        *("x.json", "unknown_category", r"annotations\[0\]: category_id 7 is not among"),
    ),
    Case(
        "COCO without any box",
        {"x.json": coco_file(annotations=[{"image_id": 1, "category_id": 1}])},
        *("x.json", "no_boxes", "none of its 1 annotations has a bbox, polygons or key"),
    ),
    Case(
        "COCO file of predictions",
        {"x.json": coco_file(annotations=[coco_box(score=0.5)])},
        *("x.json", "prediction", "all its 1 annotations have a score"),
    ),
    Case(
        "COCO annotation with a score",
        {"x.json": coco_file(annotations=[coco_box(score=0.5), coco_box()])},
        *("x.json", "prediction", r"annotations\[0\]: a score of 0\.5"),
    ),
    Case(
        "COCO file without annotations",
        {"x.json": coco_file(annotations=[])},
        *("x.json", "no_annotations", "lists 1 images and no annotation at all"),
    ),
    Case(
        "COCO categories with different keypoints",
        {"x.json": MIXED_KEYPOINTS},
        *("x.json", "mixed_keypoints", "'cat', 'dog' name their keypoints differently"),
    ),
    Case(
        "image whose annotations are all rejected",
        {"x.json": coco_file(annotations=[coco_box(bbox=(1, 2))])},
        *("a.jpg", "no_usable_annotation", "all its annotations were rejected"),
        images=["a.jpg"],
    ),
    Case(
        "two sizes of one image",
        {"x.json": coco_file(), "y.json": coco_file([coco_image(height=9)])},
        *("a.jpg", "conflicting_sizes", r"640x480 \(x\.json\) and 640x9 \(y\.json\)"),
    ),
    Case(
        "path out of the raw directory",
        {"x.csv": "../gone.jpg,1,2,3,4,cat\n"},
        *("x.csv", "outside_raw_dir", r"line 1: '\.\./gone\.jpg' leaves the raw directory"),
    ),
    Case(
        "path of another machine that several images end like",
        {"x.csv": "/content/set/z.jpg,1,2,3,4,cat\n"},
        *("x.csv", "ambiguous_image", r"line 1: .*2 images end like it: p/z\.jpg, q/z\.jpg"),
        images=["p/z.jpg", "q/z.jpg"],
    ),
    Case(
        "two descriptions of one image that disagree",
        {
            "x.json": coco_file(annotations=[coco_box()]),
            "y.json": coco_file(annotations=[coco_box(bbox=(1, 1, 9, 9))]),
        },
        *("a.jpg", "conflicting_annotations", r"described differently by x\.json \(1 object\)"),
    ),
    Case(
        "CSV with two columns of one name",
        {"x.csv": "filename,class,xmin,ymin,xmax,ymax,class\n"},
        *("x.csv", "malformed", "line 1: two columns are called class"),
    ),
    Case(
        "CSV with too many cells",
        {"x.csv": "a.jpg,1,2,3,4,cat\nb.jpg,1,5,2,3,4,cat\n"},
        *("x.csv", "malformed", "line 2: expected 6 cells, found 7"),
    ),
    Case(
        "CSV with a quote that does not end",
        {"x.csv": 'a.jpg,1,2,3,4,cat\n"b.jpg,1,2,3,4,cat\n'},
        *("x.csv", "malformed", "line 2: expected cells, found"),
    ),
    Case(
        "CSV of predictions",
        {"x.csv": "image,x,y,w,h,label,score\na.jpg,1,2,3,4,cat,0.9\n"},
        *("x.csv", "predictions", r"line 2: score is 0\.9"),
    ),
    Case(
        "CSV whose class may be second or last",
        {"x.csv": "a.jpg,1,2,3,4,5\n"},
        *("x.csv", "ambiguous_columns", "'a.jpg,1,2,3,4,5': the second and the last cell are both"),
    ),
    Case(
        "CSV that names an image without its ending, of which there are two",
        {"x.csv": "image_id,x,y,w,h\nsound,1,2,3,4\n", "sound.png": ""},
        *("x.csv", "ambiguous_image", "'sound' may be any of sound.jpg, sound.png"),
    ),
    Case(
        "CSV with pixels for images",
        {"x.csv": f"nose_x,nose_y,Image\n1,2,{'238 ' * 20}\n"},
        *("x.csv", "pixels_in_table", "line 1: the column Image holds pixels"),
    ),
    Case(
        "WIDER FACE line that is no image's name",
        {"wider_face_val_bbx_gt.txt": "damage\n1\n1 2 3 4\n"},
        *("wider_face_val_bbx_gt.txt", "malformed", "line 1: expected the name of an image"),
    ),
    Case(
        "WIDER FACE list that is a folder's link out",
        {"x.json": coco_file(), "wider_face_val_bbx_gt.txt": None},
        *("wider_face_val_bbx_gt.txt", "outside_raw_dir", "a link that leads out"),
    ),
    Case(
        "VOC box outside of an object",
        {"a.xml": XML.format("person")},
        *("a.xml", "malformed", "expected each bndbox in an object of annotation, found .* person"),
        images=["a.jpg"],
    ),
    Case(
        "VOC list of a split in another encoding",
        {"Annotations/a.xml": "<annotation/>", "ImageSets/Main/val.txt": b"a\ncaf\xe9\n"},
        *("ImageSets/Main/val.txt", "malformed", "line 2: .* is not UTF-8"),
    ),
    Case(
        "VOC annotation without its image",
        {"a.xml": "<annotation><filename>../../a.jpg</filename></annotation>"},
        *("a.xml", "outside_raw_dir", "leaves the raw directory"),
    ),
    Case(
        "VOC object with a score",
        {"a.xml": VOC.format("<score>0.5</score>")},
        *("a.xml", "prediction", "object 1: a score of 0.5: predictions are no annotations"),
        images=["a.jpg"],
    ),
    Case(
        "VOC files that describe one image differently",
        {"xml/1/a.xml": VOC.format(""), "xml/2/a.xml": VOC.format("<difficult>1</difficult>")},
        *("xml/1/a.xml", "ambiguous_image", r"may be images/a\.jpg, but xml/2/a\.xml describes"),
        images=["images/a.jpg"],
    ),
    Case(
        "points without their image",
        {"a.pts": PTS},
        *("a.pts", "missing_image", "expected an image of the same name next to it"),
    ),
    Case(
        "points of which none is labelled",
        {"a.pts": PTS.replace("3 4", "-1 -1")},
        *("a.pts", "no_points", "none of its 1 points is labelled"),
        images=["a.jpg"],
    ),
    Case(
        "points in fractions around a box in pixels",
        {"a.csv": "image,x1,y1,x2,y2,le_x,le_y,re_x,re_y\na.jpg,10,20,90,80,0.2,0.3,0.4,0.3\n"},
        *("a.csv", "looks_like_fractions", "such as .0.2, 0.3., look like fractions"),
        images=["a.jpg"],
    ),
    Case(
        "point that is NaN",
        {"a.pts": "n_points: 2\n{\n3 4\nnan nan\n}\n"},
        *("a.pts", "point_without_place", "point 2 of 2: NaN is no place"),
        images=["a.jpg"],
    ),
    Case(
        "points of a video",
        {"001/annot/1.pts": PTS, "001/vid.avi": ""},
        *("001/vid.avi", "video", "1 point files are of this video, and videos are not read"),
    ),
    Case(
        "points in another encoding",
        {"a.pts": b"caf\xe9" + PTS.encode()},
        *("a.pts", "malformed", r"byte 3 of a\.pts is not UTF-8"),
        images=["a.jpg"],
    ),
    Case(
        "points in a file of 64 MiB",
        {"a.pts": PTS + " " * MAX_SINGLE_FILE_BYTES},
        *("a.pts", "too_large", "expected at most 67,108,864 for one image"),
        images=["a.jpg"],
    ),
    Case(
        "YOLO folder that is not there",
        {"data.yaml": DATA_YAML + "val: nowhere\n", "labels/a.txt": ""},
        *("data.yaml", "missing_folder", "val: 'nowhere' is neither a folder with images nor"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO yaml that is no mapping",
        {"data.yaml": "'\ntrain: x\nnames: y\n'\n"},
        *("data.yaml", "malformed", "expected keys and values, found a str"),
    ),
    Case(
        "YOLO name that is a list",
        {"data.yaml": "train: images\nnames: [[cat]]\n"},
        *("data.yaml", "malformed", "names or nc: expected a name, found a list"),
    ),
    Case(
        "YOLO name with half a character",
        {"data.yaml": 'train: images\nnames: ["\\ud800"]\n'},
        *("data.yaml", "malformed", "half a character is in it|invalid Unicode"),
    ),
    Case(
        "YOLO labels without their image",
        {"data.yaml": DATA_YAML, "labels/a.txt": "", "labels/b.txt": "0 .5 .5 .5 .5\n"},
        *("labels/b.txt", "missing_image", r"expected an image at images/b\.\*, found none"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO labels of an unknown class",
        {"data.yaml": DATA_YAML, "labels/a.txt": "7 .5 .5 .5 .5\n"},
        *("labels/a.txt", "unknown_category", "line 1: class id 7, expected one of the 1"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO labels in pixels",
        {"data.yaml": DATA_YAML, "labels/a.txt": "0 100 50 40 40\n"},
        *("labels/a.txt", "not_fractions", "line 1: coordinates are not fractions: 100 50 40 40"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO labels that may be points or a polygon",
        {"data.yaml": DATA_YAML, "labels/a.txt": "0 .5 .5 .4 .6 .45 .4 .55 .45\n"},
        *("labels/a.txt", "ambiguous_points", "line 1: rows of 8 numbers .* give kpt_shape"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO split without label files",
        {"data.yaml": DATA_YAML},
        *("images/a.jpg", "no_label_file", "looked for labels/a.txt and images/a.txt"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO list that is empty",
        {"data.yaml": "train: train.txt\nnames: [cat]\n", "train.txt": "\n"},
        *("data.yaml", "empty_list", "train.txt is empty"),
    ),
    Case(
        "YOLO files that name a class differently",
        {"classes.txt": "cat\n", "labels/classes.txt": "dog\n", "labels/a.txt": "0 .5 .5 .1 .1\n"},
        *("labels", "conflicting_names", "class 0 is 'dog' in labels/classes.txt and 'cat' in"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO names around a background",
        {"labelmap.txt": "background:0,0,0::\ncat:1,2,3::\n", "labels/a.txt": "0 .5 .5 .1 .1\n"},
        *("labelmap.txt", "ambiguous_names", "'background' stands before other names"),
        images=["images/a.jpg"],
    ),
    Case(
        "YOLO names numbered from 0 and labels from 1",
        {"classes.txt": "cat\ndog\n", "labels/a.txt": "1 .5 .5 .1 .1\n2 .4 .4 .1 .1\n"},
        *("labels", "shifted_classes", "the label files use classes 1 to 2"),
        images=["images/a.jpg"],
    ),
    Case(
        "corners in place of centres and sizes",
        {"classes.txt": "cat\n", "labels/a.txt": "0 .6 .6 .9 .9\n" * 3},
        *("labels", "looks_like_corners", "3 of 3 boxes reach beyond the image"),
        images=["images/a.jpg"],
    ),
    Case(
        "two images with one label file",
        {"classes.txt": "cat\n", "labels/a.txt": "0 .5 .5 .1 .1\n"},
        *("images/a.png", "ambiguous_label_file", "labels/a.txt is the label file of"),
        images=["images/a.png", "images/a.bmp"],
    ),
    Case(
        "folder in place of a label file",
        {"data.yaml": DATA_YAML, "labels/a.txt/x": ""},
        *("labels/a.txt", "not_a_file", "a folder: expected a file"),
        images=["images/a.jpg"],
    ),
    Case(
        "labelme shape of a model",
        {"a.json": {"imagePath": "a.jpg", "shapes": [SHAPE | {"score": 0.5}]}},
        *("a.json", "prediction", r"shape 1: it has a score \(0.5\)"),
        images=["a.jpg"],
    ),
    Case(
        "labelme file that names the image of another file",
        {"a.json": {"imagePath": "b.jpg", "shapes": [SHAPE]}},
        *("a.json", "ambiguous_image", "imagePath names b.jpg, but a.jpg"),
        images=["a.jpg", "b.jpg"],
    ),
    Case(
        "VIA regions with two attributes",
        {"v.json": {"a": {"filename": "a.jpg", "regions": [REGION]}}},
        *("v.json", "ambiguous_class", "the attributes colour, form, and it is unknown"),
        images=["a.jpg"],
    ),
    Case(
        "VIA 3 project",
        {"v.json": {"project": {"data_format_version": "3.1.1"}, "view": {}}},
        *("v.json", "unsupported", "a project of VIA 3"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_bad_input_is_rejected_with_its_reason_and_the_rest_is_kept(case, tmp_path):
    files = {path: content for path, content in case.files.items() if content is not None}
    raw = write_raw(tmp_path / "raw", SOUND | files, ["sound.jpg", *case.images])
    (tmp_path / "outside").write_text("")
    for path in case.files.keys() - files.keys():
        (raw / path).symlink_to(tmp_path / "outside")
    # Only a case about a forbidden link forbids links.
    reading = read_sources(raw, follow_links="leads out" not in case.message)
    assert boxes_of(reading)["sound.jpg"] == [("cat", [1, 2, 3, 4])]
    assert (case.path, case.reason) in reasons_of(reading)
    messages = [found.message for found in reading.rejections if found.path == case.path]
    assert any(re.search(case.message, message) for message in messages), messages
    assert all(case.path in message for message in messages)


def test_every_reason_of_the_sources_has_a_case():
    """Reasons are words of a public interface: none may appear without a test."""
    folder = Path(processing.sources.__file__).parent
    reasons = set()
    for file in folder.rglob("*.py"):
        text = file.read_text()
        reasons |= set(re.findall(r'reason="(\w+)"', text))
        reasons |= set(re.findall(r'"(?:annotation|read)",\s+"(\w+)",', text))
        reasons |= set(re.findall(r'return "(\w+)", [f(]', text))
    # Names that are no text cannot be made on every file system; test_hostile_paths has a case.
    assert reasons - {case.reason for case in CASES} == {"undecodable_name"}


def test_an_entry_of_sources_that_is_neither_text_nor_a_mapping_is_refused(tmp_path):
    with pytest.raises(TypeError, match="names of formats, or mappings, got 5"):
        read_sources(write_raw(tmp_path, SOUND), [5])


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path, monkeypatch):
    real_open = Path.open

    def fail(path, *arguments, **options):
        if path.suffix == ".csv":
            raise OSError(5, "Input/output error")
        return real_open(path, *arguments, **options)

    raw = write_raw(tmp_path, SOUND)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(SourceError, match=r"sound\.csv cannot be read: Input/output error"):
        read_sources(raw)
