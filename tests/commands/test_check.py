"""``check RAW`` and ``process --dry-run``: output, exit status, and that nothing is written."""

import json

import pytest

from processing.__main__ import main

SMALL = ["--image-size", "detector=64", "landmarker=48", "teacher=32", "--workers", "2"]
KEYS = {"kind", "severity", "path", "file", "place", "message", "remedy", "others", "count"}


def test_clean_data_end_with_status_0_and_a_table(shared_raw_dir, capsys):
    assert main(["check", str(shared_raw_dir), *SMALL]) == 0
    text = capsys.readouterr().out
    assert "nothing to look at" in text
    assert "train_detector.npz" in text
    assert "instances.json (coco): 24 images" in text


def test_a_photograph_that_cannot_be_read_is_status_3_and_named(raw_dir, capsys):
    (raw_dir / "images/0002.jpg").write_bytes(b"no image")
    assert main(["check", str(raw_dir), *SMALL]) == 3
    text = capsys.readouterr().out
    assert "error not_an_image (1)" in text
    assert "images/0002.jpg" in text


def test_json_has_the_documented_keys(raw_dir, capsys):
    (raw_dir / "images/0003.jpg").write_bytes((raw_dir / "images/0001.jpg").read_bytes())
    assert main(["check", str(raw_dir), *SMALL, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 1
    assert report["images"] == report["photographs"] == 24
    assert all(finding.keys() == KEYS for finding in report["findings"])
    copies = [each for each in report["findings"] if each["kind"].startswith("exact_copy")]
    assert [(each["path"], each["others"]) for each in copies] == [
        ("images/0001.jpg", ["images/0003.jpg"])
    ]
    assert report["counts"]["warning"] >= 1


def test_examples_limits_what_is_printed(raw_dir, capsys):
    for name in ("0001", "0002", "0003"):
        (raw_dir / f"images/{name}.jpg").unlink()
    main(["check", str(raw_dir), *SMALL, "--examples", "1"])
    text = capsys.readouterr().out
    assert "error missing_image (3)" in text
    assert "and 2 more" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["RAW", "--json", "--examples", "2"],
        ["RAW", "--image-size", "x"],
        ["RAW", "--limit", "5"],  # a check looks at all photographs
        ["RAW", "--report"],
    ],
)
def test_wrong_usage_is_status_2(shared_raw_dir, arguments):
    arguments = [str(shared_raw_dir) if one == "RAW" else one for one in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    assert ended.value.code == 2


def test_a_dry_run_prints_the_report_of_check_and_writes_nothing(shared_raw_dir, tmp_path, capsys):
    output = tmp_path / "out"
    places = ["--raw-data-dir", str(shared_raw_dir), "--output-dir", str(output)]
    assert main(["process", "--all", "--dry-run", *places, *SMALL]) == 0
    dry = capsys.readouterr().out
    assert not output.exists()
    main(["check", str(shared_raw_dir), *SMALL])
    checked = capsys.readouterr().out
    estimated = "estimated: "
    without_time = [line for line in dry.splitlines() if not line.startswith(estimated)]
    assert without_time == [line for line in checked.splitlines() if not line.startswith(estimated)]


def test_a_dry_run_of_one_job_is_wrong_usage(shared_raw_dir, tmp_path):
    places = ["--raw-data-dir", str(shared_raw_dir), "--output-dir", str(tmp_path)]
    job = ["--samples-per-shard", "5", "--shard-index", "0"]
    with pytest.raises(SystemExit) as ended:
        main(["process", "--all", "--dry-run", *places, *job])
    assert ended.value.code == 2
