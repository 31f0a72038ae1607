"""Metadata of any content: refused with the field, or shown by every reader without an error."""

import json

import numpy as np
import pytest

from processing import LazyNPZDataset, NPZFormatError, export
from processing.__main__ import main
from processing.data_processor import DataProcessor
from processing.npz.mapped import MappedNPZ

VALUES = (None, 5, -1.5, "x", [], [1], {}, {"a": "b"}, True, 10**30)
USED = ("split", "fingerprint", "options", "encoding", "counts")


@pytest.fixture(scope="module")
def members(tmp_path_factory, shared_raw_dir):
    """The members of a detector's file of ours, with encoded images."""
    output = tmp_path_factory.mktemp("metadata")
    settings = {"image_size": 16, "progress": False, "num_workers": 1, "store": "jpeg"}
    DataProcessor(shared_raw_dir, output, **settings).process(["detector"])
    return {
        name: np.array(array) for name, array in MappedNPZ(output / "train_detector.npz").items()
    }


@pytest.fixture
def written(members, tmp_path):
    """Returns a function that writes the file with other metadata, and returns its path."""

    def write(metadata):
        path = tmp_path / "train_detector.npz"
        np.savez(path, **members | {"metadata": np.array(json.dumps(metadata))})
        return path

    return write


@pytest.mark.parametrize(
    ("field", "values"),
    [
        *((field, (None, 5, -1.5, [], {}, True)) for field in ("split", "fingerprint")),
        *((field, (None, 5, "x", [1], True)) for field in ("options", "encoding")),
        ("counts", (None, 5, "x", [1], True, {"a": "b"}, {"a": {"b": "c"}})),
    ],
)
def test_a_field_of_another_type_is_refused_and_named(members, written, field, values):
    metadata = json.loads(members["metadata"].item())
    for value in values:
        path = written(metadata | {field: value})
        with pytest.raises(NPZFormatError, match=rf"'metadata': .*\$\.{field}.*restore it"):
            LazyNPZDataset(path)


@pytest.mark.parametrize("field", USED)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_fields_of_other_programs_are_not_taken_for_ours(written, field, value, capsys):
    path = written({"image_size": [16, 16], field: value})
    with LazyNPZDataset(path) as dataset:
        assert dataset._repr_html_()
    for words in (["info", str(path)], ["info", str(path), "--json"], ["verify", str(path)]):
        assert main(words) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "changed", "expected"),
    [
        ("counts", {}, "counts: images, instances_read, .*: missing"),
        ("counts", {"rows": {}}, "counts: rows: missing, unknown, or of another kind"),
        ("counts", {"repairs": 5}, "counts: repairs: missing"),
        ("counts", {"more": 5}, "counts: more: missing, unknown"),
        ("options", {"keep_flagged": None}, "another program wrote this file"),
        ("options", {"crop_margin": "wide"}, "another program wrote this file"),
        ("options", {}, "another program wrote this file"),
    ],
)
def test_an_export_refuses_counts_and_options_that_it_cannot_read(
    members, written, tmp_path, field, changed, expected
):
    metadata = json.loads(members["metadata"].item())
    value = metadata[field] | changed if changed else {}
    path = written(metadata | {field: value})
    with pytest.raises(NPZFormatError, match=expected):
        export(path, tmp_path / "coco")
    assert not (tmp_path / "coco").exists()
