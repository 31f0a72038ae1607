"""Hostile annotations, each with what must become of it: a table of one row a case.

Each case is a data set of two images of 24x24 pixels, ``good.png`` with one sound annotation and
``bad.png`` with a hostile one; some have further files. What the good image comes to is the same in
all cases of a format.
"""

import json
from dataclasses import dataclass, field

NAN, INF = float("nan"), float("inf")
WHOLE = [0, 0, 24, 24]
GOOD_BOX = [4, 4, 20, 20]
GOOD_POINTS = [[5, 5, 2], [15, 15, 2]]


@dataclass(frozen=True)
class Case:
    """One hostile annotation.

    Args:
        format: what the data set is written in.
        name: what is wrong.
        files: content by path.
        boxes: of the bad image, in its file of the detector; None: it is in no file.
        points: of the bad image, in the landmarker's file; None: it has none.
        repairs: what the detector's (or else the landmarker's) report counts.
        rejected: (path, reason) of all that is listed.
        says: what a message in the list must match.
        notes: what the report notes besides.
        good: the good image's boxes, or its points in a data set that has no boxes.
    """

    format: str
    name: str
    files: dict
    boxes: list | None = None
    points: list | None = None
    repairs: dict = field(default_factory=dict)
    rejected: tuple = ()
    says: str = "."
    notes: dict = field(default_factory=dict)
    good: tuple = (GOOD_BOX,)

    def __str__(self):
        return f"{self.format}: {self.name}"


def dropped(reason, image="bad.png"):
    """The box is dropped, and the image with it, which else would seem to be empty."""
    return {"rejected": ((image, "no_usable_annotation"),), "says": f"{reason} 1"}


def clipped(box):
    return {"boxes": [box], "repairs": {"clipped": 1}}


def kept(*boxes):
    return {"boxes": list(boxes)}


def lost(annotation_file, reason, says=".", image="bad.png", **more):
    """The annotation is rejected and the image with it, which else would seem to be empty."""
    both = ((annotation_file, reason), (image, "no_usable_annotation"))
    return {"rejected": both, "says": says} | more


def alone(annotation_file, reason, says=".", **more):
    """Rejected under the name of the annotation file alone."""
    return {"rejected": ((annotation_file, reason),), "says": says} | more


# --- COCO

IMAGES = [
    {"id": 1, "file_name": "good.png", "width": 24, "height": 24},
    {"id": 2, "file_name": "bad.png", "width": 24, "height": 24},
]
FACE = {"id": 1, "name": "face"}


def hostile(**changes):
    """COCO's annotation of the bad image."""
    return {"id": 2, "image_id": 2, "category_id": 1, "bbox": [4, 4, 10, 10]} | changes


def coco(*annotations, images=IMAGES, categories=(FACE,), raw=None):
    """The text of a COCO file; `raw` replaces the text "RAW" in it."""
    sound = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 16, 16]}
    content = {"images": images, "annotations": [sound, *annotations], "categories": categories}
    text = json.dumps(content)
    return text if raw is None else text.replace('"RAW"', raw)


def second_image(**changes):
    return [IMAGES[0], IMAGES[1] | changes]


TEN = [4, 4, 14, 14]
RLE = {"counts": "PPYo0", "size": [24, 24]}
POINTS = [5, 5, 2, 15, 15, 2]
DEEP = "[" * 100_000 + "]" * 100_000
UNKNOWN_IMAGE = alone("a.json", "unknown_image_id", r"annotations\[1\]", boxes=[])
UNKNOWN_CATEGORY = lost("a.json", "unknown_category", r"annotations\[1\].*the categories")
FRACTIONS = lost("a.json", "looks_like_fractions", r"annotations\[1\]")
MALFORMED_ROW = lost("a.json", "malformed", r"annotations\[1\]")
OUTSIDE = alone("a.json", "outside_raw_dir", r"images\[1\].*leaves the raw dir.*make the path")

COCO = [
    ("NaN", coco(hostile(bbox=[NAN, 4, 10, 10])), dropped("not_finite")),
    ("infinite", coco(hostile(bbox=[4, INF, 10, 10])), dropped("not_finite")),
    ("infinite minus infinite", coco(hostile(bbox=[INF, 4, -INF, 10])), dropped("not_finite")),
    ("1e308", coco(hostile(bbox=[1e308, 4, 1e308, 10])), dropped("not_finite")),
    ("1e400", coco(hostile(bbox=[4, 4, 10, "RAW"]), raw="1e400"), MALFORMED_ROW),
    ("5000 digits", coco(hostile(bbox=[4, 4, 10, "RAW"]), raw="9" * 5000), MALFORMED_ROW),
    ("2**63", coco(hostile(bbox=[4, 4, 2**63, 10])), clipped([4, 4, 24, 14])),
    ("denormal size", coco(hostile(bbox=[4, 4, 1e-310, 10])), dropped("zero_size")),
    ("negative width", coco(hostile(bbox=[4, 4, -3, 10])), dropped("inverted")),
    ("negative height", coco(hostile(bbox=[4, 4, 3, -10])), dropped("inverted")),
    ("zero area", coco(hostile(bbox=[4, 4, 0, 10])), dropped("zero_size")),
    ("narrower than the least", coco(hostile(bbox=[4, 4, 0.5, 10])), dropped("too_small")),
    ("outside on the right", coco(hostile(bbox=[30, 4, 5, 5])), dropped("outside")),
    ("outside above", coco(hostile(bbox=[4, -9, 5, 5])), dropped("outside")),
    ("begins at the far edge", coco(hostile(bbox=[24, 4, 5, 5])), dropped("outside")),
    ("half a pixel outside", coco(hostile(bbox=[14.5, 4, 10, 10])), clipped([14.5, 4, 24, 14])),
    ("half a pixel before", coco(hostile(bbox=[-0.5, 4, 10, 10])), clipped([0, 4, 9.5, 14])),
    ("all of the image", coco(hostile(bbox=WHOLE)), kept(WHOLE)),
    ("larger than the image", coco(hostile(bbox=[-50, -50, 999, 999])), clipped(WHOLE)),
    ("fractions for pixels", coco(hostile(bbox=[0.2, 0.2, 0.5, 0.5])), FRACTIONS),
    ("corners for sizes", coco(hostile(bbox=[8, 8, 20, 20])), clipped([8, 8, 24, 24])),
    ("nested", coco(hostile(bbox=[[4, 4, 10, 10]])), MALFORMED_ROW),
    ("three numbers", coco(hostile(bbox=[4, 4, 10])), MALFORMED_ROW),
    ("five numbers", coco(hostile(bbox=[4, 4, 10, 10, 0.9])), MALFORMED_ROW),
    ("no numbers", coco(hostile(bbox=[])), MALFORMED_ROW),
    ("no box", coco(hostile(bbox=None)), MALFORMED_ROW),
    ("words", coco(hostile(bbox=["a", "b", "c", "d"])), MALFORMED_ROW),
    ("a box of an object", coco(hostile(bbox={"x": 4})), MALFORMED_ROW),
    ("numbers as text", coco(hostile(bbox=["4", "4", "10", "10"])), kept(TEN)),
    ("ids as text", coco(hostile(image_id="2", category_id="1")), kept(TEN)),
    ("an annotation of null", coco(None), alone("a.json", "malformed", boxes=[])),
    ("an absent image", coco(hostile(image_id=99)), UNKNOWN_IMAGE),
    ("image id 2**63", coco(hostile(image_id=2**63)), UNKNOWN_IMAGE),
    ("negative image id", coco(hostile(image_id=-2)), UNKNOWN_IMAGE),
    ("half an image id", coco(hostile(image_id=2.5)), alone("a.json", "malformed", boxes=[])),
    ("no image id", coco({"category_id": 1}), alone("a.json", "malformed", "image_id", boxes=[])),
    ("an absent category", coco(hostile(category_id=7)), UNKNOWN_CATEGORY),
    ("negative category", coco(hostile(category_id=-1)), UNKNOWN_CATEGORY),
    ("category null", coco(hostile(category_id=None)), MALFORMED_ROW),
    (
        "category ids with gaps",
        coco(hostile(category_id=90), categories=[FACE, {"id": 90, "name": "last"}]),
        kept(TEN),
    ),
    (
        "category ids of text",
        coco(hostile(category_id="dog"), categories=[FACE, {"id": "dog", "name": "dog"}]),
        kept(TEN),
    ),
    (
        "image id of two files",
        coco(hostile(), images=[*IMAGES, {"id": 2, "file_name": "other.png"}]),
        {
            "rejected": (("bad.png", "duplicate_image_id"), ("other.png", "duplicate_image_id")),
            "says": "image id 2 names",
        },
    ),
    ("annotation id twice", coco(hostile(id=1)), kept(TEN)),
    ("box twice", coco(hostile(), hostile()), kept(TEN) | {"notes": {"duplicate_box": 1}}),
    ("image listed twice", coco(hostile(), images=[*IMAGES, IMAGES[1]]), kept(TEN)),
    ("image without annotation", coco(), kept()),
    ("crowd", coco(hostile(iscrowd=1, segmentation=RLE)), dropped("crowd")),
    ("empty polygon", coco(hostile(segmentation=[[]])), kept(TEN)),
    ("polygon of garbage", coco(hostile(segmentation={"x": ["y", None]})), kept(TEN)),
    (
        "one point where others have two",
        coco(
            hostile(keypoints=[5, 5, 2]),
            hostile(bbox=[1, 1, 9, 9], keypoints=POINTS, image_id=1),
            hostile(bbox=[2, 2, 9, 9], keypoints=POINTS, image_id=1),
        ),
        MALFORMED_ROW | {"good": (GOOD_BOX, [1, 1, 10, 10], [2, 2, 11, 11])},
    ),
    ("a number and a half point", coco(hostile(keypoints=[5, 5])), MALFORMED_ROW),
    ("hidden points", coco(hostile(keypoints=[-1, -1, 0, -1, -1, 0])), kept(TEN)),
    (
        "a point outside",
        coco(hostile(keypoints=[-5, 40, 2, 15, 15, 2])),
        kept(TEN) | {"points": [[-5, 40, 2], [15, 15, 2]]},
    ),
    (
        "a point of NaN",
        coco(hostile(keypoints=[NAN, 5, 2, 15, 15, 2])),
        kept(TEN) | {"points": [[0, 0, 0], [15, 15, 2]]},
    ),
    (
        "a point at 1e308",
        coco(hostile(keypoints=[1e308, 5, 2, 15, 15, 2])),
        kept(TEN) | {"points": [[0, 0, 0], [15, 15, 2]]},
    ),
    (
        "a point at 3e38",
        coco(hostile(keypoints=[3e38, 5, 2, 15, 15, 2])),
        kept(TEN) | {"points": [[0, 0, 0], [15, 15, 2]]},
    ),
    (
        "an unlabelled point of NaN",
        coco(hostile(keypoints=[NAN, NAN, 0, 15, 15, 2])),
        kept(TEN) | {"points": [[0, 0, 0], [15, 15, 2]]},
    ),
    ("declared size differs", coco(hostile(), images=second_image(width=48, height=48)), {
        "rejected": (("bad.png", "size_mismatch"),), "says": r"\(48, 48\).*\(24, 24\).*resized"}),
    ("declared size negative", coco(hostile(), images=second_image(height=-24)), kept(TEN)),
    ("declared size of text", coco(hostile(), images=second_image(height="24")), kept(TEN)),
    ("declared size infinite", coco(hostile(), images=second_image(height=INF)), kept(TEN)),
    ("UTF-8 mark", coco(hostile()).encode("utf-8-sig"), kept(TEN)),
    ("UTF-16", coco(hostile()).encode("utf-16"), kept(TEN)),
    ("big-endian UTF-16", b"\xfe\xff" + coco(hostile()).encode("utf-16-be"), kept(TEN)),
    ("category name of half a character", coco(hostile(category_id=2), categories=[
        FACE, {"id": 2, "name": "\ud800"}]), {"rejected": (
            ("a.json", "malformed"), ("a.json", "unknown_category"),
            ("bad.png", "no_usable_annotation")), "says": "half a character"}),
    ("key twice", coco(hostile(bbox="RAW"), raw='[1, 1, 2, 2], "bbox": [4, 4, 10, 10]'), kept(TEN)),
    ("file name null", coco(hostile(), images=second_image(file_name=None)), alone(
        "a.json", "malformed", r"images\[1\]")),
    ("file name empty", coco(hostile(), images=second_image(file_name="")), alone(
        "a.json", "malformed", r"images\[1\].*is not a file's name")),
    ("zero byte in the name", coco(hostile(), images=second_image(file_name="bad.png\0")), alone(
        "a.json", "malformed", r"images\[1\]")),
    ("half a surrogate", coco(hostile(), images=second_image(file_name="\udcff.png")), alone(
        "a.json", "malformed", "a.json")),
    ("..", coco(hostile(), images=second_image(file_name="../gone.png")), OUTSIDE),
    (".. within", coco(hostile(), images=second_image(file_name="x/../../gone.png")), OUTSIDE),
    (".. that stays", coco(hostile(), images=second_image(file_name="x/../bad.png")), kept(TEN)),
    ("absolute", coco(hostile(), images=second_image(file_name="/etc/passwd")), OUTSIDE),
    ("backslashes", coco(hostile(), images=second_image(file_name="..\\gone.png")), OUTSIDE),
    ("a drive", coco(hostile(), images=second_image(file_name="C:\\gone.png")), OUTSIDE),
    ("a server", coco(hostile(), images=second_image(file_name="\\\\host\\gone.png")), OUTSIDE),
]  # fmt: skip

BESIDE = {
    "empty": ("", {}),
    "cut short": (coco(hostile())[:150], alone("b.json", "malformed", "interrupted")),
    "of 100,000 brackets": (f'{{"images": [{DEEP}], "annotations": [], "categories": []}}', alone(
        "b.json", "malformed", "recursion depth")),
    "a list around it": (f"[{coco(hostile(bbox=[NAN, 1, 1, 1]))}]", alone(
        "b.json", "malformed", "Expected `object`")),
    "of captions": ('{"images": [], "annotations": [], "info": {}}', {}),
    "with a category of two names": (coco(categories=[FACE, {"id": 1, "name": "dog"}]), alone(
        "b.json", "malformed", "category id 1 is named 'face' and 'dog'")),
}  # fmt: skip


def coco_cases():
    cases = [Case("coco", name, {"a.json": text}, **verdict) for name, text, verdict in COCO]
    for name, (text, verdict) in BESIDE.items():
        files = {"a.json": coco(hostile()), "b.json": text}
        cases.append(Case("coco", f"a second file {name}", files, **kept(TEN) | verdict))
    return cases
