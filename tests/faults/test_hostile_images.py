"""Hostile image files among good ones: each gets its verdict, and no good one is lost."""

import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import features

from tests.faults.image_files import (
    PIXELS,
    Rejected,
    bombs,
    encoded,
    hostile_images,
    jpeg,
)
from tests.faults.processed import Processed, equal_rows, process_as_program
from tests.faults.tally import FalseAlarm

GOOD = {
    f"good/{i}.{name.lower()}": encoded(np.roll(PIXELS, i, axis=1), name)
    for i, name in enumerate(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
}
BOX = [0, 0, 16, 12]  # touches images of one pixel too

pytestmark = [
    # Pillow's warnings; the table has a case for each.
    pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File|Tag data larger)"),
    pytest.mark.filterwarnings("ignore:Image size"),
]


def write_data_set(raw, files):
    """Writes a COCO data set of these files, by name, with one box each and no declared sizes."""
    images, annotations = [], []
    for number, (name, data) in enumerate(files.items(), 1):
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        images.append({"id": number, "file_name": name})
        annotations.append({"image_id": number, "category_id": 1, "bbox": BOX})
    categories = [{"id": 1, "name": "thing"}]
    listed = {"images": images, "annotations": annotations, "categories": categories}
    (raw / "annotations.json").write_text(json.dumps(listed))
    return raw


def check_verdict(case, path, processed, rows):
    """Asserts that the file got its verdict; returns the outcome."""
    stored, listed = rows.get(path, []), processed.rejected.get(path, [])
    if isinstance(case.verdict, Rejected):
        assert not stored
        ((stage, reason, message),) = listed
        assert stage == case.verdict.stage
        assert reason in case.verdict.reasons.split()
        assert re.search(case.verdict.says, message), message
        assert " at 0x" not in message, "an address differs from run to run"
        return "detected"
    if listed:
        raise FalseAlarm(listed)
    (row,) = stored
    assert row["size"] == list(case.verdict.size)
    if case.verdict.pixels is not None:
        difference = np.abs(row["image"].astype(int) - case.verdict.pixels).max()
        assert difference <= case.verdict.tolerance
    return "unaffected"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The good files, processed without any other."""
    root = tmp_path_factory.mktemp("good")
    return Processed(write_data_set(root / "raw", GOOD), root / "out")


def assert_good_unchanged(good, processed):
    for task in ("detector", "teacher"):
        expected, found = good.rows(task), processed.rows(task)
        assert expected.keys() == GOOD.keys()
        for path, rows in expected.items():
            assert equal_rows(found[path], rows), path


def test_every_hostile_image_comes_to_its_verdict_and_no_good_one_is_lost(tmp_path, tally, good):
    cases = hostile_images()
    tally.points = len(cases)
    assert len({str(case) for case in cases}) == len(cases) >= 60
    files = {f"bad/{case.name}": case.data for case in cases} | GOOD
    processed = Processed(write_data_set(tmp_path / "raw", files), tmp_path / "out")
    assert_good_unchanged(good, processed)
    rows = processed.rows("detector")
    tally.each(cases, lambda case: check_verdict(case, f"bad/{case.name}", processed, rows))
    counts = processed.counts("detector")
    assert counts.images == len(files) == counts.rows + sum(counts.rejected.values())
    assert counts.listed == len(processed.rejected) == sum(counts.rejected.values())


NOISY = PIXELS[:16, :16] ^ np.random.default_rng(0).integers(0, 8, (16, 16, 3), np.uint8)
SMALL = {
    "jpeg": jpeg(NOISY, quality=75),
    "jpeg_progressive": jpeg(NOISY, quality=75, progressive=True),
    "png": encoded(NOISY, "PNG"),
    "webp": encoded(NOISY, "WEBP", lossless=True),
}
if features.check("avif"):
    SMALL["avif"] = encoded(NOISY, "AVIF")


@pytest.mark.parametrize("share", [0.1, pytest.param(1.0, marks=pytest.mark.long)])
def test_no_truncated_image_is_stored_unless_its_pixels_are_whole(tmp_path, tally, share, good):
    tally.seed = 0
    draw = random.Random(tally.seed)
    whole, cuts = {}, []
    for kind, data in SMALL.items():
        lengths = draw.sample(range(len(data)), int(share * len(data)))
        whole[kind] = f"whole/{kind}.{kind[:4]}"
        cuts += [f"{kind}/{length:05d}.{kind[:4]}" for length in sorted(lengths)]
    files = {path: SMALL[kind] for kind, path in whole.items()} | GOOD
    for cut in cuts:
        kind, name = cut.split("/")
        files[cut] = SMALL[kind][: int(name.split(".")[0])]
    tally.points = len(cuts)
    processed = Processed(write_data_set(tmp_path / "raw", files), tmp_path / "out")
    assert_good_unchanged(good, processed)
    rows = processed.rows("detector")

    def check(cut):
        kind = cut.split("/")[0]
        if cut not in rows:
            ((stage, reason, message),) = processed.rejected[cut]
            assert (stage, reason) in {
                ("decode", "truncated"),
                ("decode", "corrupt"),
                ("decode", "not_an_image"),
            }
            assert re.search("cut short|interrupted|damaged|empty|expected one of", message)
            return "detected"
        assert len(files[cut]) >= len(SMALL[kind]) - 16, (
            "only bytes behind the pixels may be missing"
        )
        (row,), (reference,) = rows[cut], rows[whole[kind]]
        np.testing.assert_array_equal(row["image"], reference["image"])
        return "unaffected"

    tally.each(cuts, check)


MEMORY = """
import resource, sys
from pathlib import Path
from processing.data_processor import DataProcessor
DataProcessor(Path(sys.argv[1]), Path(sys.argv[2]), image_size=24, num_workers=1).process_all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(raw, out):
    """Peak memory, in KiB, of a process that processes a directory."""
    line = [sys.executable, "-W", "ignore", "-c", MEMORY, str(raw), str(out)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=True)
    return int(done.stdout)


def test_a_decompression_bomb_is_refused_before_memory_is_taken(tmp_path, tally):
    plain = write_data_set(tmp_path / "plain", GOOD)
    least = peak_memory(plain, tmp_path / "plain_out")
    cases = bombs()
    tally.points = len(cases)
    files = {case.name: case.data for case in cases} | GOOD
    raw = write_data_set(tmp_path / "raw", files)
    assert peak_memory(raw, tmp_path / "out") - least < 48 << 10

    listed = (tmp_path / "out" / "train_detector.rejected.jsonl").read_text()
    listed += (tmp_path / "out" / "val_detector.rejected.jsonl").read_text()
    entries = [json.loads(line) for line in listed.splitlines()]

    def check(case):
        assert [e["reason"] for e in entries if e["path"] == case.name] == ["too_large"]
        return "detected"

    tally.each(cases, check)


def test_the_exit_status_tells_clean_from_rejected_from_failed_from_misused(programs, tmp_path):
    clean = write_data_set(tmp_path / "clean", GOOD)
    bad = write_data_set(tmp_path / "bad", GOOD | {"bad.jpg": b"no image"})
    (tmp_path / "empty").mkdir()

    log = tmp_path / "log"

    def status(raw, *more):
        where = ["--raw-data-dir", tmp_path / raw, "--output-dir", tmp_path / f"{raw}_out"]
        return programs.run(
            process_as_program, log, arguments=[*map(str, where), "--image-size", "24", *more]
        )

    assert status(clean.name, "--all") == 0
    assert status(bad.name, "--all") == 3
    assert "bad.jpg" in log.read_text()
    assert "rejected.jsonl" in log.read_text()
    assert status(bad.name, "--all") == 3, "also if the files are up to date"
    assert status("empty", "--all") == 1
    assert "no annotations found" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert status(bad.name, "--all", "--on-error", "raise") == 1
    assert status(clean.name) == 2
    assert status(clean.name, "--all", "--train-split", "2") == 2
