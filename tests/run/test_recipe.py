"""Every annotation that decides the bytes of a file must change the file's recipe.

If it did not, a run would report a stale file as up to date.
"""

from dataclasses import replace

import numpy as np
import pytest

from processing.core.annotations import (
    IMAGE_COLUMNS,
    INSTANCE_COLUMNS,
    Instance,
    TableRow,
    table_from_rows,
)
from processing.core.columns import RaggedArray
from processing.imaging.tasks import TASKS
from processing.run.plan import NOT_STORED, plan_files

# Every image has a box and points, so that every task stores it. The second category keeps labels.
TABLE = table_from_rows(
    [
        TableRow(f"{i}.jpg", [Instance(i % 2, (1, 2, 3, 4), points=[(1, 2, 2)])] * 2, split=i % 2)
        for i in range(4)
    ],
    category_names=["face", "hand"],
    keypoint_names=["nose"],
)
OF_TRAIN_0, OF_TRAIN_2 = 0, 2


def recipes(table):
    """The recipe of each planned file; the official splits decide which images it has."""
    tasks = [kind((64, 64)) for kind in TASKS.values()]
    files = plan_files(table, table.splits, tasks, {"train_split": 0.5})
    return {file.name: file.recipe for file in files}


def changed(column, row):
    """The column with another value in one row."""
    if isinstance(column, RaggedArray):
        values = column.values.copy()
        values[column.offsets[row] : column.offsets[row + 1]] += 1
        return RaggedArray(values, column.offsets)
    column = column.copy()
    if isinstance(column.dtype, np.dtypes.StringDType):
        column[row] = "z.jpg"  # as long as before: the width of the stored column must not decide
    elif column.dtype == bool:
        column[row] = ~column[row]
    else:
        column[row] += 1
    return column


@pytest.mark.parametrize("row", [OF_TRAIN_0, OF_TRAIN_2])
@pytest.mark.parametrize("name", [*sorted(set(IMAGE_COLUMNS) - NOT_STORED), "splits"])
def test_a_change_to_any_column_of_an_image_changes_the_recipes_of_its_files(name, row):
    before = recipes(TABLE)
    after = recipes(replace(TABLE, **{name: changed(getattr(TABLE, name), row)}))
    for task in TASKS:
        assert after[f"train_{task}"] != before[f"train_{task}"]
        # An image that changes its split changes both files; all else stays in its own file.
        assert (after[f"val_{task}"] != before[f"val_{task}"]) == (name == "splits")


@pytest.mark.parametrize("name", sorted(set(INSTANCE_COLUMNS) - NOT_STORED))
def test_a_change_to_any_column_of_an_instance_changes_the_recipes_of_its_files(name):
    before = recipes(TABLE)
    # Instances 4 and 5 belong to the third image, the second one of train.
    after = recipes(replace(TABLE, **{name: changed(getattr(TABLE, name), 4)}))
    for task in TASKS:
        assert after[f"train_{task}"] != before[f"train_{task}"]
        assert after[f"val_{task}"] == before[f"val_{task}"]


@pytest.mark.parametrize("name", sorted(NOT_STORED - {"splits"}))
def test_where_annotations_come_from_does_not_change_a_recipe(name):
    assert recipes(replace(TABLE, **{name: changed(getattr(TABLE, name), 0)})) == recipes(TABLE)


def test_instances_or_points_that_move_to_a_neighbour_change_the_recipe():
    train = TABLE.take(np.flatnonzero(TABLE.splits == 0))
    moved_instance = replace(train, offsets=np.array([0, 1, 4]))
    moved_point = replace(train, points=RaggedArray(train.points.values, np.array([0, 2, 2, 3, 4])))
    found = [recipes(table)["train_detector"] for table in (train, moved_instance, moved_point)]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("change", "files"),
    [
        ({"category_names": ("face", "foot")}, set(recipes(TABLE))),
        ({"keypoint_names": ("chin",)}, {"train_landmarker", "val_landmarker"}),
    ],
)
def test_names_change_the_recipes_of_the_files_that_store_them(change, files):
    before, after = recipes(TABLE), recipes(replace(TABLE, **change))
    assert {name for name in before if after[name] != before[name]} == files
