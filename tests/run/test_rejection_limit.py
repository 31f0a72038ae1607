import logging
from collections import Counter

import numpy as np
import pytest

from processing.core.errors import ImageError, Rejection, TooManyRejectedError
from processing.imaging.image_rows import ImageResult
from processing.imaging.tasks import Detector, Landmarker
from processing.run.journal import Progress
from processing.run.plan import Output, PlannedFile
from processing.run.rejection_limit import RejectionLimit, RejectionSummary, RowsOfTasks


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


# --- never all images of a task

DETECTOR, LANDMARKER = Detector((8, 8)), Landmarker((8, 8))
FILES = [
    PlannedFile(Output(f"{split}_{task.name}", (8, 8), ()), task, split, np.arange(2), "", {})
    for task in (DETECTOR, LANDMARKER)
    for split in ("train", "val")
]


def missing(path):
    return Rejection(path, "read", "missing_image", "no such file")


def inverted(path, stage="annotation"):
    return Rejection(path, stage, "no_usable_annotation", "1 box of a.json: inverted 1")


def result(*rejected, stored=()):
    """One image: the tasks that rejected it with their rejections, and those with a row."""
    return ImageResult(rows={task: [None] for task in stored}, rejections=dict(rejected))


def test_a_task_without_any_row_stops_the_run_with_every_reason_and_an_example():
    rows = RowsOfTasks(FILES, Progress(), {})
    for path in "abc":
        rows.add(result((LANDMARKER, missing(path)), stored=[DETECTOR]))
    rows.add(result((LANDMARKER, inverted("d")), stored=[DETECTOR]))
    with pytest.raises(TooManyRejectedError) as caught:
        rows.check()
    message = str(caught.value)
    assert message.startswith("landmarker: 4 of 4 images were rejected")
    assert "missing_image 3: a: no such file | b: no such file | c: no such file" in message
    assert "no_usable_annotation 1: d: 1 box of a.json: inverted 1" in message
    assert "The files of detector can be made" in message


def test_tasks_that_lost_the_same_images_are_named_together():
    rows = RowsOfTasks(FILES, Progress(), {})
    for path in "abcd":
        rows.add(result((DETECTOR, missing(path)), (LANDMARKER, missing(path))))
    with pytest.raises(TooManyRejectedError) as caught:
        rows.check()
    assert str(caught.value).startswith("detector, landmarker: 4 of 4 images were rejected")
    assert str(caught.value).count("missing_image 4") == 1


def test_images_that_only_rules_left_out_leave_no_row_either():
    rows = RowsOfTasks(FILES[:2], Progress(), {})
    rows.add(result((DETECTOR, inverted("a", "rules"))))
    with pytest.raises(TooManyRejectedError, match="no_usable_annotation 1: a: "):
        rows.check()


def test_one_row_of_each_task_is_enough_in_whichever_run_it_was_made():
    rows = RowsOfTasks(FILES, Progress(rows=Counter(val_detector=1)), {})
    rows.add(result((DETECTOR, missing("a")), stored=[LANDMARKER]))
    rows.check()


def test_an_interrupted_runs_rejections_are_counted_too():
    progress = Progress(rejections={"train_detector": [missing("a")]})
    rows = RowsOfTasks(FILES[:2], progress, {})
    rows.add(result((DETECTOR, missing("b"))))
    with pytest.raises(TooManyRejectedError, match=r"missing_image 2: a: .* b: "):
        rows.check()


def test_a_summary_names_the_most_frequent_reason_first_and_how_many_it_leaves_out():
    summary = RejectionSummary([inverted("x"), *map(missing, "abcde")])
    first, second = summary.lines()
    assert first.startswith("missing_image 5: a: no such file")
    assert first.endswith("c: no such file (and 2 more)")
    assert second.startswith("no_usable_annotation 1: x: ")


def test_rows_of_files_that_stay_as_they_are_count():
    rows = RowsOfTasks(FILES[:2], Progress(), {"train_detector": 1})
    rows.add(result((DETECTOR, missing("a"))))
    rows.check()
