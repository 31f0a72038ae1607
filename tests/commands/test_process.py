import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from processing.run.image_batches import ImageBatches

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "processing.data_processor", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_guides_command_makes_all_files_and_prints_a_report(raw_dir, tmp_path):
    where = ("--raw-data-dir", raw_dir, "--output-dir", tmp_path / "out")
    result = run("--all", "--batch-size", 10, "--workers", 2, "--flush-every", 1, *where)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "train_detector.npz" in result.stdout
    assert "24 images in" in result.stdout
    assert run("--all", *where).stdout.strip().splitlines()[-1].startswith("up to date")


def test_only_the_named_tasks_are_made(raw_dir, tmp_path):
    status = process_command(
        DataProcessor,
        [
            "--detector",
            "--landmarker",
            "--raw-data-dir",
            str(raw_dir),
            "--output-dir",
            str(tmp_path),
        ],
    )
    assert status == 0
    assert {p.stem for p in tmp_path.glob("*_*.npz")} == {
        f"{split}_{task}" for split in ("train", "val") for task in ("detector", "landmarker")
    }


def test_rejected_inputs_give_status_3_also_if_the_files_are_up_to_date(raw_dir, tmp_path, capsys):
    (raw_dir / "images" / "0000.jpg").write_bytes(b"")
    arguments = ["--detector", "--raw-data-dir", str(raw_dir), "--output-dir", str(tmp_path)]
    assert process_command(DataProcessor, arguments) == 3
    assert "rejected images: not_an_image 1" in capsys.readouterr().out
    assert process_command(DataProcessor, arguments) == 3


def test_failure_gives_status_1_and_names_the_formats_that_were_searched(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    arguments = ["--all", "--raw-data-dir", str(tmp_path / "raw"), "--output-dir", str(tmp_path)]
    assert process_command(DataProcessor, arguments) == 1
    error = capsys.readouterr().err
    assert "COCO" in error
    assert "Pascal VOC" in error
    assert str(tmp_path / "raw") in error


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all", "--batch-size", "x"],
        ["--all", "--image-size", "banana"],
        ["--all", "--image-size", "detektor=3"],
        ["--all", "--on-error", "ignore"],
        ["--all", "--workers", "0"],
        ["--all", "--train-split", "1.5"],
        ["--all", "--group-by", "("],
        ["--all", "--source", "imagenet"],
        ["--everything"],
    ],
)
def test_wrong_usage_gives_status_2(arguments):
    with pytest.raises(SystemExit) as stop:
        process_command(DataProcessor, arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_files_that_would_end_with_the_command_are_refused(raw_dir, flags, capsys):
    arguments = ["--detector", "--raw-data-dir", str(raw_dir), "--output-dir", "memory://x", *flags]
    with pytest.raises(SystemExit) as stop:
        process_command(DataProcessor, arguments)
    assert stop.value.code == 2
    assert "--output-dir memory://x: is in the memory of this process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [(["32"], (32, 32)), (["24x32"], (24, 32)), (["teacher=16"], (16, 16))],
)
def test_image_sizes_are_read_as_height_by_width(raw_dir, tmp_path, sizes, expected, capsys):
    import numpy as np

    arguments = ["--teacher", "--raw-data-dir", str(raw_dir), "--output-dir", str(tmp_path)]
    assert process_command(DataProcessor, [*arguments, "--image-size", *sizes]) == 0
    assert np.load(tmp_path / "train_teacher.npz")["images"].shape[1:3] == expected
    capsys.readouterr()


def shell(line):
    """Runs a shell command; returns its exit status even if it pipes into another command."""
    command = ["bash", "-c", f"set -o pipefail; {line}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        pytest.param("2>&-", 0, marks=pytest.mark.long),
        ("<&- >&- 2>&-", 0),
        pytest.param("| true", 0, marks=pytest.mark.long),
        ("| head -c 1 >&2", 0),
        pytest.param(">&-", 0, marks=pytest.mark.long),
        ("2>&1 >/dev/full | cat >&2", 1),
    ],
)
def test_closed_streams_do_not_change_the_exit_status(raw_dir, tmp_path, streams, status):
    where = f"--detector --raw-data-dir {raw_dir} --output-dir {tmp_path}/out"
    found, _, errors = shell(f"{sys.executable} -m processing.data_processor {where} {streams}")
    assert found == status, errors
    assert "Traceback" not in errors
    npz = tmp_path / "out" / "train_detector.npz"
    if status == 0:
        found, _, errors = shell(f"{sys.executable} -m processing verify {npz} {streams}")
        assert (found, "Traceback" in errors) == (0, False)


def test_names_are_printed_on_an_ascii_terminal(raw_dir, tmp_path):
    where = f"--detector --raw-data-dir {raw_dir} --output-dir {tmp_path}/ö"
    (raw_dir / "images" / "0000.jpg").write_bytes(b"")
    line = f"{sys.executable} -m processing.data_processor {where}"
    status, output, errors = shell(f"PYTHONIOENCODING=ascii {line}")
    assert status == 3, errors
    assert "\\xf6/train_detector.rejected.jsonl" in output


def test_names_in_the_data_cannot_command_the_terminal(raw_dir, tmp_path):
    """They could clear it, forge its lines, or type for the user."""
    path = raw_dir / "annotations" / "instances.json"
    coco = json.loads(path.read_text())
    coco["images"][0]["file_name"] = "\x1b]0;title\x07\x1b[2J\x7f\x9b2J\r.jpg"
    coco["categories"][0]["name"] = "\x1b[31mface"
    path.write_text(json.dumps(coco))
    out = tmp_path / "out"
    shown = ""
    for line, expected in {
        f"process --detector --raw-data-dir {raw_dir} --output-dir {out} --no-progress": 3,
        f"check {raw_dir}": 3,
        f"check {raw_dir} --json": 3,
        f"info {out}": 0,
        f"info {out} --json": 0,
        f"export {out}/train_detector.npz --format coco -o {tmp_path}/coco": 0,
    }.items():
        status, output, errors = shell(f"{sys.executable} -m processing {line}")
        assert status == expected, errors
        if "--json" in line:
            json.loads(output)
        shown += output + errors
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\n"}
    for escaped in (r"\u001b]0;title\u0007\u001b[2J\u007f\u009b2J\u000d.jpg", r"\u001b[31mface"):
        assert escaped in shown


def test_an_unknown_home_directory_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        process_command(DataProcessor, ["--all", "--raw-data-dir", "~nobody-of-that-name/raw"])
    assert stop.value.code == 2
    assert "raw_data_dir='~nobody-of-that-name/raw': no home" in capsys.readouterr().err


def test_help_names_a_unit_and_a_default_for_every_flag():
    import inspect

    text = " ".join(run("--help").stdout.split())
    renamed = {"num_workers": "workers", "sources": "source", "progress": "no-progress"}
    renamed["follow_links"] = "no-links"
    for name in inspect.signature(DataProcessor).parameters:
        assert f"--{renamed.get(name, name).replace('_', '-')}" in text, name
    assert "(default: 500)" in text
    assert "detector 256, landmarker 192, teacher 128" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all", "--detector"], "choose --all, or one or more of"),
        (["--detector", "--no-teacher"], "--no-teacher goes with --all only"),
        (["--all", "--image-size", "16", "32"], "got '16 32'"),
        (
            ["--all", "--samples-per-shard", "4", "--shard-index", "0", "--num-jobs", "0"],
            "--num-jobs must be at least 1, got 0",
        ),
        (["--all", "--image-size", "detector=16", "detector=32"], "got 'detector=16 detector=32'"),
        (
            ["--all", "--image-size", "detector:16"],
            "(height x width) or detector",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        process_command(DataProcessor, arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_source_takes_the_options_of_its_format(raw_dir, tmp_path, capsys):
    import json

    other = json.loads((raw_dir / "annotations/instances.json").read_text())
    other["annotations"] = other["annotations"][1:]
    (raw_dir / "annotations/old.json").write_text(json.dumps(other))
    arguments = ["--detector", "--raw-data-dir", str(raw_dir), "--output-dir", str(tmp_path / "o")]
    arguments += ["--no-progress", "--image-size", "32"]
    assert process_command(DataProcessor, arguments) == 3
    assert "conflicting_annotations" in capsys.readouterr().out
    chosen = ["--source", "coco", "path=annotations/instances.json"]
    assert process_command(DataProcessor, [*arguments, *chosen]) == 0
    for wrong in (["coco", "path"], ["coco", "path=a", "path=b"], ["coco", "colour=red"]):
        with pytest.raises(SystemExit) as stop:
            process_command(DataProcessor, [*arguments, "--source", *wrong])
        assert stop.value.code == 2


def test_ctrl_c_gives_status_130_and_says_how_far_the_run_has_come(
    raw_dir, tmp_path, monkeypatch, capsys
):
    def interrupted(batches, results):
        next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageBatches, "next_part", interrupted)
    arguments = ["--detector", "--raw-data-dir", str(raw_dir), "--output-dir", str(tmp_path)]
    assert process_command(DataProcessor, arguments) == 130
    assert "1 of 24 images were processed" in capsys.readouterr().err


def test_a_missing_raw_directory_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        process_command(DataProcessor, ["--all", "--raw-data-dir", str(tmp_path / "nope")])
    assert stop.value.code == 2
    assert "nope does not exist" in capsys.readouterr().err
