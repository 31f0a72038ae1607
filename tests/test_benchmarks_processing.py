from pathlib import Path

import pytest

from benchmarks import processing, writers
from benchmarks.harness import Pass, Result


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder with six photographs, of which the last one is a link."""
    folder = tmp_path_factory.mktemp("processing")
    (folder / "raw").mkdir()
    processing.make_photographs(folder / "raw", images=6, different=5)
    return folder


@pytest.mark.long
def test_synthetic_photographs_have_the_size_of_real_ones_and_are_reproducible(work, tmp_path):
    processing.make_photographs(tmp_path, images=6, different=5)
    for number in range(5):
        content = (tmp_path / f"images/{number:06d}.jpg").read_bytes()
        assert content == (work / f"raw/images/{number:06d}.jpg").read_bytes()
        assert 80_000 < len(content) < 300_000
    listed = writers.photographs_in(tmp_path)
    assert [len(one.bboxes) > 0 for one in listed] == [True] * 6


@pytest.mark.parametrize(
    "writer",
    [
        writers.Limit(),
        writers.BareLoop(),
        writers.Ours(),
        writers.BareLoopAllTasks(),
        writers.OursAllTasks(),
        writers.OursDefaultSizes(),
        writers.NaiveLoop(),
    ],
    ids=lambda writer: writer.name,
)
def test_a_contender_stores_the_samples_of_all_photographs(writer, work):
    folder = work / writer.files
    folder.mkdir()
    assert writer.run(folder) == 6
    writer.check(work / "raw", folder)
    writer.run(folder)  # the next pass replaces it
    writer.check(work / "raw", folder)


class Wrong(writers.NaiveLoop):
    """Stores samples that were tampered with."""

    def __init__(self, tamper):
        super().__init__()
        self.tamper = tamper

    def stored(self, output):
        return self.tamper(list(super().stored(output)))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda rows: rows[1:], "stored 5 samples, 1 are missing"),
        (lambda rows: [*rows, rows[0]], "stored twice, or not one of"),
        (lambda rows: [row._replace(image=rows[4].image) for row in rows], "another image"),
        (lambda rows: [row._replace(image=row.image * 1.0) for row in rows], "stored float64"),
        (lambda rows: [row._replace(bboxes=row.bboxes + 2) for row in rows], "boxes"),
        (lambda rows: [row._replace(bboxes=row.bboxes[1:]) for row in rows], "boxes"),
    ],
)
def test_the_check_finds_wrong_samples(tamper, message, work, tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("wrong"))
    (folder / "raw").symlink_to(work / "raw")
    writer = Wrong(tamper)
    (folder / "files").mkdir()
    writer.run(folder / "files")
    with pytest.raises(ValueError, match=message):
        writer.check(folder / "raw", folder / "files")


def test_all_tasks_are_compared_with_the_detector_and_the_bare_loops_with_each_other():
    seconds = {
        "LIMIT": 1.0,
        "bare loop that writes": 2.0,
        "ours": 4.0,
        "bare loop that writes, all tasks": 5.0,
        "ours, process_all": 9.0,
    }
    measured = {name: Result([Pass(100, each, each)]) for name, each in seconds.items()}
    measured["ours, process_all, default sizes"] = Result(problem="failed")
    detector, all_tasks, *sentences = processing.tables(measured)
    assert [row.split(" | ")[0] for row in detector.splitlines()[2:]] == [
        "| LIMIT", "| bare loop that writes", "| ours",
    ]  # fmt: skip
    assert [row.split(" | ")[2][:4] for row in all_tasks.splitlines()[2:5]] == [
        "1.00", "0.80", "0.44",
    ]  # fmt: skip
    assert sentences[1:-1] == [
        "- bare loop that writes, all tasks: 2.50 (2.50 to 2.50) of *bare loop that writes*",
        "- ours, process_all: 2.25 (2.25 to 2.25) of *ours*",
    ]
