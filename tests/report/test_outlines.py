"""What is drawn on the pictures of a report, within the room of its page."""

import numpy as np

from processing.report.outlines import most_of_each, outlines_of
from processing.report.pictures import Picture


def picture(boxes=0, points=0):
    drawn = {"boxes": np.full((boxes, 4), 5.0), "points": np.full((points, 3), 2.0)}
    return Picture(np.zeros((8, 8, 3), np.uint8), "a.jpg", ["train"], (8, 8), **drawn)


def test_all_boxes_and_points_are_drawn_if_the_page_has_room():
    pictures = [picture(boxes=900), picture(points=468), picture()]
    most = most_of_each(pictures)
    boxes, points = (outlines_of(each, [0] * 900, most) for each in pictures[:2])
    assert boxes[0][1].count("M") == 900
    assert points == [("point visible", "M2 2h0" * 468)]


def test_crowded_pictures_share_the_room_and_the_others_lose_nothing():
    pictures = [picture(boxes=500), picture(boxes=300), picture(points=10)]
    assert most_of_each(pictures, total=210) == 100
    assert most_of_each([], total=210) == most_of_each([picture()], total=210) == 0
