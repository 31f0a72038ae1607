"""Exports files, processes the exported annotations, and compares both: for several tests."""

from pathlib import Path

import numpy as np

from processing import LazyNPZDataset, export
from processing.data_processor import DataProcessor
from processing.exporting.yolo import tree_path

TOLERANCE = 0.01  # pixels of the photograph


def annotations_of(directory, task):
    """Maps (split, path) to the categories, boxes and points of a task's files, in pixels."""
    found = {}
    for path in sorted(Path(directory).glob(f"*_{task}.npz")):
        with LazyNPZDataset(path) as dataset:
            for i in range(len(dataset)):
                row = dataset.get_batch([i])
                key = path.name.partition("_")[0], str(dataset.image_paths[i])
                names, boxes, points = found.setdefault(key, ([], [], []))
                if task == "landmarker":
                    values = dataset.to_source(i, np.float64(np.asarray(row["keypoints"][0])))
                    points.append(values)
                    count = 1
                else:
                    values = np.float64(np.asarray(row["bboxes"][0])).reshape(-1, 4)
                    # The teacher's boxes are in pixels of the photograph.
                    boxes += list(values if task == "teacher" else dataset.to_source(i, values))
                    count = len(values)
                labels = [0] * count
                if dataset.labels is not None:
                    own = dataset.labels[i]
                    labels = np.atleast_1d(own).tolist()
                names += [dataset.category_names[label] for label in labels]
    return found


def exported_again(raw, processed, task, format, folder):
    """Exports the files of a task, and processes the exported annotations.

    Returns:
        The annotations of the original files and of the new files, as `annotations_of` gives them,
        with the paths that the first files have.
    """
    files = sorted(processed.glob(f"*_{task}.npz"))
    first = annotations_of(processed, task)
    where = folder / "again" / "exported"
    report = export(files, where, format=format, raw_data_dir=raw if format == "yolo" else None)
    assert sum(split.images for split in report.splits) == len(first)
    again, paths = where, {}
    for split, path in first:
        if format == "coco":
            again = folder / "again"
            link = again / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((raw / path).absolute())
            paths[path] = path
        else:
            paths[f"images/{split}/{tree_path(path)}"] = path
    report = DataProcessor(again, folder / "new", progress=False, num_workers=2).process([task])
    assert not report.has_rejections, str(report)
    second = annotations_of(folder / "new", task)
    return first, {(split, paths[path]): found for (split, path), found in second.items()}


def check_same(first, second):
    """Checks that two results of `annotations_of` are equal within `TOLERANCE`."""
    assert first.keys() == second.keys()
    for key, (names, boxes, points) in first.items():
        other_names, other_boxes, other_points = second[key]
        assert names == other_names, key
        np.testing.assert_allclose(other_boxes, boxes, rtol=0, atol=TOLERANCE, err_msg=str(key))
        assert len(points) == len(other_points)
        for one, other in zip(points, other_points, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE, err_msg=str(key))
