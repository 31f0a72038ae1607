import pytest

from benchmarks import learning

LINE = (
    "data: npz, detector: train 36, val 12 samples\n"
    "detector: AP@0.5 = 0.2, AP@0.5:0.95 = 0.1 on 12 validation images{}; predictions: p.png\n"
)


def run_dir(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text(
        "AP@0.5,epoch,step\n,0,2\n0.2,0,2\n0.1,1,5\n,1,5\n"
    )
    return tmp_path


def test_it_reads_samples_steps_score_and_verdict(tmp_path):
    found = learning.parse(LINE.format(" (too few (36))"), run_dir(tmp_path))
    assert found == {
        "train": 36, "val": 12, "steps": 6, "score": "AP@0.5 = 0.2, AP@0.5:0.95 = 0.1",
        "verdict": "too few (36)", "last": 0.1,
    }  # fmt: skip
    assert learning.parse(LINE.format(""), tmp_path)["verdict"] == ""


def test_output_without_a_score_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no line with the data or the score"):
        learning.parse("data: npz, detector: train 36, val 12 samples\n", run_dir(tmp_path))


def test_the_table_has_a_row_for_each_training():
    row = {
        "task": "detector",
        "set": "x",
        "train": 1280,
        "val": 12,
        "steps": 1200,
        "score": "s",
        "last": 0.52,
    }
    lines = learning.table([row | {"cpu_seconds": 600.0}]).splitlines()
    assert lines[-1] == "| detector | x | 1,280 | 12 | 1,200 | 10 min | s | 0.52 |"
