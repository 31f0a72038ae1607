"""Faults that people's data sets have, injected into records, and the findings that name them."""

import copy
import io
from collections import Counter

import cv2
import numpy as np
from PIL import Image

from tests.checking.data_sets import FORMATS, Photograph, Thing

FAULTS = {}
"""By name: the function that spoils a data set, the formats it is possible in, and the kinds of
findings of which one must be there."""


def fault(kinds, formats=FORMATS):
    """Registers a function that spoils a data set, given the format it will be written in."""

    def register(function):
        FAULTS[function.__name__] = function, formats, set(kinds.split())
        return function

    return register


def pixels_of(photograph):
    """The pixels, BGR."""
    return cv2.imdecode(np.frombuffer(photograph.data, np.uint8), cv2.IMREAD_COLOR)


def jpeg(pixels, quality=92):
    """Encodes pixels."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def numbers_of(box, size, written_as):
    """The four numbers that a format writes for a box."""
    x1, y1, x2, y2 = box
    height, width = size
    if written_as == "coco":
        return [x1, y1, x2 - x1, y2 - y1]
    if written_as == "yolo":
        centre = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        return [*centre, (x2 - x1) / width, (y2 - y1) / height]
    return [x1, y1, x2, y2]


def add_copy(data, split, change, scale=1.0, mirrored=False):
    """Adds a photograph that was made of another one, with its boxes."""
    source = data.some("train")
    pixels = change(pixels_of(source))
    height, width = pixels.shape[:2]
    things = copy.deepcopy(source.things)
    for thing in things:
        thing.box = [value * scale for value in thing.box]
        thing.points = [[x * scale, y * scale] for x, y in thing.points]
        if mirrored:
            x1, y1, x2, y2 = thing.box
            thing.box = [width - x2, y1, width - x1, y2]
            thing.points = [[width - x, y] for x, y in thing.points]
    added = Photograph("zz_copy.jpg", split, (height, width), jpeg(pixels, 60), things)
    data.photographs.append(added)
    return source, added


def move(thing, dx, dy):
    """Shifts a box."""
    x1, y1, x2, y2 = thing.box
    thing.box = [x1 + dx, y1 + dy, x2 + dx, y2 + dy]


# Photographs


@fault("truncated corrupt")
def cut_short(data, written_as):
    one = data.some()
    one.data = one.data[: len(one.data) // 2]


@fault("missing_image")
def photograph_missing(data, written_as):
    data.some().data = None


@fault("not_an_image")
def web_page_as_photograph(data, written_as):
    data.some().data = b"<!DOCTYPE html><html><body>404</body></html>"


@fault("not_an_image")
def empty_file(data, written_as):
    data.some().data = b""


@fault("blank_photograph")
def blank(data, written_as):
    one = data.some()
    one.data = jpeg(np.full_like(pixels_of(one), 127))


@fault("small_photograph")
def thumbnail(data, written_as):
    source = data.some()
    small = cv2.resize(pixels_of(source), (24, 20), interpolation=cv2.INTER_AREA)
    box = [Thing(source.things[0].category, [4, 4, 18, 16], source.things[0].points)]
    data.photographs.append(Photograph("zz_small.jpg", "train", (20, 24), jpeg(small), box))


@fault("grey_below")
def lower_half_grey(data, written_as):
    one = data.some()
    pixels = pixels_of(one)
    pixels[len(pixels) // 2 :] = 128
    one.data = jpeg(pixels)


@fault("near_copy near_copy_across_splits")
def border_cut_off(data, written_as):
    def cut(pixels):
        height, width = pixels.shape[:2]
        return pixels[height // 100 : -height // 100, width // 100 : -width // 100]

    add_copy(data, "train", cut)


@fault("near_copy near_copy_across_splits")
def wide_border_cut_off(data, written_as):
    def cut(pixels):
        height, width = pixels.shape[:2]
        return pixels[height // 20 : -height // 25, width // 30 : -width // 16]

    add_copy(data, "train", cut)


@fault("dark_photograph")
def twelve_bits_in_sixteen(data, written_as):
    one = data.some()
    grey = cv2.cvtColor(pixels_of(one), cv2.COLOR_BGR2GRAY).astype(np.uint16) << 4
    one.data = cv2.imencode(".png", grey)[1].tobytes()


@fault("overlap_across_splits")
def tiles_of_one_photograph_in_both_splits(data, written_as):
    sources = [one for one in data.photographs if one.things][:12]
    assert len(sources) >= 8
    data.photographs = []
    for number, source in enumerate(sources):
        pixels = pixels_of(source)
        height, width = pixels.shape[:2]
        side = int(0.6 * width)
        for tile, left in enumerate((0, int(0.2 * width), int(0.4 * width))):
            box = Thing("tree", [9.0 + tile, 9.0, side - 9.0 - number, height - 9.0 - 2 * number])
            split = "val" if (number + tile) % 3 == 0 else "train"
            content = jpeg(pixels[:, left : left + side])
            one = Photograph(f"t{number}_{left}.jpg", split, (height, side), content, [box])
            data.photographs.append(one)
    data.has_points = False


@fault("exact_copy exact_copy_across_splits")
def copied(data, written_as):
    source = data.some("train")
    data.photographs.append(_renamed(source))


@fault("exact_copy_across_splits", ("coco", "voc", "yolo"))
def copied_to_val(data, written_as):
    one = _renamed(data.some("train"))
    one.split = "val"
    data.photographs.append(one)


def _renamed(source):
    one = copy.deepcopy(source)
    one.name = f"zz_{one.name}"
    return one


@fault("near_copy near_copy_across_splits")
def encoded_again(data, written_as):
    add_copy(data, "train", lambda pixels: pixels)


@fault("near_copy near_copy_across_splits")
def half_the_size(data, written_as):
    add_copy(data, "train", lambda p: cv2.resize(p, None, fx=0.5, fy=0.5), scale=0.5)


@fault("near_copy_across_splits", ("coco", "voc", "yolo"))
def resized_to_val(data, written_as):
    add_copy(data, "val", lambda p: cv2.resize(p, None, fx=0.7, fy=0.7), scale=0.7)


@fault("near_copy near_copy_across_splits")
def darker_copy(data, written_as):
    add_copy(data, "train", lambda pixels: (pixels * 0.7).astype(np.uint8))


@fault("mirrored_copy_across_splits", ("coco", "voc", "yolo"))
def mirrored_to_val(data, written_as):
    add_copy(data, "val", lambda pixels: pixels[:, ::-1].copy(), mirrored=True)


@fault("unlisted_images no_label_file")
def photograph_without_annotation(data, written_as):
    data.some().things = None


@fault("size_mismatch", ("coco", "voc"))
def enlarged_after_annotating(data, written_as):
    one = data.some()
    one.data = jpeg(cv2.resize(pixels_of(one), None, fx=1.5, fy=1.5))


# Boxes


@fault("looks_like_fractions looks_like_pixels not_fractions refused")
def other_unit_in_one(data, written_as):
    one = data.some()
    height, width = one.size
    for thing in one.things:
        box = np.array(thing.box)
        if written_as != "yolo":
            box = box / [width, height, width, height]
        thing.written = numbers_of(box.tolist(), (1, 1), written_as)


@fault("looks_like_fractions looks_like_pixels not_fractions refused")
def other_unit_everywhere(data, written_as):
    for one in data.photographs:
        height, width = one.size
        for thing in one.things:
            box = np.array(thing.box)
            if written_as != "yolo":
                box = box / [width, height, width, height]
            thing.written = numbers_of(box.tolist(), (1, 1), written_as)


@fault("looks_like_percent other_scale", ("coco", "csv", "voc"))
def percent(data, written_as):
    for one, thing in data.things():
        height, width = one.size
        box = np.array(thing.box) / [width, height, width, height] * 100
        thing.written = numbers_of(box.tolist(), one.size, written_as)


@fault("other_scale looks_like_percent", ("coco", "csv", "voc"))
def boxes_of_half_the_size(data, written_as):
    for one, thing in data.things():
        thing.written = numbers_of([value / 2 for value in thing.box], one.size, written_as)


@fault("looks_like_corners refused malformed", ("coco", "yolo"))
def corners_everywhere(data, written_as):
    for one, thing in data.things():
        height, width = one.size
        unit = np.array([width, height] * 2) if written_as == "yolo" else 1
        thing.written = (np.array(thing.box) / unit).tolist()


@fault("looks_like_corners looks_like_top_left beyond_photograph", ("coco", "yolo"))
def corners_in_some(data, written_as):
    for one in data.photographs[::3]:
        height, width = one.size
        unit = np.array([width, height] * 2) if written_as == "yolo" else 1
        for thing in one.things:
            thing.written = (np.array(thing.box) / unit).tolist()


@fault("inverted no_usable_annotation refused", ("csv", "voc"))
def sizes_in_some(data, written_as):
    for one in data.photographs[::3]:
        for thing in one.things:
            x1, y1, x2, y2 = thing.box
            thing.written = [x1, y1, x2 - x1, y2 - y1]


@fault("looks_swapped outside no_usable_annotation", ("coco", "csv", "voc"))
def x_and_y_exchanged_in_some(data, written_as):
    for one in data.photographs[::3]:
        for thing in one.things:
            x1, y1, x2, y2 = thing.box
            thing.written = numbers_of([y1, x1, y2, x2], one.size, written_as)


@fault("inverted no_usable_annotation refused", ("csv", "voc"))
def sizes_in_place_of_corners(data, written_as):
    for _, thing in data.things():
        x1, y1, x2, y2 = thing.box
        thing.written = [x1, y1, x2 - x1, y2 - y1]


@fault("looks_swapped outside no_usable_annotation refused", ("coco", "csv", "voc"))
def x_and_y_exchanged(data, written_as):
    for one, thing in data.things():
        x1, y1, x2, y2 = thing.box
        thing.written = numbers_of([y1, x1, y2, x2], one.size, written_as)


@fault("inverted no_usable_annotation malformed")
def corner_exchanged(data, written_as):
    one, thing = data.thing()
    x1, y1, x2, y2 = thing.box
    thing.written = numbers_of([x2, y1, x1, y2], one.size, written_as)


@fault("outside no_usable_annotation looks_like_pixels not_fractions")
def box_outside(data, written_as):
    one, thing = data.thing()
    move(thing, one.size[1] + 20, 0)


@fault("beyond_photograph looks_swapped looks_like_corners")
def box_half_outside(data, written_as):
    one, thing = data.thing()
    x1, _, x2, _ = thing.box
    move(thing, one.size[1] - (x1 + x2) / 2, 0)


@fault("too_small tiny_box no_usable_annotation zero_size")
def tiny_box(data, written_as):
    one, thing = data.thing()
    x1, y1, *_ = (float(int(value)) for value in thing.box)
    thing.written = numbers_of([x1 + 1, y1 + 1, x1 + 2, y1 + 2], one.size, written_as)


@fault("not_finite malformed no_usable_annotation", ("coco", "csv", "voc"))
def number_missing(data, written_as):
    _, thing = data.thing()
    thing.written = [float("nan"), *thing.box[1:]]


@fault("same_size")
def one_size(data, written_as):
    for one, thing in data.things():
        height, width = one.size
        x = min(max((thing.box[0] + thing.box[2]) / 2, 17), width - 17)
        y = min(max((thing.box[1] + thing.box[3]) / 2, 17), height - 17)
        thing.box = [int(x) - 16, int(y) - 16, int(x) + 16, int(y) + 16]


@fault("same_box")
def one_box_pasted(data, written_as):
    smallest = np.min([one.size for one in data.photographs], axis=0)
    height, width = smallest.tolist()
    box = [width * 0.2, height * 0.3, width * 0.6, height * 0.8]
    for one in data.photographs[::3]:
        if one.things:
            one.things[0].box = [float(int(value)) for value in box]


@fault("whole_photographs")
def whole_photographs(data, written_as):
    for one, thing in data.things():
        height, width = one.size
        thing.box = [0, 0, width, height]


@fault("whole_photographs")
def whole_photographs_in_part(data, written_as):
    for one in data.photographs[::3]:
        height, width = one.size
        one.things = [Thing(one.things[0].category, [0, 0, width, height])] if one.things else []


@fault("whole_photographs")
def whole_photographs_among_small_objects(data, written_as):
    sides = [
        min((x2 - x1) / one.size[1], (y2 - y1) / one.size[0])
        for one, thing in data.things()
        for x1, y1, x2, y2 in [thing.box]
    ]
    assert max(sides) < 0.5
    assert len(sides) >= 30
    for one in [each for each in data.photographs if each.things][:3]:
        height, width = one.size
        one.things = [Thing(one.things[0].category, [0, 0, width, height])]


@fault("negatives", ("coco", "voc", "yolo"))
def labels_emptied(data, written_as):
    train = [one for one in data.photographs if one.split == "train" and one.things]
    assert len(train) >= 10
    for one in train[: max(len(train) // 2, 8)]:
        one.things = []


@fault("duplicate_box")
def box_twice(data, written_as):
    one, thing = data.thing()
    one.things.append(copy.deepcopy(thing))


@fault("box_drawn_twice")
def box_drawn_again(data, written_as):
    clear = [
        (one, thing)
        for one, thing in data.things()
        if min(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]) >= 45
    ]
    one, thing = clear[data.rng.integers(len(clear))]
    again = copy.deepcopy(thing)
    x1, y1, x2, y2 = again.box
    again.box = [x1 + 1, y1 + 1, x2 - 1, y2 - 1]
    one.things.append(again)


@fault("two_categories")
def second_category(data, written_as):
    one, thing = data.thing()
    other = next(each.category for _, each in data.things() if each.category != thing.category)
    one.things.append(Thing(other, list(thing.box), copy.deepcopy(thing.points)))


# Categories


@fault("similar_categories")
def other_case(data, written_as):
    counts = Counter(thing.category for _, thing in data.things())
    frequent, _ = counts.most_common(1)[0]
    thing = next(thing for _, thing in data.things() if thing.category == frequent)
    thing.category = thing.category.capitalize()


@fault("similar_categories same_names", ("coco", "csv", "yolo"))
def other_punctuation(data, written_as):
    things = [thing for _, thing in data.things()]
    for position, thing in enumerate(things):
        thing.category = f"small_{thing.category}" if position % 2 else f"small {thing.category}"


@fault("misspelt_category", ("csv", "voc"))
def misspelt(data, written_as):
    things = [thing for _, thing in data.things()]
    for thing in things:
        thing.category = "bicycle"
    things[3].category = "bycicle" if len(things) % 2 else "bicycles"


@fault("similar_categories", ("csv", "voc"))
def accents_lost(data, written_as):
    for position, (_, thing) in enumerate(data.things()):
        thing.category = "cafe" if position % 2 else "caf\u00e9"


@fault("category_not_in_train", ("coco", "voc", "yolo"))
def category_only_in_val(data, written_as):
    for position, one in enumerate(data.photographs):
        one.split = "val" if position % 2 else "train"
        for thing in one.things if position % 2 else ():
            thing.category = "visitor"


@fault("category_not_in_train", ("coco", "voc", "yolo"))
def category_of_three_photographs_only_in_val(data, written_as):
    with_objects = [one for one in data.photographs if one.things]
    assert len({thing.category for _, thing in data.things()}) < 10
    assert len(with_objects) >= 6
    for position, one in enumerate(with_objects):
        one.split = "val" if position < 3 else "train"
    for one in with_objects[:3]:
        one.things[0].category = "visitor"


@fault("synonyms")
def names_of_two_data_sets(data, written_as):
    for position, (_, thing) in enumerate(data.things()):
        thing.category = "Person" if position % 2 else "human"


@fault("odd_category_name")
def number_for_a_name(data, written_as):
    data.thing()[1].category = "0"


@fault("odd_category_name")
def word_for_no_name(data, written_as):
    data.thing()[1].category = "undefined"


# Points


def faces(data):
    """Objects whose points are all different from the point in the middle."""
    return [thing for _, thing in data.things() if len(thing.points) == 5]


def some_face(data):
    found = faces(data)
    return found[data.rng.integers(len(found))]


@fault("points_mirrored points_of_odd_shape", ("coco",))
def left_and_right_exchanged(data, written_as):
    thing = some_face(data)
    left, right, nose, left_mouth, right_mouth = thing.points
    thing.points = [right, left, nose, right_mouth, left_mouth]


@fault("points_mirrored points_of_odd_shape points_off_box points_outside", ("coco",))
def points_x_and_y_exchanged(data, written_as):
    assert faces(data)
    for thing in faces(data):
        thing.points = [[y, x] for x, y in thing.points]


@fault("points_off_box points_outside", ("coco",))
def points_in_other_place(data, written_as):
    thing = some_face(data)
    thing.points = [[x / 8, y / 8] for x, y in thing.points]


@fault("points_at_origin", ("coco",))
def missing_points_at_0(data, written_as):
    assert len(faces(data)) >= 3
    for thing in faces(data)[:3]:
        thing.points[1] = [0, 0]


@fault("same_points", ("coco",))
def points_in_one_place(data, written_as):
    thing = some_face(data)
    thing.points = [thing.points[0]] * 5


@fault("points_mirrored points_of_odd_shape", ("coco",))
def points_in_other_order(data, written_as):
    thing = some_face(data)
    thing.points = thing.points[2:] + thing.points[:2]


# One cause for a whole set


@fault("looks_unrotated", ("csv", "yolo"))
def boxes_of_unrotated_photographs(data, written_as):
    for one in data.photographs:
        picture = Image.open(io.BytesIO(one.data)).convert("RGB")
        exif = picture.getexif()
        exif[0x112] = 6
        turned = io.BytesIO()
        picture.save(turned, "JPEG", quality=92, exif=exif)
        one.data = turned.getvalue()


@fault("looks_like_neighbour", ("coco", "csv"))
def boxes_of_the_next_photograph(data, written_as):
    for split in ("train", "val"):
        members = [one for one in data.photographs if split == one.split or written_as == "csv"]
        things = [one.things for one in members]
        for one, other in zip(members, things[1:] + things[:1], strict=True):
            one.things = other
        if written_as == "csv":
            break


@fault("looks_swapped", ("yolo",))
def fractions_of_x_and_y_exchanged(data, written_as):
    for one, thing in data.things():
        x, y, width, height = numbers_of(thing.box, one.size, written_as)
        thing.written = [y, x, height, width]


@fault("looks_upside_down", ("csv", "voc"))
def y_from_the_bottom(data, written_as):
    for one, thing in data.things():
        x1, y1, x2, y2 = thing.box
        thing.box = [x1, one.size[0] - y2, x2, one.size[0] - y1]


@fault("looks_mirrored looks_turned")
def photographs_turned_around(data, written_as):
    for one in data.photographs:
        one.data = jpeg(pixels_of(one)[::-1, ::-1])


@fault("looks_resized", ("csv", "voc"))
def boxes_of_stretched_copies(data, written_as):
    for one, thing in data.things():
        height, width = one.size
        thing.box = (np.array(thing.box) / [width, height, width, height] * 256).tolist()


@fault("looks_like_centre", ("coco",))
def centres_in_place_of_corners(data, written_as):
    for _, thing in data.things():
        x1, y1, x2, y2 = thing.box
        thing.written = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


@fault("sizes_exchanged", ("voc",))
def declared_width_and_height_exchanged(data, written_as):
    for one in data.photographs:
        one.size = one.size[::-1]


@fault("copies_annotated_differently")
def copy_with_other_boxes(data, written_as):
    added = _renamed(data.some("train"))
    added.things = added.things[:1]
    move(added.things[0], 5, 5)
    data.photographs.append(added)


@fault("plural_category", ("csv", "voc"))
def plural(data, written_as):
    for position, (_, thing) in enumerate(data.things()):
        thing.category = "trucks" if position % 2 else "truck"


@fault("category_is_file_name", ("csv",))
def column_of_names_as_labels(data, written_as):
    for one, thing in data.things():
        thing.category = one.stem


@fault("odd_category_name", ("csv",))
def column_of_confidences_as_labels(data, written_as):
    for position, (_, thing) in enumerate(data.things()):
        thing.category = f"0.{position + 501}"


WHOLE_SETS = frozenset(
    {
        *("boxes_of_unrotated_photographs", "boxes_of_the_next_photograph", "y_from_the_bottom"),
        *("fractions_of_x_and_y_exchanged", "photographs_turned_around"),
        *("boxes_of_stretched_copies", "centres_in_place_of_corners"),
    }
)
"""Faults that are told by the content of the photographs: that takes dozens of small boxes."""
