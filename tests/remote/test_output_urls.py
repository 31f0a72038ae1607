"""Outputs at URLs: the objects are the files of a local run, whoever puts them, and however often.

The raw directory has bad photographs, dropped boxes and copies, so that there are lists and notes.
"""

import itertools
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from moto.moto_server import threaded_moto_server
from PIL import Image

from processing.commands.process import process_command
from processing.core.errors import ChecksumError, ForeignFileError, IncompleteSetError
from processing.core.urls import URL
from processing.data_processor import DataProcessor
from processing.remote.files import list_files, read_file
from processing.remote.stores import open_store
from processing.run.image_batches import ImageBatches
from processing.run.upload import RemoteOutput
from tests.remote.conftest import BUCKET

SMALL = {"detector": 32, "landmarker": 24, "teacher": 16}
SETTINGS = {"image_size": SMALL, "num_workers": 1, "progress": False}
TASKS = ("detector", "teacher")
SHARDS = {"samples_per_shard": 5}
IMAGES = 14
HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


def write_raw(raw):
    """Writes photographs, of which one is damaged and two are equal, and a table of boxes."""
    raw.mkdir()
    rows = []
    for i in range(IMAGES):
        name = f"{i:02}.png"
        pixels = np.random.default_rng(max(i, 1)).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(raw / name)
        rows.append(f"{name},60,40,cat,{i},5,{i + 20},{25 + i}")
        if i % 3 == 0:
            rows.append(f"{name},60,40,dog,30,5,20,25")  # inverted
    (raw / "03.png").write_bytes((raw / "03.png").read_bytes()[:500])
    rows.append("04.png,60,40,cat,1,2,x,9")  # no number
    write_rows(raw, rows)
    return rows


def write_rows(raw, rows):
    (raw / "labels.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def processor(raw, output, **options):
    return DataProcessor(raw, output, **(SETTINGS | options))


def files(directory):
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.suffix in (".npz", ".json", ".jsonl")
    }


def objects(url):
    """The content of all objects but the records of shards."""
    found = {one.name: read_file(URL(url) / one.name) for one in list_files(URL(url))}
    return {name: content for name, content in found.items() if "/" not in name}


class Data:
    """A raw directory, and what local runs make of it."""

    def __init__(self, folder):
        self.raw = folder / "raw"
        self.rows = write_raw(self.raw)
        self.reports, self.expected = {}, {}
        for name, options in (("whole", {}), ("parts", SHARDS)):
            self.reports[name] = processor(self.raw, folder / name, **options).process_all()
            self.expected[name] = files(folder / name)
        assert {name.rpartition(".")[2] for name in self.expected["parts"]} == {
            *("npz", "json", "jsonl")
        }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Data(tmp_path_factory.mktemp("output_urls"))


@pytest.fixture
def raw(data, tmp_path):
    """A copy of the raw directory that the test may change."""
    return shutil.copytree(data.raw, tmp_path / "raw")


@pytest.fixture
def memory():
    """A URL in memory."""
    yield "memory://outputs/of a test"
    remove_objects()


def remove_objects():
    if fsspec.filesystem("memory").exists("/outputs"):
        fsspec.filesystem("memory").rm("/outputs", recursive=True)


class Bucket:
    """A bucket of a real S3 server on this machine.

    Attributes:
        url: of a directory in the bucket.
        requests: method and path of each request, in order.
        environment: variables with the address and credentials.
    """

    def __init__(self):
        self.url = f"s3://{BUCKET}/outputs"
        self.requests = []
        self.environment = {name: value for name, value in os.environ.items() if "AWS" in name}

    def puts(self):
        """The names of the objects that were put since the last call."""
        paths = [path for method, path in self.requests if method in ("PUT", "POST")]
        self.requests.clear()
        return sorted(path.rpartition("/")[2].partition("?")[0] for path in paths)


@pytest.fixture
def bucket(s3, monkeypatch):
    bucket = Bucket()

    def log_request(handler, *_):
        bucket.requests.append((handler.command, handler.path))

    monkeypatch.setattr(threaded_moto_server.MotoRequestHandler, "log_request", log_request)
    return bucket


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_the_objects_in_a_bucket_are_the_files_of_a_local_run(data, bucket, tmp_path, name):
    url, options = f"{bucket.url}/{name}", SHARDS if name == "parts" else {}
    one = processor(data.raw, url, work_dir=tmp_path, **options)
    report = one.process_all()
    assert objects(url) == data.expected[name]
    put = bucket.puts()
    assert sorted(path.rpartition("/")[2] for path in report.uploaded) == put
    assert set(put) >= data.expected[name].keys()
    assert len(put) == len(set(put))
    for mine, local in zip(report.files, data.reports[name].files, strict=True):
        assert str(mine.path) == f"{url}/{local.path.name}"
        assert mine.rows == local.rows
    assert report.notes == data.reports[name].notes
    assert f"put at {url}: {len(put)} files" in str(report)
    assert f"all in {url}/processing.notes.jsonl" in str(report)
    assert str(tmp_path) not in str(report)
    again = one.process_all()
    assert (again.up_to_date, again.uploaded, bucket.puts()) == (True, (), [])
    assert again.files == report.files


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_another_machine_finds_everything_there(data, memory, tmp_path, name):
    options = SHARDS if name == "parts" else {}
    first = processor(data.raw, memory, work_dir=tmp_path / "one", **options).process_all()
    assert objects(memory) == data.expected[name]
    second = processor(data.raw, memory, work_dir=tmp_path / "other", **options).process_all()
    assert second.uploaded == ()
    assert second.files == first.files
    assert second.notes == first.notes
    assert (second.images_decoded == 0) == (name == "parts")


def test_no_finished_shard_stays_in_the_work_directory(data, memory, tmp_path):
    processor(data.raw, memory, work_dir=tmp_path, **SHARDS).process_all()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"processing.lock", "processing.inputs.cache", "processing.rows.cache"} | {
        "processing.notes.jsonl"
    }


@pytest.mark.parametrize("work", ["same", "other"])
def test_a_changed_photograph_puts_its_shard_and_the_manifests(data, raw, memory, tmp_path, work):
    processor(raw, memory, work_dir=tmp_path / "same", **SHARDS).process_all()
    before = objects(memory)
    changed = raw / "07.png"
    changed.write_bytes(changed.read_bytes() + b"\0\0")  # decodes to the same, but is another file
    report = processor(raw, memory, work_dir=tmp_path / work, **SHARDS).process_all()
    processor(raw, tmp_path / "local", **SHARDS).process_all()
    after = objects(memory)
    assert after == files(tmp_path / "local")
    different = {name for name in after if after[name] != before.get(name)}
    assert len(different) == 2 * len(TASKS)
    assert {name for name in report.uploaded if "/" not in name} == different
    assert 0 < report.images_decoded <= SHARDS["samples_per_shard"]


def test_new_content_of_the_same_size_replaces_a_file(raw, memory, tmp_path):
    processor(raw, memory, work_dir=tmp_path / "work").process_all()
    before = objects(memory)
    pixels = np.asarray(Image.open(raw / "05.png")) // 2
    Image.fromarray(pixels).save(raw / "05.png")
    report = processor(raw, memory, work_dir=tmp_path / "work").process_all()
    processor(raw, tmp_path / "local").process_all()
    after = objects(memory)
    assert after == files(tmp_path / "local")
    assert {name: len(content) for name, content in after.items()} == {
        name: len(content) for name, content in before.items()
    }
    assert set(report.uploaded) == {name for name in after if after[name] != before[name]}


@pytest.mark.parametrize("options", [{}, SHARDS])
def test_when_lines_move_only_the_lists_are_put(data, raw, memory, tmp_path, options):
    processor(raw, memory, work_dir=tmp_path / "one", **options).process_all()
    write_rows(raw, ["", *data.rows[:3], "", *data.rows[3:]])
    report = processor(raw, memory, work_dir=tmp_path / "other", **options).process_all()
    processor(raw, tmp_path / "local", **options).process_all()
    assert objects(memory) == files(tmp_path / "local")
    put = [name for name in report.uploaded if "/" not in name]
    assert put
    assert all(name.endswith(".jsonl") for name in put)
    again = processor(raw, memory, work_dir=tmp_path / "third", **options).process_all()
    assert again.uploaded == ()


def test_jobs_with_work_directories_of_their_own_make_a_set(data, memory, tmp_path):
    url = memory

    def job(name):
        return processor(data.raw, url, work_dir=tmp_path / name, **SHARDS)

    report = job("first").process_shards(TASKS, 0, 2)
    assert report.missing_shards == 2
    assert not [name for name in objects(url) if name.endswith(".json")]
    with pytest.raises(IncompleteSetError, match=rf"{url}: .*missing.*train_detector-00001-of"):
        job("early").finalize(TASKS)
    assert not job("second").process_shards(TASKS, 1, 2).missing_shards
    assert objects(url) == data.expected["parts"]
    for name in ("train_detector.json", "val_teacher.json", "processing.notes.jsonl"):
        open_store(URL(url)).delete((URL(url) / name).key)
    shard = URL(url) / "train_teacher-00001-of-00003.npz"
    content = read_file(shard)
    open_store(shard).put(shard.key, content[:-1])
    with pytest.raises(IncompleteSetError, match=rf"1 of 8 files are missing.*{shard.name}"):
        job("third").finalize(TASKS)
    open_store(shard).put(shard.key, content)
    report = job("third").finalize(TASKS)
    assert objects(url) == data.expected["parts"]
    assert len(report.uploaded) == 3
    assert report.notes == data.reports["parts"].notes
    late = job("late").process_shards(TASKS, 0, 2)
    assert late.uploaded == ()


def test_two_jobs_that_put_the_same_shards_at_once_end_with_equal_bytes(data, memory, tmp_path):
    jobs = [processor(data.raw, memory, work_dir=tmp_path / str(i), **SHARDS) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda job: job.process_all(), jobs))
    assert objects(memory) == data.expected["parts"]
    assert processor(data.raw, memory, work_dir=tmp_path / "new", **SHARDS).process_all().up_to_date


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train_detector-00001-of-00003.npz", None),
        ("train_detector-00001-of-00003.npz", lambda content: content[:-900] + bytes(900)),
        ("train_teacher-00000-of-00003.rejected.jsonl", None),
        ("processing.shards/val_detector-00000-of-00001.json", None),
        ("processing.shards/val_detector-00000-of-00001.json", lambda content: content[:-9]),
    ],
)
def test_an_object_that_was_deleted_or_changed_is_put_again(data, memory, tmp_path, name, change):
    processor(data.raw, memory, work_dir=tmp_path / "work", **SHARDS).process_all()
    url = URL(memory) / name
    content = read_file(url)
    if change is None:
        open_store(url).delete(url.key)
    else:
        open_store(url).put(url.key, change(content))
    report = processor(data.raw, memory, work_dir=tmp_path / "work", **SHARDS).process_all()
    assert read_file(url) == content
    assert objects(memory) == data.expected["parts"]
    files = {one.removeprefix("processing.shards/").partition(".")[0] for one in report.uploaded}
    assert files == {url.name.partition(".")[0]}  # the file itself, and perhaps its record


class Stopped(BaseException):
    """Ends a run like a kill: no handler of the package runs."""


@pytest.mark.parametrize(
    ("options", "work", "step"),
    [
        ({}, "same", 3),
        (SHARDS, "other", 9),
        *(
            pytest.param(options, work, 1, marks=pytest.mark.long)
            for options in ({}, SHARDS)
            for work in ("same", "other")
        ),
    ],
)
def test_a_run_that_is_stopped_at_a_put_is_continued(
    data, memory, tmp_path, monkeypatch, options, work, step
):
    """At some puts or all, one after the other; before it, or after it, as if the answer was lost.

    The run is continued with its own work directory, or by another machine.
    """
    store = type(open_store(URL(memory)))
    put = store.put
    expected = data.expected["parts" if options else "whole"]
    for at in itertools.count(1, step):
        count = itertools.count(1)

        def stopped(self, key, content, at=at, count=count):
            now = next(count)
            if now != at or at % 2:
                put(self, key, content)
            if now == at:
                raise Stopped

        monkeypatch.setattr(store, "put", stopped)
        try:
            processor(data.raw, memory, work_dir=tmp_path / f"{at}-same", **options).process_all()
        except Stopped:
            left = objects(memory)
            assert all(expected[name] == content for name, content in left.items())
        else:
            break
        monkeypatch.setattr(store, "put", put)
        again = processor(data.raw, memory, work_dir=tmp_path / f"{at}-{work}", **options)
        again.process_all()
        assert objects(memory) == expected
        assert again.process_all().uploaded == ()
        remove_objects()
    assert at > 9


def test_a_new_file_is_never_taken_for_that_of_the_old_record(
    data, raw, memory, tmp_path, monkeypatch
):
    processor(data.raw, memory, work_dir=tmp_path / "old", **SHARDS).process_all()
    pixels = np.asarray(Image.open(raw / "05.png")) // 2
    Image.fromarray(pixels).save(raw / "05.png")
    store = type(open_store(URL(memory)))
    put = store.put

    def stopped(self, key, content):
        put(self, key, content)
        if key.endswith(".npz"):
            raise Stopped

    monkeypatch.setattr(store, "put", stopped)
    with pytest.raises(Stopped):
        processor(raw, memory, work_dir=tmp_path / "new", **SHARDS).process_all()
    monkeypatch.setattr(store, "put", put)
    with pytest.raises(IncompleteSetError, match="1 of 8 files are missing"):
        processor(data.raw, memory, work_dir=tmp_path / "third", **SHARDS).finalize(TASKS)
    processor(data.raw, memory, work_dir=tmp_path / "third", **SHARDS).process_all()
    assert objects(memory) == data.expected["parts"]


@pytest.mark.long
def test_a_process_that_is_killed_at_a_put_is_continued(data, bucket, fork_server, tmp_path):
    url, log = f"{bucket.url}/killed", tmp_path / "log"
    options = SETTINGS | SHARDS
    server = fork_server("tests.remote.killed_outputs")
    for at, how in ((1, "after"), (3, "before"), (4, "after"), (2, "after"), (0, "never")):
        where = {"raw": data.raw, "url": url, "work_dir": tmp_path / "work"}
        what = {"options": options, "environment": bucket.environment, "at": at, "how": how}
        status = server.run("make_shards", log, **where, **what)
        assert status == (-signal.SIGKILL if at else 0), log.read_text()
        left = objects(url)
        assert all(data.expected["parts"][name] == content for name, content in left.items())
    assert left == data.expected["parts"]


def foreign_npz(path):
    np.savez(path, images=np.zeros((3, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("train_detector.npz", {}),
        ("val_teacher.rejected.jsonl", {}),
        ("processing.notes.jsonl", {}),
        ("train_detector-00001-of-00003.npz", SHARDS),
        ("val_detector.json", SHARDS),
    ],
)
def test_an_object_of_another_program_is_refused_before_work(
    data, memory, tmp_path, monkeypatch, name, options
):
    foreign_npz(tmp_path / "foreign.npz")
    content = (tmp_path / "foreign.npz").read_bytes() if name.endswith("npz") else b'{"a": "b"}'
    open_store(URL(memory)).put((URL(memory) / name).key, content)
    decoded = []
    monkeypatch.setattr(ImageBatches, "results", lambda *_: decoded.append(1))
    with pytest.raises(ForeignFileError, match=rf"{memory}/{name}: expected a file of ours"):
        processor(data.raw, memory, work_dir=tmp_path / "work", **options).process_shards(
            TASKS, 1, 4
        ) if options else processor(data.raw, memory, work_dir=tmp_path / "work").process_all()
    assert objects(memory) == {name: content}
    assert not decoded


def test_objects_that_the_data_no_longer_has_are_removed(data, memory, tmp_path):
    foreign_npz(tmp_path / "foreign.npz")
    content = (tmp_path / "foreign.npz").read_bytes()
    mine = "test_teacher-00000-of-00009.npz"
    open_store(URL(memory)).put((URL(memory) / mine).key, content)
    for name, options in (("whole", {}), ("parts", SHARDS), ("whole", {})):
        work = tmp_path / str(len(list(tmp_path.iterdir())))
        report = processor(data.raw, memory, work_dir=work, **options).process_all()
        assert objects(memory) == data.expected[name] | {mine: content}
    assert "train_detector-*-of-00003.npz" in report.removed
    assert not [one.name for one in list_files(URL(memory)) if "/" in one.name]


@pytest.mark.parametrize("options", [{}, SHARDS])
def test_a_file_that_was_damaged_after_it_was_written_is_not_put(
    data, memory, tmp_path, monkeypatch, options
):
    put_files = RemoteOutput.put_files

    def damaged(self, npz, before=None):
        if npz.name.startswith("train_detector"):
            content = bytearray(npz.read_bytes())
            content[5000] ^= 1  # of the first image
            npz.write_bytes(content)
        return put_files(self, npz, before)

    monkeypatch.setattr(RemoteOutput, "put_files", damaged)
    with pytest.raises(ChecksumError, match="row 0") as caught:
        processor(data.raw, memory, work_dir=tmp_path, **options).process_all()
    assert f"not put at {memory}" in caught.value.__notes__[0]
    assert not [name for name in objects(memory) if name.startswith("train_detector")]


def test_an_executor_puts_shards_too(data, memory, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        one = processor(data.raw, memory, work_dir=tmp_path, executor=pool, **SHARDS)
        report = one.process_all()
    assert objects(memory) == data.expected["parts"]
    names = {name for name in report.uploaded if "/" not in name}
    assert names == data.expected["parts"].keys()


def test_photographs_and_files_may_both_be_at_urls(data, memory, tmp_path):
    raw = URL(memory) / "raw"
    for path in data.raw.iterdir():
        open_store(raw).put((raw / path.name).key, path)
    one = processor(str(raw), f"{memory}/out", work_dir=tmp_path, **SHARDS)
    report = one.process_all()
    assert objects(f"{memory}/out") == data.expected["parts"]
    assert report.notes == data.reports["parts"].notes
    assert one.process_all().uploaded == ()


@pytest.mark.long
def test_processes_put_shards_too(data, bucket, tmp_path):
    url = f"{bucket.url}/processes"
    one = processor(data.raw, url, work_dir=tmp_path, executor="processes", **SHARDS)
    report = one.process_all()
    assert objects(url) == data.expected["parts"]
    assert report.images_decoded == data.reports["parts"].images_decoded
    assert one.process_all().up_to_date


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("http://localhost/out", {}, "web servers are read only"),
        ("https://localhost/out", {}, "web servers are read only"),
        ("memory://out", {"executor": "processes", **SHARDS}, "in the memory of this process"),
    ],
)
def test_places_that_cannot_be_written_to_are_refused(tmp_path, output, options, message):
    with pytest.raises(ValueError, match=f"output_dir='{output}': .*{message}"):
        processor(tmp_path, output, **options)


def test_an_unknown_scheme_and_an_absent_bucket_are_reported_before_work(
    data, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(ImageBatches, "results", lambda *_: pytest.fail("photographs were read"))
    with pytest.raises(ValueError, match="no client for nowhere://"):
        processor(data.raw, "nowhere://out", work_dir=tmp_path).process_all()
    for options in ({}, SHARDS):
        with pytest.raises(OSError, match="the bucket s3://absent does not exist"):
            processor(data.raw, "s3://absent/out", work_dir=tmp_path, **options).process_all()


def test_the_command_line_writes_to_a_url(data, bucket, tmp_path, capsys):
    sizes = [f"{task}={side}" for task, side in SMALL.items()]
    status = process_command(
        DataProcessor,
        [
            *("--all", "--image-size", *sizes, "--workers", "1", "--no-progress"),
            *("--raw-data-dir", str(data.raw), "--output-dir", bucket.url),
            *("--work-dir", str(tmp_path / "work")),
        ],
    )
    assert status == 3  # a photograph is damaged
    assert objects(bucket.url) == data.expected["whole"]
    assert f"put at {bucket.url}: {len(data.expected['whole'])} files" in capsys.readouterr().out
