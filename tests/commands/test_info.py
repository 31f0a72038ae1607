"""``npz-vision info FILE…``."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from processing.__main__ import main
from processing.data_processor import DataProcessor
from processing.npz.summary import Summary
from tests.conftest import write_coco
from tests.markdown import section, table_rows
from tests.remote.servers import RangeServer

ROOT = Path(__file__).parents[2]
FILES = ["train_detector", "val_detector", "train_landmarker", "val_landmarker"]
FILES += ["train_teacher", "val_teacher"]


def described(capsys, *arguments):
    assert main(["info", *map(str, arguments), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    return answer["files"]


def test_a_directory_gives_a_table_of_its_files_and_each_of_them(processed_dir, capsys):
    assert main(["info", str(processed_dir)]) == 0
    text = capsys.readouterr().out
    table = text.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table[1:]] == [f"{name}.npz" for name in FILES]
    assert text.count("  members\n") == len(FILES)
    assert "face" in text


def test_json_has_the_documented_keys(processed_dir, capsys):
    (found,) = described(capsys, processed_dir / "train_detector.npz")
    page = section(ROOT / "docs" / "looking.md", "### The keys of --json")
    documented = {name.strip("` ") for cells in table_rows(page) for name in cells[0].split(",")}
    assert set(found) == documented
    assert {field.name for field in fields(Summary)} <= documented
    assert found["options"]["train_split"] == 0.8


def test_a_set_is_named_by_manifest_pattern_or_directory(tmp_path, capsys):
    write_coco(tmp_path / "raw", images=6)
    DataProcessor(
        tmp_path / "raw", tmp_path / "out", image_size=32, samples_per_shard=3
    ).process_detector(train_split=1.0)
    out = tmp_path / "out"
    places = [out / "train_detector.json", out / "train_detector-*.npz", out]
    *train, val = described(capsys, *places)
    assert (val["rows"], val["split"]) == (0, "val")
    assert len(train) == 3
    for found in train:
        assert (found["rows"], found["files"], found["split"]) == (6, 2, "train")


def test_a_damaged_file_is_reported_and_the_others_are_shown(processed_dir, tmp_path, capsys):
    good = shutil.copy(processed_dir / "val_detector.npz", tmp_path / "good.npz")
    bad = tmp_path / "bad.npz"
    bad.write_bytes(Path(good).read_bytes()[:5000])
    assert main(["info", str(bad), str(tmp_path / "none.npz"), str(good)]) == 1
    shown = capsys.readouterr()
    assert str(good) in shown.out
    assert [line.partition(": ")[2].partition(":")[0] for line in shown.err.splitlines()] == [
        str(bad),
        str(tmp_path / "none.npz"),
    ]


def test_a_directory_without_files_is_an_error(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 1
    assert "no NPZ file" in capsys.readouterr().err


def test_a_file_on_a_web_server_is_shown_with_its_lists(processed_dir, tmp_path, capsys):
    pytest.importorskip("obstore", reason="needs the extra [remote]")
    shutil.copy(processed_dir / "val_teacher.npz", tmp_path)
    (tmp_path / "val_teacher.dropped.jsonl").write_text('{"reason": "outside"}\n')
    with RangeServer(tmp_path).running() as server:
        (found,) = described(capsys, f"{server.url}/val_teacher.npz")
    (local,) = described(capsys, tmp_path / "val_teacher.npz")
    assert found["dropped"] == {"outside": 1}
    assert {**found, "paths": None} == {**local, "paths": None}
