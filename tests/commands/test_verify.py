"""``npz-vision verify FILE…``."""

import contextlib
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from isal.isal_zlib import crc32_combine

from processing.__main__ import main
from processing.data_processor import DataProcessor
from processing.npz.writer import NPZWriter
from tests.conftest import write_coco

ROOT = Path(__file__).parents[2]


# The command where these libraries are not installed: an import of any of them fails.
_WITHOUT_LIBRARIES = """
import sys
for name in ("torch", "lightning", "hydra", "cv2", "simplejpeg", "PIL"):
    sys.modules[name] = None
from processing.__main__ import main
sys.exit(main())
"""


def run(*arguments):
    command = [sys.executable, "-c", _WITHOUT_LIBRARIES, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def damaged(processed_dir, tmp_path):
    """Returns a detector file with one pixel of row 5 changed."""
    path = Path(shutil.copy(processed_dir / "train_detector.npz", tmp_path / "damaged.npz"))
    with np.load(path) as members:
        row = members["images"][5].tobytes()
    data = path.read_bytes()
    position = data.index(row) + 1000
    path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    return path


def test_sound_files_give_one_line_each_and_status_0_without_torch_or_a_decoder(processed_dir):
    files = sorted(processed_dir.glob("*_*.npz"))
    result = run("verify", *files)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(file) for file in files]
    assert all(": ok, " in line and " rows, " in line for line in lines)


def test_a_set_is_named_by_its_manifest_or_its_pattern(tmp_path, capsys):
    write_coco(tmp_path / "raw", images=8)
    sizes = {"detector": 32}
    DataProcessor(
        tmp_path / "raw", tmp_path, image_size=sizes, samples_per_shard=3, progress=False
    ).process_detector()
    assert (
        main(["verify", *(f"{tmp_path}/train_detector{end}" for end in (".json", "-*.npz"))]) == 0
    )
    assert capsys.readouterr().out.count("train_detector.json: ok, ") == 2
    assert main(["verify", str(tmp_path)]) == 0  # all sets in the directory
    assert capsys.readouterr().out.count("_detector.json: ok, ") == 2
    assert main(["verify", "memory://none/train_detector.json"]) == 1
    assert "train_detector.json: there is no such file" in capsys.readouterr().err


def test_a_directory_is_all_its_files_and_sets(processed_dir, tmp_path, capsys):
    assert main(["verify", str(processed_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {path.name for path in processed_dir.glob("*.npz")}
    assert {Path(line.partition(":")[0]).name for line in lines} == names
    assert main(["verify", str(tmp_path)]) == 1
    assert "no NPZ file in this directory" in capsys.readouterr().err


def test_a_damaged_file_gives_status_1_and_the_others_are_still_verified(
    processed_dir, damaged, tmp_path, capsys
):
    files = [tmp_path / "missing.npz", damaged, processed_dir / "val_teacher.npz"]
    assert main(["verify", *map(str, files)]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{files[2]}: ok, ")
    missing, wrong = captured.err.splitlines()
    assert missing.startswith(f"FileNotFoundError: {files[0]}: ")
    for said in (f"ChecksumError: {damaged}: member 'images', row 5 (", "CRC-32 is", "was written"):
        assert said in wrong
    assert "delete it and run the processor again" in wrong


@pytest.mark.parametrize("store", ["jpeg", "original"])
def test_a_file_of_encoded_images_is_verified(shared_raw_dir, tmp_path, capsys, store):
    options = {"image_size": 24, "store": store, "progress": False}
    DataProcessor(shared_raw_dir, tmp_path, **options).process(["detector"])
    assert main(["verify", str(tmp_path / "train_detector.npz")]) == 0
    assert "19 rows, detector 24x24, " in capsys.readouterr().out


def test_a_set_is_verified_by_its_manifest(shared_raw_dir, tmp_path, capsys):
    options = {"image_size": 24, "samples_per_shard": 8, "progress": False}
    DataProcessor(shared_raw_dir, tmp_path, **options).process(["detector"])
    manifest = tmp_path / "train_detector.json"
    assert main(["verify", str(manifest)]) == 0
    assert capsys.readouterr().out == f"{manifest}: ok, 19 rows in 3 shards, detector\n"
    shard = tmp_path / "train_detector-00001-of-00003.npz"
    content = bytearray(shard.read_bytes())
    content[8000] ^= 1
    shard.write_bytes(content)
    assert main(["verify", str(manifest)]) == 1
    assert "train_detector-00001-of-00003.npz: member 'images', row 2" in capsys.readouterr().err
    shard.unlink()
    other = tmp_path / "coco.json"
    other.write_text('{"images": []}')
    assert main(["verify", str(manifest), str(other)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert f"1 of 3 shards are missing: {shard.name}" in first
    assert "expected the manifest of a set" in second


def test_other_files_give_status_1(tmp_path, capsys):
    (tmp_path / "a.npz").write_text("<html>")
    (tmp_path / "b.txt").write_text("notes")
    assert main(["verify", str(tmp_path / "a.npz"), str(tmp_path / "b.txt")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "begins with b'<htm'" in first
    assert "give its manifest, such as train_detector.json" in second


@pytest.mark.parametrize("arguments", [[], ["verify"], ["verify", "--nonsense"], ["destroy", "x"]])
def test_wrong_usage_gives_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: npz-vision" in capsys.readouterr().err


def test_a_file_of_other_programs_is_verified_by_checksums_of_members(
    processed_dir, tmp_path, capsys
):
    with np.load(processed_dir / "train_detector.npz") as members:
        own = {name: members[name] for name in members if name != "image_crc32"}
    np.savez_compressed(tmp_path / "others.npz", **own)
    unpacked = tmp_path / "unpacked"
    command = ["verify", "--cache-dir", str(unpacked), str(tmp_path / "others.npz")]
    assert main(command) == 0
    assert "made by others" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".npy"] == []

    (images,) = unpacked.glob("others.npz.images.*.npy")
    whole = images.read_bytes()
    images.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(command) == 0  # the NPZ file is sound; the unpacked file is replaced
    assert images.read_bytes() == whole


_VERIFY_LARGE = """
import resource, sys
from processing.npz.contents import Contents
from processing.npz.verify import verify_columns
contents = Contents.open(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
verify_columns(contents)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    rows, height, width = 2000, 200, 330  # 396 MB
    row = np.zeros((height, width, 3), np.uint8)
    checksum = zlib.crc32(row)
    total = 0
    with contextlib.closing(NPZWriter(tmp_path / "large.npz")) as writer:
        writer.begin("images", np.uint8, row.shape)
        for _ in range(rows):
            writer.append([row])
            total = crc32_combine(total, checksum, row.nbytes)
        writer.end(total)
        writer.write("bboxes", np.zeros((rows, 4), np.float32))
        writer.write("image_paths", np.array(["a.b"] * rows))
        writer.write("image_crc32", np.full(rows, checksum, np.uint32))
        writer.finish()
    command = [sys.executable, "-c", _VERIFY_LARGE, str(tmp_path / "large.npz")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(result.stdout) < 60_000, "kilobytes"
