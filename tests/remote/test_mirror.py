"""Local copies of annotations at URLs: never half a file, never outside, shared by processes."""

import json
import threading

import fsspec
import pytest
from filelock import FileLock

from processing.core.errors import SourceError
from processing.core.urls import URL
from processing.imaging.image_rows import ImageError
from processing.remote import files, mirror, stores
from processing.remote.files import read_parts
from processing.remote.mirror import Mirror
from processing.remote.photographs import RemotePhotographs
from tests.remote.conftest import BUCKET

URL_ = URL("memory://mirror/raw")


@pytest.fixture
def put():
    """Writes a file to memory: takes its name and content."""
    memory = fsspec.filesystem("memory")
    yield lambda name, content: memory.pipe(f"{URL_}/{name}", content)
    memory.rm("/mirror", recursive=True)


def tree(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../secret.json", "would lead out of its folder"),
        ("a/../../secret.json", "would lead out of its folder"),
        ("a//b.json", "no relative path without empty parts"),
        ("./b.json", "no relative path without empty parts"),
        ("a\0b.json", "holds a NUL"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(put, tmp_path, name, problem):
    put("good.json", b"{}")
    put(name, b"{}")
    with pytest.raises(SourceError, match=f"^{URL_}: a file is called .*, which .*{problem}"):
        Mirror(URL_, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_bucket_with_hostile_names_is_refused(s3, tmp_path):
    s3.put_object(Bucket=BUCKET, Key="raw/../secret.json", Body=b"{}")
    problem = r'.*"raw/\.\./secret\.json".*illegal character sequence "\.\."[^\n]*$'
    with pytest.raises(OSError, match=f"^s3://{BUCKET}/raw: {problem}"):
        Mirror(URL(f"s3://{BUCKET}/raw"), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_empty_files_that_stand_for_folders_are_left_out(s3, tmp_path):
    for key in ("raw/", "raw/images/", "raw/images/a.jpg"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"" if key.endswith("/") else b"x")
    s3.put_object(Bucket=BUCKET, Key="raw2/other.jpg", Body=b"x")
    assert set(Mirror(URL(f"s3://{BUCKET}/raw"), tmp_path).names) == {"images/a.jpg"}


def test_a_file_that_is_a_folder_as_well_is_refused(put, tmp_path, monkeypatch):
    listed = [stores.Listed("a.json", 2, 0.0, "1"), stores.Listed("a.json/b.json", 2, 0.0, "2")]
    monkeypatch.setattr(mirror, "list_files", lambda url: iter(listed))
    put("other.json", b"{}")
    with pytest.raises(SourceError, match=r"'a\.json' is both a file and a folder"):
        Mirror(URL_, tmp_path)


def test_names_that_are_one_file_on_the_disk_are_refused(put, tmp_path, monkeypatch):
    put("a.json", b"1")
    put("A.json", b"2")
    found = Mirror(URL_, tmp_path)
    found.copy(["a.json", "A.json"])  # this disk tells them apart, if it is Linux's
    monkeypatch.setattr(mirror.Path, "samefile", lambda self, other: True)
    put("b.json", b"3")
    with pytest.raises(SourceError, match="are one file on the disk"):
        Mirror(URL_, tmp_path).copy(["b.json"])


def test_a_download_that_fails_leaves_no_half_file_and_the_next_one_completes(
    put, tmp_path, monkeypatch
):
    put("a.json", b"first")
    put("sub/b.json", b"second")
    found = Mirror(URL_, tmp_path)

    def broken(url, size):
        yield b"fir"
        raise OSError(f"{url}: the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "read_parts", broken)
        with pytest.raises(OSError, match=r"a\.json: the connection was lost"):
            found.copy(["a.json"])
    assert tree(tmp_path).keys() >= {"copies.lock"}
    assert not (tmp_path / "copies").exists()
    assert len(tree(tmp_path / "partial")) == 1
    found.copy(["a.json", "sub/b.json"])
    assert tree(found.root) == {"a.json": b"first", "sub/b.json": b"second"}
    assert tree(tmp_path / "partial") == {}


def test_a_copy_that_was_cut_or_whose_note_is_lost_is_made_again(put, tmp_path):
    put("a.json", b"whole")
    Mirror(URL_, tmp_path).copy(["a.json"])
    copy = tmp_path / "copies/a.json"
    copy.write_bytes(b"who")
    Mirror(URL_, tmp_path).copy(["a.json"])
    assert copy.read_bytes() == b"whole"
    copy.write_bytes(b"WHOLE")
    (tmp_path / "copies.json").write_bytes(b"{")
    Mirror(URL_, tmp_path).copy(["a.json"])
    assert copy.read_bytes() == b"whole"


def test_notes_that_lead_out_remove_nothing(put, tmp_path):
    put("a.json", b"whole")
    Mirror(URL_, tmp_path / "work").copy(["a.json"])
    (tmp_path / "mine").write_text("keep")
    (tmp_path / "work/copies.json").write_text(json.dumps({"../../mine": "1"}))
    Mirror(URL_, tmp_path / "work").copy(["a.json"])
    assert (tmp_path / "mine").read_text() == "keep"


def test_a_file_may_take_the_place_of_a_folder(put, tmp_path):
    put("sub/deep/a.json", b"1")
    put("keep.json", b"2")
    Mirror(URL_, tmp_path).copy(["sub/deep/a.json", "keep.json"])
    fsspec.filesystem("memory").rm(f"{URL_}/sub", recursive=True)
    put("sub", b"3")
    found = Mirror(URL_, tmp_path)
    found.copy(["sub", "keep.json"])
    assert tree(found.root) == {"sub": b"3", "keep.json": b"2"}


def test_a_second_process_waits_and_copies_nothing_again(put, tmp_path, caplog):
    put("a.json", b"1")
    lock = FileLock(tmp_path / "copies.lock")
    lock.acquire()
    waiting = threading.Event()
    caplog.set_level("INFO")
    original = mirror._LOG.info
    mirror._LOG.info = lambda *args: (original(*args), waiting.set())
    found = Mirror(URL_, tmp_path)
    thread = threading.Thread(target=found.copy, args=(["a.json"],))
    try:
        thread.start()
        assert waiting.wait(30)
        assert not (tmp_path / "copies").exists()
    finally:
        mirror._LOG.info = original
        lock.release()
        thread.join()
    assert tree(found.root) == {"a.json": b"1"}
    assert "waiting for another process that copies annotations" in caplog.text


def test_a_large_file_is_read_in_parts_of_one_content(put, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 4)
    put("a.json", b"0123456789")
    parts = read_parts(URL_ / "a.json", 10)
    assert [bytes(part) for part in parts] == [b"0123", b"4567", b"89"]
    parts = read_parts(URL_ / "a.json", 10)
    next(parts)
    put("a.json", b"abcdefghij")
    with pytest.raises(OSError, match=r"a.json: was replaced while it was read: run again"):
        list(parts)


def test_a_file_that_has_grown_since_it_was_listed_is_read_to_its_end(put, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 4)
    put("a.json", b"0123456789")
    assert b"".join(read_parts(URL_ / "a.json", 2)) == b"0123456789"
    put("empty.json", b"")
    assert list(read_parts(URL_ / "empty.json", 0)) == []


def test_a_photograph_that_has_grown_too_large_is_refused(put, tmp_path):
    put("a.jpg", b"0123")
    photographs = RemotePhotographs(Mirror(URL_, tmp_path), 8)
    assert photographs.read("a.jpg") == b"0123"
    put("a.jpg", b"0123456789")
    with pytest.raises(ImageError, match="10 bytes: expected at most 8"):
        photographs.read("a.jpg")


def test_a_photograph_that_is_nowhere_is_missing_with_its_hint(put, tmp_path):
    put("a.jpg", b"0123")
    photographs = RemotePhotographs(Mirror(URL_, tmp_path), 8)
    with pytest.raises(ImageError, match=f"no such file below {URL_}"):
        photographs.read("b.jpg")
    with pytest.raises(ImageError, match="does not exist; look elsewhere"):
        photographs.read("b.jpg", "look elsewhere")
    assert photographs.begin("b.jpg") is None
    assert photographs.size("b.jpg") is None
    assert list(photographs.identities(["b.jpg"])) == [None]
