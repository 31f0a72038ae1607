"""Each real data set: exported and processed again, its annotations are the same."""

import pytest

from processing.data_processor import DataProcessor
from tests.exporting.round_trip import check_same, exported_again
from tests.sources.test_real_annotations import SETS


@pytest.fixture(scope="module")
def processed(real_data, tmp_path_factory):
    """Processes a data set once; returns its files."""
    done = {}

    def files_of(name):
        if name not in done:
            done[name] = tmp_path_factory.mktemp(name)
            DataProcessor(real_data / name, done[name], progress=False).process_all()
        return done[name]

    return files_of


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("format", ["coco", "yolo"])
def test_an_exported_data_set_is_read_as_it_was_stored(
    real_data, processed, name, format, tmp_path
):
    directory = processed(name)
    tasks = {path.stem.partition("_")[2] for path in directory.glob("*.npz")}
    assert tasks
    for task in sorted(tasks):
        folder = tmp_path / task
        check_same(*exported_again(real_data / name, directory, task, format, folder))
