"""Compressed files of other programs, and damage to their unpacked members."""

import os
import shutil
from zlib import crc32

import numpy as np
import pytest

from processing.__main__ import main
from processing.core.errors import NPZFormatError
from processing.lazy_dataset import LazyNPZDataset
from processing.npz.mapped import MappedNPZ
from processing.npz.unpacked import unpack_member
from tests.processes import PROCESSES

ROWS = 6


@pytest.fixture
def packed(tmp_path):
    """Returns the path of a compressed file, and its members."""
    images = np.random.default_rng(0).integers(0, 255, (ROWS, 9, 12, 3), dtype=np.uint8)
    members = {
        "images": images,
        "bboxes": np.tile(np.float32([1, 2, 5, 6]), (ROWS, 1)),
        "bboxes_offsets": np.arange(ROWS + 1),
        "image_paths": np.array([f"{i}.jpg" for i in range(ROWS)]),
        "image_crc32": np.array([crc32(image.tobytes()) for image in images], np.uint32),
    }
    path = tmp_path / "c.npz"
    np.savez_compressed(path, **members)
    return path, members


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("member", ["images", "bboxes", "bboxes_offsets", "image_paths"])
@pytest.mark.parametrize("checked", [False, True])
def test_a_damaged_unpacked_file_is_replaced(packed, member, checked):
    path, members = packed
    LazyNPZDataset(path).close()
    (unpacked,) = path.parent.glob(f"c.npz.{member}.*.npy")
    flip(unpacked)
    with LazyNPZDataset(path, verify=checked) as dataset:
        batch = dataset.get_batch(range(ROWS))
        dataset.verify()
    assert (batch["images"] == members["images"]).all()
    assert np.stack([boxes[0] for boxes in batch["bboxes"]]).tolist() == members["bboxes"].tolist()


def test_damage_of_the_npz_file_is_found_after_it_was_unpacked(packed):
    path, _ = packed
    with LazyNPZDataset(path) as dataset:
        dataset.verify()
    start = MappedNPZ(path)._members["images"][1]
    flip(path, start + 50)
    with LazyNPZDataset(path) as dataset, pytest.raises(NPZFormatError, match="images"):
        dataset.verify()


def test_the_partial_file_of_a_killed_process_is_overwritten(packed):
    path, _ = packed
    target = unpack_member(path, *MappedNPZ(path)._members["images"], None)
    left = target.with_name(f"{target.name}.partial")
    target.rename(left)
    with LazyNPZDataset(path) as dataset:
        dataset.verify()
    assert not left.exists()


def test_an_unpacked_file_has_the_permissions_of_the_npz_file(packed):
    path, _ = packed
    path.chmod(0o640)
    LazyNPZDataset(path).close()
    modes = {file.stat().st_mode & 0o777 for file in path.parent.glob("c.npz.*.npy")}
    assert modes == {0o640}


def test_verifying_leaves_no_files_behind(packed):
    path, _ = packed
    assert main(["verify", str(path)]) == 0
    assert list(path.parent.iterdir()) == [path]


def test_an_error_in_one_file_does_not_skip_the_others(packed, tmp_path, capsys):
    path, members = packed
    odd = tmp_path / "odd.npz"
    one = np.empty((), dtype=object)
    one[()] = [1.0]
    np.savez(odd, **{**members, "bboxes": one})
    assert main(["verify", *map(str, (odd, tmp_path / "absent.npz", path))]) == 1
    output, errors = capsys.readouterr()
    assert "odd.npz: member 'bboxes': expected a list a row" in errors
    assert "absent.npz: there is no such file" in errors
    assert "c.npz: ok, 6 rows" in output


def touch_what_is_cut(path, cold):
    dataset = LazyNPZDataset(path)
    if not cold:
        dataset.to_source(0, [[1, 1]])
    os.truncate(path, 100)
    touches = {"to_source": lambda: dataset.to_source(0, [[1, 1]])}
    for name in ("images", "image_paths", "bboxes", "source_rects", "source_sizes"):
        touches[name] = lambda name=name: getattr(dataset, name)
    for touch in touches.values():
        with pytest.raises(NPZFormatError, match="cut while in use"):
            touch()


@pytest.mark.parametrize("cold", [False, True])
def test_every_access_to_a_file_that_was_cut_is_an_error(packed, tmp_path, cold):
    """In a process of its own, because reading beyond the end of a mapped file kills it."""
    path = tmp_path / "plain.npz"
    rects = np.tile(np.float32([0, 0, 12, 9]), (ROWS, 1))
    np.savez(
        path, **packed[1], source_rects=rects, source_sizes=np.tile(np.int32([9, 12]), (ROWS, 1))
    )
    process = PROCESSES.Process(target=touch_what_is_cut, args=(path, cold))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def test_object_arrays_that_would_expand_too_much_are_refused(packed, tmp_path):
    _, members = packed
    many = np.empty(300_000, dtype=object)
    many[:] = [[] for _ in many]
    long = np.array(["a"] * 20_000 + ["x" * 50_000], dtype=object)
    for name, array, said in (
        ("bboxes", np.empty((10**6, 0), dtype=object), "taken for a bomb"),
        ("image_paths", long, "taken for a bomb"),
    ):
        path = tmp_path / f"{name}.npz"
        np.savez_compressed(path, **{**members, name: array})
        with pytest.raises(NPZFormatError, match=said):
            LazyNPZDataset(path)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("labels_offsets", lambda a: np.array([0, 0, 2, 3, 4, 5, 6])),
        ("source_rects", lambda a: a[:, ::-1]),
        ("source_rects", lambda a: a * np.nan),
        ("source_sizes", lambda a: -a),
        ("images", lambda a: a.astype(np.uint16)),
    ],
)
def test_verify_finds_members_that_contradict_each_other(packed, tmp_path, member, change):
    members = {
        **packed[1],
        "labels": np.zeros(ROWS, np.int32),
        "labels_offsets": np.arange(ROWS + 1),
        "source_rects": np.tile(np.float32([0, 0, 12, 9]), (ROWS, 1)),
        "source_sizes": np.tile(np.int32([9, 12]), (ROWS, 1)),
        "metadata": np.array('{"format_version": 1, "category_names": ["face"]}'),
    }
    for name, changed in (("sound", {}), ("changed", {member: change(members[member])})):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{**members, **changed})
        with LazyNPZDataset(path) as dataset:
            if changed:
                with pytest.raises(NPZFormatError, match=member.partition("_")[0]):
                    dataset.verify()
            else:
                dataset.verify()


def large(path, rows=70):
    """Writes a compressed file whose images unpack to more than 64 MiB."""
    images = np.zeros((rows, 600, 600, 3), np.uint8)
    images[:, :60] = np.random.default_rng(0).integers(0, 255, (60, 600, 3), dtype=np.uint8)
    np.savez_compressed(path, images=images)
    assert images.nbytes > 64 << 20
    return path


def test_a_large_unpacked_file_is_compared_like_a_small_one(tmp_path):
    path = large(tmp_path / "c.npz")
    sound = MappedNPZ(path)["images"][-1].copy()
    (unpacked,) = tmp_path.glob("c.npz.images.*.npy")
    status = unpacked.stat()
    flip(unpacked)
    os.utime(unpacked, ns=(status.st_atime_ns, status.st_mtime_ns))  # as damage would leave it
    assert np.array_equal(MappedNPZ(path)["images"][-1], sound)


def test_an_unpacked_file_is_compared_once_until_it_changes(packed, monkeypatch):
    path, _ = packed
    compared = []
    compare = MappedNPZ._crc32_of
    monkeypatch.setattr(
        MappedNPZ, "_crc32_of", lambda self, mapped: compared.append(1) or compare(self, mapped)
    )
    for _ in range(3):
        MappedNPZ(path)["images"]
    assert not compared  # this process has unpacked it, and compared it while it did
    (unpacked,) = path.parent.glob("c.npz.images.*.npy")
    os.utime(unpacked)
    for _ in range(3):
        MappedNPZ(path)["images"]
    assert len(compared) == 1


def test_unpacking_writes_through_no_link(packed, tmp_path):
    path, _ = packed
    target = unpack_member(path, *MappedNPZ(path)._members["images"], None)
    target.unlink()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    target.with_name(f"{target.name}.partial").symlink_to(victim)
    MappedNPZ(path)["images"]
    assert victim.read_bytes() == b"precious"
