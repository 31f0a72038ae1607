import logging

import pytest

from processing.core.errors import ImageError, Rejection, TooManyRejectedError
from processing.run.rejection_limit import RejectionLimit


def errors(count):
    return [ImageError(f"{i}.jpg: cut", "truncated") for i in range(count)]


@pytest.mark.parametrize(
    ("images", "fraction", "allowed"),
    [(100, 0.29, 29), (100, 0.57, 57), (10, 0.05, 0), (10, 0.1, 1), (3, 0.0, 0)],
)
def test_exactly_the_allowed_share_of_images_may_be_rejected(images, fraction, allowed):
    RejectionLimit(images, "quarantine", fraction).add(errors(allowed))
    limit = RejectionLimit(images, "quarantine", fraction)
    with pytest.raises(TooManyRejectedError, match=f"{allowed + 1} of {images} images.* {allowed}"):
        limit.add(errors(allowed + 1))


def test_rejections_of_all_calls_and_of_an_earlier_run_count():
    limit = RejectionLimit(10, "quarantine", 0.3)
    limit.add_earlier([Rejection("9.jpg", "decode", "truncated", "cut")])
    limit.add(errors(1))
    limit.add(errors(1))
    with pytest.raises(TooManyRejectedError, match="4 of 10"):
        limit.add(errors(1))


def test_the_first_bad_image_is_raised_on_demand():
    with pytest.raises(ImageError, match=r"0\.jpg"):
        RejectionLimit(10, "raise", 1.0).add(errors(2))


def test_the_first_twenty_are_logged_and_then_the_list_is_named_once(caplog):
    limit = RejectionLimit(100, "quarantine", 1.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            limit.add(errors(1))
    assert sum(message.startswith("left out: ") for message in caplog.messages) == 20
    assert sum("NAME.rejected.jsonl" in message for message in caplog.messages) == 1
