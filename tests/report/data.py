"""A raw directory with one fault of each kind that the report shows, and hostile names."""

import json

import numpy as np
from PIL import Image

HOSTILE = "<script>alert('x')</script> & \"quotes\""
NORMAL = "cat"


def make_raw(raw):
    """Writes 23 usable photographs in train/ and val/, a truncated one, and a missing one."""
    for split, numbers in (("train", range(16)), ("val", range(16, 20))):
        coco = _empty()
        for number in numbers:
            _add(raw, coco, split, f"{number}.jpg", _picture(number))
        if split == "train":
            _add(raw, coco, split, "'><b onload=alert(1)>.jpg", _picture(100))
            _add(raw, coco, split, "copy_in_train.jpg", _picture(0))
            _add_faults(raw, coco, split)
        else:
            _add(raw, coco, split, "copy_in_val.jpg", _picture(1))
        path = raw / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco))


def _empty():
    names = {"keypoints": ["left", "right"]}
    categories = [{"id": 1, "name": NORMAL, **names}, {"id": 2, "name": HOSTILE, **names}]
    return {"images": [], "annotations": [], "categories": categories}


def _picture(number):
    """Returns a picture of large random blocks, which differs from all others."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((120, 90), Image.Resampling.BICUBIC)


def _add(raw, coco, split, name, picture, quality=92):
    path = raw / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)
    image = {"id": len(coco["images"]), "file_name": f"{split}/{name}", "height": 90, "width": 120}
    coco["images"].append(image)
    for i in range(1 + image["id"] % 3):
        x, y, side = 10 + 30 * i, 20 + 5 * i, 18 + image["id"]
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]),
                "image_id": image["id"],
                "category_id": 1 + image["id"] % 2,
                "bbox": [x, y, side, side],
                "iscrowd": 0,
                "keypoints": [x + 4, y + 5, 2, x + 12, y + 5, 1],
                "num_keypoints": 2,
            }
        )


def _add_faults(raw, coco, split):
    lighter = _picture(2).point(lambda value: min(255, value * 1.05 + 4))
    _add(raw, coco, split, "like_2.jpg", lighter, quality=70)
    # Images 2 and 5 have three objects each, so that they keep some.
    of_image = [[a for a in coco["annotations"] if a["image_id"] == image] for image in (2, 5)]
    of_image[0][0]["bbox"] = [50, 20, -30, 20]
    of_image[1][0]["iscrowd"] = 1
    _add(raw, coco, split, "cut.jpg", _picture(200))
    cut = raw / split / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    _add(raw, coco, split, "gone.jpg", _picture(201))
    (raw / split / "gone.jpg").unlink()
