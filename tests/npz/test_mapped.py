"""Members of NPZ files: mapped in place, unpacked, decoded, or refused."""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from processing.core.errors import ChecksumError, NPZFormatError, UnsafePickleError
from processing.npz import unpacked
from processing.npz.format import Member, end_of_archive
from processing.npz.mapped import MappedNPZ


def save(path, compressed=False, **arrays):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def zip_of(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **kwargs)
    return buffer.getvalue()


def header(shape, descr="<f4"):
    buffer = io.BytesIO()
    description = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(
        dtype=st.sampled_from(["u1", "<f4", ">f4", "<i8", ">u2", "?", "<U3", ">U2", "c8", "S2"]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
def test_any_array_reads_back_equal(tmp_path, array, fortran, compressed):
    if fortran:
        array = np.asfortranarray(array)
    found = MappedNPZ(save(tmp_path / "a.npz", compressed, x=array))["x"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert not found.flags.writeable


def test_stored_members_are_views_of_one_map(tmp_path):
    npz = MappedNPZ(save(tmp_path / "a.npz", x=np.arange(5), y=np.ones((2, 3))))
    assert list(npz) == ["x", "y"]
    assert len(npz) == 2
    assert "x" in npz
    assert "z" not in npz
    assert npz["x"] is npz["x"]
    assert npz["x"].base is npz["y"].base
    with pytest.raises(KeyError):
        npz["z"]
    with pytest.raises(ValueError, match="read-only"):
        npz["x"][0] = 1


def test_views_outlive_the_mapping(tmp_path):
    view = MappedNPZ(save(tmp_path / "a.npz", x=np.arange(5)))["x"]
    assert view.tolist() == [0, 1, 2, 3, 4]


def test_local_extra_fields_are_followed(tmp_path):
    # zip64 puts an extra field into the local header only.
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w") as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array(member, np.arange(7))
    assert MappedNPZ(tmp_path / "a.npz")["x"].tolist() == list(range(7))


def test_a_prefix_before_the_archive_is_skipped(tmp_path):
    path = save(tmp_path / "a.npz", x=np.arange(7))
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert MappedNPZ(path)["x"].tolist() == list(range(7))


class TestDeflated:
    def test_is_unpacked_once_next_to_the_file(self, tmp_path):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(1000))
        assert MappedNPZ(path)["x"].sum() == 499500
        (unpacked,) = tmp_path.glob("a.npz.x.*.npy")
        before = unpacked.stat().st_mtime_ns, unpacked.stat().st_ino
        assert np.load(unpacked).sum() == 499500
        assert MappedNPZ(path)["x"].sum() == 499500
        assert (unpacked.stat().st_mtime_ns, unpacked.stat().st_ino) == before
        assert not list(tmp_path.glob("*.partial"))

    def test_goes_to_cache_dir_if_named(self, tmp_path):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(10))
        MappedNPZ(path, cache_dir=tmp_path / "deep" / "cache")["x"]
        assert len(list((tmp_path / "deep" / "cache").glob("*.npy"))) == 1
        assert not list(tmp_path.glob("*.npy"))

    def test_a_changed_archive_is_unpacked_again(self, tmp_path):
        path = tmp_path / "a.npz"
        for value in (1, 2):
            save(path, compressed=True, x=np.full(100, value))
            assert MappedNPZ(path)["x"][0] == value

    def test_an_incomplete_unpacked_file_is_not_used(self, tmp_path):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(1000))
        MappedNPZ(path)["x"]
        (unpacked,) = tmp_path.glob("a.npz.x.*.npy")
        unpacked.write_bytes(unpacked.read_bytes()[:100])
        assert MappedNPZ(path)["x"].sum() == 499500

    def test_member_names_cannot_leave_the_directory(self, tmp_path):
        (tmp_path / "in").mkdir()
        path = zip_of(
            tmp_path / "in" / "a.npz", {"../../x.npy": npy(np.arange(3))}, zipfile.ZIP_DEFLATED
        )
        assert MappedNPZ(path)["../../x"].tolist() == [0, 1, 2]
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    @pytest.mark.parametrize("compressible", [True, False])
    def test_members_of_several_chunks_are_unpacked_and_verified(self, tmp_path, compressible):
        x = np.zeros(5_000_000, np.uint8)
        if not compressible:
            x = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8)
        npz = MappedNPZ(save(tmp_path / "a.npz", compressed=True, x=x))
        npz.verify("x")
        np.testing.assert_array_equal(npz["x"], x)

    def test_the_directory_is_read_once_for_all_members(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(9), y=np.arange(5))
        npz = MappedNPZ(path)
        monkeypatch.delattr("zipfile.ZipFile")
        for name in npz:
            npz.verify(name)
        assert npz["y"].tolist() == [0, 1, 2, 3, 4]

    def test_damage_is_found_while_unpacking(self, tmp_path):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(1000))
        data = bytearray(path.read_bytes())
        refused = 0
        for position in range(60, len(data) - 100, 7):
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(NPZFormatError, match=r"a\.npz"):
                MappedNPZ(path)["x"]
            refused += 1
        assert refused > 20
        assert not list(tmp_path.glob("*.npy"))
        assert not list(tmp_path.glob("*.partial"))

    def test_a_full_disk_reports_the_bytes_needed_and_a_remedy(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(1000))
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("U", (), {"free": 17}))
        with pytest.raises(OSError, match="8,128 bytes are needed, 17 are free") as caught:
            MappedNPZ(path)["x"]
        assert "pass cache_dir" in caught.value.__notes__[0]

    def test_threads_unpack_it_once(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.npz", compressed=True, x=np.arange(10000))
        calls, real, barrier = [], unpacked._unpack, threading.Barrier(4)
        monkeypatch.setattr(unpacked, "_unpack", lambda *a: (calls.append(a), real(*a)))

        def read(_):
            npz = MappedNPZ(path)
            barrier.wait(30)
            return int(npz["x"].sum())

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(read, range(4))) == {49995000}
        assert len(calls) == 1


def objects(*rows):
    array = np.empty(len(rows), dtype=object)
    for i, row in enumerate(rows):
        array[i] = row
    return array


class TestObjectArrays:
    def test_lists_numbers_arrays_and_text_are_read(self, tmp_path):
        rows = objects(
            [[1.5, 2, 3, 4]],
            [],
            np.ones((2, 4), ">f4"),
            [np.float32(0.5), np.int64(3), True],
            "a/b.jpg",
            (1, 2),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
        )
        found = MappedNPZ(save(tmp_path / "a.npz", x=rows))["x"]
        assert found[0] == [[1.5, 2, 3, 4]]
        assert found[1] == []
        assert found[2].tolist() == np.ones((2, 4)).tolist()
        assert found[3] == [0.5, 3, True]
        assert found[4] == "a/b.jpg"
        assert found[5] == [1, 2]
        assert found[6].tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_a_compressed_object_array_is_read(self, tmp_path):
        path = save(tmp_path / "a.npz", compressed=True, x=objects([1], [2, 3]))
        assert MappedNPZ(path)["x"].tolist() == [[1], [2, 3]]

    def test_numpy_1_module_names_are_read(self, tmp_path):
        # numpy 1 wrote protocol 3, which names modules in plain lines.
        body = pickle.dumps(objects([1.0], np.ones(2)), protocol=3)
        assert b"numpy._core.multiarray" in body
        stream = header((2,), "|O") + body.replace(b"numpy._core", b"numpy.core")
        found = MappedNPZ(zip_of(tmp_path / "a.npz", {"x.npy": stream}))["x"]
        assert found[1].tolist() == [1, 1]

    @pytest.mark.parametrize("compressed", [False, True])
    def test_hostile_pickles_run_nothing(self, tmp_path, compressed):
        mark = tmp_path / "ran"

        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(mark),)

        path = save(tmp_path / "a.npz", compressed, x=objects([Hostile()]))
        with pytest.raises(UnsafePickleError, match=r"a\.npz: member 'x'.*posix\.mkdir"):
            MappedNPZ(path)["x"]
        assert not mark.exists()

    @pytest.mark.parametrize(
        "body",
        [
            b"cbuiltins\neval\n(V1\ntR.",
            b"cnumpy\nload\n(Vx\ntR.",
            b"cnumpy.core.multiarray\n_reconstruct\n(V1\ntR}(Va\nI1\nub.",
            b"cnumpy\ndtype\n(VV8\ntR(I3\nV|\nNNNI8\nI1\nI0\ntb.",
            b"cnumpy\ndtype\n}(V__init__\nI1\nub.",
            b"cnumpy.core.multiarray\nscalar\n}(V__init__\nI1\nub.",
            b"cnumpy.core.multiarray\nscalar\n(N(Vx\ntR.",
            b"(dV1\nV2\ns.",
            b"\x80\x04N.",
            b"",
            b"\x80\x04\x8a",
            b"I1\n.",
            b"(lp0\ng0\na.",
        ],
    )
    def test_other_pickles_are_refused(self, tmp_path, body):
        path = zip_of(tmp_path / "a.npz", {"x.npy": header((1,), "|O") + body})
        with pytest.raises(NPZFormatError, match=r"a\.npz: member 'x'"):
            MappedNPZ(path)["x"]

    def test_a_dtype_that_hides_pointers_is_refused(self, tmp_path):
        # numpy itself would take these bytes for addresses of objects.
        state = b"(I1\n(I1\ntcnumpy\ndtype\n(VO8\ntR(I3\nV|\nNNNI-1\nI-1\nI0\ntbI00\nC\x08AAAAAAAAt"
        body = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
            + state
            + b"b."
        )
        path = zip_of(tmp_path / "a.npz", {"x.npy": header((1,), "|O") + body})
        with pytest.raises(NPZFormatError, match="member 'x'"):
            MappedNPZ(path)["x"]

    def test_every_damage_is_an_error_or_a_value(self, tmp_path):
        stream = bytearray(header((2,), "|O") + pickle.dumps(objects([1.0, 2], np.ones(2))))
        for position in range(128, len(stream)):
            for value in (0, 0x2E, 0xFF, stream[position] ^ 1):
                damaged = bytearray(stream)
                damaged[position] = value
                path = zip_of(tmp_path / "a.npz", {"x.npy": bytes(damaged)})
                with contextlib.suppress(NPZFormatError):
                    assert MappedNPZ(path)["x"].shape == (2,)

    def test_objects_inside_fields_are_refused(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.zeros(1, dtype=[("a", object)]))
        with pytest.raises(NPZFormatError, match="object fields"):
            MappedNPZ(path)["x"]


class TestDamagedFiles:
    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no\.npz"):
            MappedNPZ(tmp_path / "no.npz")

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty"),
            (b"PK\x03\x04 and then nothing", "was it cut short"),
            (b"\x89PNG\r\n", "begins with b'.x89PNG'"),
            (b"PK\x05\x06" + bytes(10), "not a complete NPZ"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path, content, said):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(NPZFormatError, match=rf"a\.npz: .*{said}"):
            MappedNPZ(tmp_path / "a.npz")

    def test_a_directory_is_refused(self, tmp_path):
        with pytest.raises(NPZFormatError, match="not a file but a directory; open_dataset"):
            MappedNPZ(tmp_path)

    def test_every_truncation_is_refused(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.arange(20), y=np.ones(3))
        data = path.read_bytes()
        for size in range(len(data)):
            path.write_bytes(data[:size])
            with pytest.raises(NPZFormatError, match=r"a\.npz"):
                MappedNPZ(path)

    def test_every_flipped_bit_is_an_error_or_found_by_verify_or_harmless(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.arange(4, dtype=np.uint8))
        data = path.read_bytes()
        silent = []
        for bit in range(len(data) * 8):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                npz = MappedNPZ(path)
                npz.verify("x")
            except (NPZFormatError, KeyError):
                continue
            assert npz["x"].tolist() == [0, 1, 2, 3]
            silent.append(bit // 8)
        # The other bytes have no meaning: times, versions, attributes.
        end_of_array = data.index(b"PK\x01\x02")
        assert not [byte for byte in silent if 30 + 5 + 20 <= byte < end_of_array]

    @pytest.mark.parametrize(
        ("shape", "descr"),
        [
            ((5,), "<f4"),
            ((3,), "<f4"),
            ((2, 2), "<f8"),
            ((1 << 62, 1 << 62), "<f4"),
            ((-4,), "<f4"),
        ],
    )
    def test_a_header_with_a_wrong_size_is_refused(self, tmp_path, shape, descr):
        path = zip_of(tmp_path / "a.npz", {"x.npy": header(shape, descr) + bytes(16)})
        with pytest.raises(NPZFormatError, match=r"a\.npz: member 'x': .*header"):
            MappedNPZ(path)["x"]

    def test_a_member_that_ends_beyond_the_file_is_never_read(self, tmp_path):
        head = header((1 << 20,), "|u1")
        member = Member.aligned("x.npy", 0, len(head))
        member.size = len(head) + (1 << 20)
        archive = member.local_header() + head + bytes(5000)
        (tmp_path / "a.npz").write_bytes(archive + end_of_archive([member], len(archive)))
        with pytest.raises(NPZFormatError, match=r"member 'x\.npy': expected .* bytes short"):
            MappedNPZ(tmp_path / "a.npz")["x"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\x09\x00\x10\x00",
            b"\x93NUMPY\x01\x00\xff\xff{'descr'",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
            b"\x93NUMPY\x01\x00\x06\x00{[(}])",
            b"not numpy at all",
        ],
    )
    def test_a_broken_npy_header_is_refused(self, tmp_path, content):
        path = zip_of(tmp_path / "a.npz", {"x.npy": content})
        with pytest.raises(NPZFormatError, match="npy header cannot be read"):
            MappedNPZ(path)["x"]

    def test_a_member_twice_is_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", npy(np.arange(3)))
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("x.npy", npy(np.arange(4)))
        with pytest.raises(NPZFormatError, match=r"'x\.npy' more than once"):
            MappedNPZ(tmp_path / "a.npz")

    def test_an_encrypted_member_is_refused(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.arange(3))
        data = bytearray(path.read_bytes())
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        with pytest.raises(NPZFormatError, match="encrypted"):
            MappedNPZ(path)["x"]

    def test_verify_finds_a_flipped_bit(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.arange(1000), y=np.arange(3))
        data = bytearray(path.read_bytes())
        data[data.index(npy(np.arange(1000))) + 500] ^= 4
        path.write_bytes(data)
        npz = MappedNPZ(path)
        npz.verify("y")
        with pytest.raises(ChecksumError, match=r"a\.npz: member 'x': CRC-32 is"):
            npz.verify("x")

    def test_a_file_cut_while_mapped_is_noticed(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.zeros(100_000))
        npz = MappedNPZ(path)
        npz.check_size()
        size = path.stat().st_size
        os.truncate(path, 5000)
        with pytest.raises(NPZFormatError, match=f"had {size:,} bytes .* now has 5,000"):
            npz.check_size()

    def test_replacing_the_file_does_not_disturb_an_open_one(self, tmp_path):
        path = save(tmp_path / "a.npz", x=np.full(1000, 1))
        npz = MappedNPZ(path)
        save(tmp_path / "b.npz", x=np.full(10, 2)).replace(path)
        npz.check_size()
        assert npz["x"].sum() == 1000
        assert MappedNPZ(path)["x"].sum() == 20
        assert MappedNPZ(path).content_id != npz.content_id


_OPEN_SPARSE = """
import resource, sys, time
import numpy as np
from processing.npz.mapped import MappedNPZ

def opened(path):  # seconds of the processor, and rows
    start = time.process_time()
    images = MappedNPZ(path)["images"]
    images[len(images) // 2].sum()
    return time.process_time() - start, len(images)

small, large = sys.argv[1:]
opened(small)  # imports what opening needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
runs = [opened(small)[0] / max(opened(large)[0], 1e-9) for _ in range(9)]
print(opened(large)[1], sorted(runs)[4],
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_time_to_open_does_not_depend_on_the_size_of_the_data(tmp_path):
    row = 128 * 128 * 3
    sizes = {"small": 2, "large": 2 * 10**6}  # 98 GB
    for name, rows in sizes.items():
        head = header((rows, 128, 128, 3), "|u1")
        sparse_zip(tmp_path / f"{name}.npz", "images.npy", head, row * rows)
    result = subprocess.run(
        [sys.executable, "-c", _OPEN_SPARSE, *(tmp_path / f"{name}.npz" for name in sizes)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    found, ratio, kilobytes = result.stdout.split()
    assert int(found) == sizes["large"]
    assert float(ratio) > 0.1
    assert int(kilobytes) < 10_000


def sparse_zip(path, name, head, data_bytes):
    """Writes an archive of one stored member; its data is a hole and its checksum is wrong."""
    member = Member.aligned(name, 0, len(head))
    member.size = len(head) + data_bytes
    with path.open("wb") as file:
        file.write(member.local_header() + head)
        file.seek(data_bytes, os.SEEK_CUR)
        file.write(end_of_archive([member], file.tell()))
