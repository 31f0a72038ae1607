"""Raw directories at URLs: the same bytes as from a disk, and each photograph is read once."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from processing.commands.process import process_command
from processing.core.errors import SourceError, SourceNotFoundError, TooManyRejectedError
from processing.data_processor import DataProcessor
from processing.remote import stores
from processing.remote.photographs import RemotePhotographs
from tests.conftest import write_coco
from tests.remote.conftest import BUCKET
from tests.test_data_processor import rejected, stored_files

IMAGES = 12
SIZES = {"detector": 32, "landmarker": 24, "teacher": 16}
ANNOTATIONS = "annotations/instances.json"
ODD = "images/0003 100% «ü»#+&=.jpg"
"""A name that must be escaped in URLs."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A raw directory, and the files that a local run makes of it."""
    folder = tmp_path_factory.mktemp("raw_urls")
    raw = write_coco(folder / "raw", images=IMAGES, sizes=((60, 80), (80, 50)))
    (raw / "images/0003.jpg").rename(raw / ODD)
    content = (raw / ANNOTATIONS).read_text()
    (raw / ANNOTATIONS).write_text(content.replace("0003.jpg", ODD.removeprefix("images/")))
    # No format reads these.
    (raw / "photographs.zip").write_bytes(bytes(1000))
    (raw / ".hidden.json").write_text("{}")
    # As git stores a link where there are none; the report has a note on it.
    (raw / "link").write_text("images/0001.jpg")
    DataProcessor(raw, folder / "out", image_size=SIZES, progress=False).process_all()
    return folder


class Place:
    """A raw directory at a URL.

    Args:
        url: of the directory.
        put: writes a file there: takes its name and content.
        delete: deletes the file of a name.
        work_dir: of the processors.
    """

    def __init__(self, url, put, delete, work_dir):
        self.url, self.put, self.delete, self.work_dir = url, put, delete, work_dir

    def upload(self, directory):
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self.put(path.relative_to(directory).as_posix(), path.read_bytes())

    def processor(self, output_dir, **options):
        settings = {"image_size": SIZES, "num_workers": 2, "progress": False}
        return DataProcessor(self.url, output_dir, work_dir=self.work_dir, **(settings | options))

    def copies(self):
        """Returns the names of all local copies."""
        roots = list(self.work_dir.glob("*/raw/copies"))
        return {
            path.relative_to(root).as_posix()
            for root in roots
            for path in root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def memory(tmp_path):
    """A directory in fsspec's file system in memory."""
    files = fsspec.filesystem("memory")
    url = f"memory://raw-urls/{tmp_path.name}"
    yield Place(
        url,
        lambda name, content: files.pipe(f"{url}/{name}", content),
        lambda name: files.rm(f"{url}/{name}"),
        tmp_path / "work",
    )
    if files.exists("/raw-urls"):
        files.rm("/raw-urls", recursive=True)


@pytest.fixture
def bucket(s3, tmp_path):
    """A directory in a bucket."""
    return Place(
        f"s3://{BUCKET}/my data/raw",
        lambda name, content: s3.put_object(Bucket=BUCKET, Key=f"my data/raw/{name}", Body=content),
        lambda name: s3.delete_object(Bucket=BUCKET, Key=f"my data/raw/{name}"),
        tmp_path / "work",
    )


@pytest.fixture(params=["memory", "bucket"])
def place(request, source):
    """The raw directory at a URL of each kind."""
    place = request.getfixturevalue(request.param)
    place.upload(source / "raw")
    return place


class Reads:
    """The requests for content.

    Attributes:
        names: the files that were read, relative to the raw directory.
        errors: by name, raised instead of an answer.
    """

    def __init__(self):
        self.names, self.errors = [], {}

    def taken(self):
        """Returns the names so far, sorted, and forgets them."""
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def reads(monkeypatch):
    """Notes each request for content, of all stores."""
    reads = Reads()
    for store in (stores._ObjectStore, stores._FileSystem):

        def read(self, key, begin, end, ask=store.read):
            name = key.partition("raw/")[2] or key.partition("/")[2]
            reads.names.append(name)
            if name in reads.errors:
                raise reads.errors[name]
            return ask(self, key, begin, end)

        monkeypatch.setattr(store, "read", read)
    return reads


def lists(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.jsonl"))}


def photographs(source):
    return sorted(f"images/{path.name}" for path in (source / "raw/images").iterdir())


def test_a_url_gives_the_bytes_of_the_local_directory_and_reads_each_file_once(
    place, source, tmp_path, reads
):
    report = place.processor(tmp_path / "out").process_all()
    assert report.images_decoded == IMAGES
    assert stored_files(tmp_path / "out") == stored_files(source / "out")
    assert lists(tmp_path / "out") == lists(source / "out")
    assert "link_stored_as_text" in report.notes
    assert reads.taken() == [ANNOTATIONS, *photographs(source), "link"]
    assert place.copies() == {ANNOTATIONS, "link"}
    assert place.processor(tmp_path / "out").process_all().up_to_date
    assert place.processor(tmp_path / "out").process_all().up_to_date
    assert reads.taken() == []


@pytest.mark.parametrize("store", ["raw", "jpeg"])
def test_photographs_are_read_ahead_if_rows_of_earlier_files_are_of_no_use(
    memory, source, tmp_path, monkeypatch, store
):
    memory.upload(source / "raw")
    monkeypatch.setattr(RemotePhotographs, "at_once", 0)
    memory.processor(tmp_path / "out", num_workers=1).process_detector()
    begun = []

    def begin(self, path, hint, call=RemotePhotographs.begin):
        begun.append(path)
        return call(self, path, hint)

    monkeypatch.setattr(RemotePhotographs, "begin", begin)
    options = {"min_box_size": 5} if store == "raw" else {"store": store}
    report = memory.processor(tmp_path / "out", num_workers=1, **options).process_detector()
    if store == "raw":
        assert report.images_copied == IMAGES
        assert begun == []
    else:
        assert report.images_decoded == IMAGES
        assert begun == photographs(source)[5:]  # the first ones were on their way already


def test_another_machine_finds_the_files_up_to_date_without_reading_photographs(
    memory, source, tmp_path, reads
):
    memory.upload(source / "raw")
    memory.processor(tmp_path / "out").process_all()
    reads.taken()
    memory.work_dir = tmp_path / "other"
    assert memory.processor(tmp_path / "out").process_all().up_to_date
    assert reads.taken() == [ANNOTATIONS, "link"]


def test_only_changed_files_are_read_again(place, source, tmp_path, reads):
    place.processor(tmp_path / "out").process_all()
    reads.taken()
    # Of the same size, perhaps within the same second.
    raw = shutil.copytree(source / "raw", tmp_path / "raw")
    content = bytearray((raw / "images/0001.jpg").read_bytes())
    content[15] ^= 1  # the resolution in the header
    (raw / "images/0001.jpg").write_bytes(content)
    place.put("images/0001.jpg", bytes(content))
    report = place.processor(tmp_path / "out").process_all()
    assert report.images_decoded == 1
    # Read once to compare its content, and once to be decoded.
    assert reads.taken() == ["images/0001.jpg"] * 2
    text = (raw / ANNOTATIONS).read_text().replace('"face"', '"head"')
    (raw / ANNOTATIONS).write_text(text)
    place.put(ANNOTATIONS, text.encode())
    place.processor(tmp_path / "out").process_all()
    assert reads.taken() == [ANNOTATIONS]
    DataProcessor(raw, tmp_path / "local", image_size=SIZES, progress=False).process_all()
    assert stored_files(tmp_path / "out") == stored_files(tmp_path / "local")


def test_a_deleted_photograph_is_missing_and_a_deleted_annotation_leaves_no_copy(
    place, source, tmp_path
):
    raw = shutil.copytree(source / "raw", tmp_path / "raw")
    (raw / "more.json").write_bytes((raw / ANNOTATIONS).read_bytes())
    place.put("more.json", (raw / ANNOTATIONS).read_bytes())
    place.processor(tmp_path / "out").process_all()
    assert place.copies() == {ANNOTATIONS, "more.json", "link"}
    place.delete(ANNOTATIONS)
    place.delete("images/0001.jpg")
    (raw / ANNOTATIONS).unlink()
    (raw / "images/0001.jpg").unlink()
    place.processor(tmp_path / "out").process_all()
    assert place.copies() == {"more.json", "link"}
    assert not list(place.work_dir.glob("*/raw/copies/annotations"))
    DataProcessor(raw, tmp_path / "local", image_size=SIZES, progress=False).process_all()
    assert stored_files(tmp_path / "out") == stored_files(tmp_path / "local")
    found = [
        *rejected(tmp_path / "out", "train_detector"),
        *rejected(tmp_path / "out", "val_detector"),
    ]
    assert [(one["path"], one["reason"]) for one in found] == [("images/0001.jpg", "missing_image")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(FileNotFoundError("gone"), "missing_image"), (PermissionError("denied"), "unreadable")],
)
def test_a_photograph_that_is_refused_is_left_out(memory, source, tmp_path, reads, error, reason):
    memory.upload(source / "raw")
    reads.errors["images/0002.jpg"] = error
    memory.processor(tmp_path / "out").process_detector()
    found = [
        *rejected(tmp_path / "out", "train_detector"),
        *rejected(tmp_path / "out", "val_detector"),
    ]
    assert [(one["path"], one["reason"]) for one in found] == [("images/0002.jpg", reason)]


def test_a_server_that_fails_stops_the_run_which_then_continues(memory, source, tmp_path, reads):
    memory.upload(source / "raw")
    reads.errors["images/0008.jpg"] = OSError(f"{memory.url}/images/0008.jpg: 503 slow down")
    processor = memory.processor(tmp_path / "out", batch_size=2, flush_every=1)
    with pytest.raises(OSError, match=r"raw-urls.*images/0008\.jpg: 503") as failed:
        processor.process_all()
    assert "stage: read of images/0008.jpg" in failed.value.__notes__
    assert not stored_files(tmp_path / "out")
    reads.errors.clear()
    reads.taken()
    report = processor.process_all()
    assert report.images_resumed == 8
    assert reads.taken() == photographs(source)[8:]
    assert stored_files(tmp_path / "out") == stored_files(source / "out")


def test_a_folder_that_disappears_or_denies_everything_stops_the_run(
    memory, source, tmp_path, reads, monkeypatch
):
    memory.upload(source / "raw")
    names = photographs(source)
    reads.errors.update(dict.fromkeys(names, PermissionError("expired")))
    asked = []

    def denied(self, key, ask=stores._FileSystem.list):
        asked.append(key)
        if key.endswith("/images"):
            raise PermissionError(f"{key}: access is denied")
        return ask(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(stores._FileSystem, "list", denied)
        with pytest.raises(PermissionError, match="images: access is denied"):
            memory.processor(tmp_path / "out").process_all()
    assert len(asked) > 1

    def empty(self, key, ask=stores._FileSystem.list):
        return iter(()) if key.endswith("/images") else ask(self, key)

    reads.errors.update(dict.fromkeys(names, FileNotFoundError("gone")))
    monkeypatch.setattr(stores._FileSystem, "list", empty)
    with pytest.raises(FileNotFoundError, match="held images when this run began"):
        memory.processor(tmp_path / "out").process_all()


def test_a_file_that_is_too_large_is_refused_unread(memory, source, tmp_path, reads, monkeypatch):
    memory.upload(source / "raw")
    memory.put("images/0002.jpg", bytes(50_000))
    monkeypatch.setattr("processing.data_processor.MAX_FILE_BYTES", 20_000)
    memory.processor(tmp_path / "out").process_detector()
    found = [
        *rejected(tmp_path / "out", "train_detector"),
        *rejected(tmp_path / "out", "val_detector"),
    ]
    assert [(one["path"], one["reason"]) for one in found] == [("images/0002.jpg", "too_large")]
    assert "images/0002.jpg" not in reads.taken()


def test_messages_name_the_url_and_not_the_copies(memory, source, tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"raw directory memory://.*no file below it"):
        memory.processor(tmp_path / "out").process_all()
    memory.put("readme.txt", b"hello")
    with pytest.raises(SourceNotFoundError) as nothing:
        memory.processor(tmp_path / "out").process_all()
    assert str(nothing.value).startswith(f"{memory.url}: no annotations found among 1 files")
    memory.upload(source / "raw")
    with pytest.raises(SourceNotFoundError) as other:
        memory.processor(tmp_path / "out", sources=["pascal_voc"]).process_all()
    assert str(other.value).startswith(f"{memory.url}: nothing found of the format pascal_voc")
    content = json.loads((source / "raw" / ANNOTATIONS).read_text())
    for annotation in content["annotations"]:
        del annotation["keypoints"], annotation["num_keypoints"]
    memory.put(ANNOTATIONS, json.dumps(content).encode())
    with pytest.raises(SourceError) as without:
        memory.processor(tmp_path / "out").process_landmarker()
    assert f"in {memory.url} ({IMAGES} images listed)" in str(without.value)
    for error in (nothing, other, without):
        assert str(memory.work_dir) not in str(error.value)


def test_a_store_that_keeps_lists_is_asked_again(memory, source, tmp_path, monkeypatch):
    memory.upload(source / "raw")
    files, kept = type(fsspec.filesystem("memory")), {}
    find = files.find

    def kept_find(self, path, **options):
        return kept.setdefault(path, find(self, path, **options))

    monkeypatch.setattr(files, "find", kept_find)
    monkeypatch.setattr(files, "invalidate_cache", lambda self, path=None: kept.clear())
    memory.processor(tmp_path / "out").process_all()
    memory.delete("images/0001.jpg")
    report = memory.processor(tmp_path / "out").process_all()
    assert not report.up_to_date


def test_annotations_may_name_photographs_by_their_urls(memory, source, tmp_path):
    memory.upload(source / "raw")
    content = json.loads((source / "raw" / ANNOTATIONS).read_text())
    for image in content["images"]:
        image["file_name"] = f"{memory.url}/images/{image['file_name']}"
    memory.put(ANNOTATIONS, json.dumps(content).encode())
    memory.processor(tmp_path / "out").process_all()
    assert stored_files(tmp_path / "out") == stored_files(source / "out")


def sharded(place, output_dir, **options):
    return place.processor(output_dir, samples_per_shard=3, **options)


def test_jobs_read_the_photographs_of_their_own_shards_only(bucket, source, tmp_path, reads):
    bucket.upload(source / "raw")
    tasks = ["detector", "landmarker"]
    taken = []
    for job in range(2):
        bucket.work_dir = tmp_path / f"machine-{job}"
        sharded(bucket, tmp_path / "out").process_shards(tasks, job, 2)
        taken.append([name for name in reads.taken() if name.startswith("images/")])
    assert sorted(taken[0] + taken[1]) == photographs(source)
    assert all(taken)


def test_workers_of_an_engine_plan_again_and_share_the_copies(memory, source, tmp_path, reads):
    memory.upload(source / "raw")
    local = DataProcessor(
        source / "raw", tmp_path / "local", samples_per_shard=3, image_size=SIZES, progress=False
    )
    local.process_all()
    with ThreadPoolExecutor(2) as pool:
        report = sharded(memory, tmp_path / "out", executor=pool).process_all()
    assert report.shards_made_again == ()
    assert stored_files(tmp_path / "out") == stored_files(tmp_path / "local")
    assert reads.taken() == [ANNOTATIONS, *photographs(source), "link"]


@pytest.mark.long
def test_processes_make_the_same_shards_of_a_bucket(bucket, source, tmp_path):
    bucket.upload(source / "raw")
    sharded(bucket, tmp_path / "one").process_all()
    report = sharded(bucket, tmp_path / "out", executor="processes").process_all()
    assert report.shards_made_again == ()
    assert stored_files(tmp_path / "out") == stored_files(tmp_path / "one")


def test_the_command_takes_a_url(bucket, source, tmp_path, capsys):
    bucket.upload(source / "raw")
    where = ["--raw-data-dir", bucket.url, "--output-dir", str(tmp_path / "out")]
    arguments = ["--all", *where, "--work-dir", str(bucket.work_dir), "--no-progress"]
    sizes = [f"{task}={size}" for task, size in SIZES.items()]
    assert process_command(DataProcessor, [*arguments, "--image-size", *sizes]) == 0
    assert f"{IMAGES} images in" in capsys.readouterr().out
    assert stored_files(tmp_path / "out") == stored_files(source / "out")
    for name in photographs(source):
        bucket.delete(name)
    bucket.delete(ANNOTATIONS)
    assert process_command(DataProcessor, arguments) == 1
    assert f"SourceNotFoundError: {bucket.url}: no annotations found" in capsys.readouterr().err


def test_a_web_server_is_refused_with_a_remedy(tmp_path, capsys):
    arguments = ["--all", "--raw-data-dir", "https://example.org/raw", "--output-dir", "out"]
    with pytest.raises(SystemExit) as refused:
        process_command(DataProcessor, arguments)
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert "raw_data_dir='https://example.org/raw': web servers do not list their files" in said
    assert "s3://" in said


def test_a_missing_client_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    stores._store.cache_clear()
    arguments = ["--all", "--raw-data-dir", "s3://nothing/raw", "--output-dir", str(tmp_path)]
    assert process_command(DataProcessor, arguments) == 1
    assert "pip install 'npz-vision-data[remote]'" in capsys.readouterr().err


def test_all_photographs_missing_is_no_success(memory, source, tmp_path):
    memory.upload(source / "raw")
    for name in photographs(source):
        memory.delete(name)
    with pytest.raises(TooManyRejectedError):
        memory.processor(tmp_path / "out").process_all()
