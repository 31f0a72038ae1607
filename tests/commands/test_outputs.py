"""One rule for the files that commands write: where they may go, and when they are replaced."""

import os
import shutil

import pytest

from processing.__main__ import main
from processing.data_processor import DataProcessor

WRITERS = ("preview", "report", "export", "process", "dry run")
OF_FILES = ("preview", "report")
NAMES = {"preview": "out.png", "report": "out.html"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory, shared_raw_dir):
    directory = tmp_path_factory.mktemp("outputs")
    settings = {"image_size": 32, "progress": False, "num_workers": 1}
    DataProcessor(shared_raw_dir, directory, **settings).process(["detector"])
    return directory


def write(verb, output, stored, raw, *more):
    """Runs a command that writes to `output`; returns its exit status."""
    file = str(stored / "train_detector.npz")
    sources = ["--raw-data-dir", str(raw), "--image-size", "32", "--output-dir", str(output)]
    words = {
        "preview": ["preview", file, "-n", "1", "-o", str(output)],
        "report": ["report", file, "-o", str(output)],
        "export": ["export", file, "--format", "coco", "-o", str(output)],
        "process": ["process", "--detector", *sources],
        "dry run": ["process", "--detector", "--dry-run", *sources],
    }
    try:
        return main([*words[verb], *more])
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize("verb", WRITERS)
def test_a_file_in_the_way_of_a_folder_is_named_with_what_to_do(
    verb, stored, shared_raw_dir, tmp_path, capsys
):
    (tmp_path / "taken").write_text("")
    output = tmp_path / "taken" / NAMES.get(verb, "out")
    assert write(verb, output, stored, shared_raw_dir) == 1
    error = capsys.readouterr().err
    assert f"{output}: cannot be written: {tmp_path}/taken is not a folder: choose another" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("verb", WRITERS)
def test_a_folder_that_this_user_may_not_write_to_is_named_before_the_work(
    verb, stored, shared_raw_dir, tmp_path, capsys, monkeypatch
):
    closed = tmp_path / "closed"
    closed.mkdir()
    allowed = os.access

    def access(path, *args, **kwargs):
        return os.fspath(path) != os.fspath(closed) and allowed(path, *args, **kwargs)

    monkeypatch.setattr(os, "access", access)  # root may write everywhere
    monkeypatch.setattr("processing.report.write.make_report", pytest.fail)
    output = closed / "new" / NAMES.get(verb, "out")
    assert write(verb, output, stored, shared_raw_dir) == 1
    error = capsys.readouterr().err
    assert f"{output}: cannot be written: this user may not write to the folder {closed}" in error
    assert "chmod" in error
    assert not list(closed.iterdir())


@pytest.mark.parametrize("verb", OF_FILES)
def test_a_file_of_the_command_is_replaced_and_any_other_needs_force(
    verb, stored, shared_raw_dir, tmp_path, capsys
):
    output = tmp_path / "new" / NAMES[verb]
    for _ in range(2):  # the first run makes the folder
        assert write(verb, output, stored, shared_raw_dir) == 0
    written = output.read_bytes()
    output.write_bytes(b"mine")
    assert write(verb, output, stored, shared_raw_dir) == 1
    assert "was not written by this command: choose another name, or give --force" in (
        capsys.readouterr().err
    )
    assert output.read_bytes() == b"mine"
    assert write(verb, output, stored, shared_raw_dir, "--force") == 0
    assert output.read_bytes() == written


def test_jpegs_of_preview_are_recognised(stored, tmp_path):
    output = tmp_path / "out.jpg"
    for _ in range(2):
        assert main(["preview", str(stored / "train_detector.npz"), "-o", str(output)]) == 0
    assert output.read_bytes()[:4] == b"\xff\xd8\xff\xe0"


@pytest.mark.parametrize("verb", OF_FILES)
def test_a_directory_is_wrong_usage_and_a_dead_link_is_never_replaced(
    verb, stored, shared_raw_dir, tmp_path, capsys
):
    output = tmp_path / NAMES[verb]
    output.mkdir()
    assert write(verb, output, stored, shared_raw_dir, "--force") == 2
    assert "is a directory; expected the name of a file" in capsys.readouterr().err
    output.rmdir()
    output.symlink_to(tmp_path / "nowhere")
    assert write(verb, output, stored, shared_raw_dir, "--force") == 1
    assert "a link that leads nowhere" in capsys.readouterr().err
    assert output.is_symlink()


@pytest.mark.parametrize("verb", ["preview", "report", "export"])
def test_an_empty_name_and_a_url_are_wrong_usage(verb, stored, shared_raw_dir, capsys):
    for output, message in (("", "is empty"), ("s3://bucket/out.png", "expected a local path")):
        assert write(verb, output, stored, shared_raw_dir) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "message"), [("", "is empty: was a variable"), ("s3://bucket", "expected a local path")]
)
def test_an_export_is_never_linked_to_an_unnamed_or_remote_directory(
    raw, message, stored, shared_raw_dir, tmp_path, capsys
):
    more = ("--format", "yolo", "--raw-data-dir", raw)  # the last --format counts
    assert write("export", tmp_path / "out", stored, shared_raw_dir, *more) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["info", "verify", "preview", "report", "export"])
def test_a_cache_directory_that_is_a_file_is_wrong_usage(
    verb, stored, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "taken"
    taken.write_text("")
    more = {"preview": ["-o", "out.png"], "export": ["--format", "coco", "-o", "out"]}
    words = [verb, str(stored / "train_detector.npz"), *more.get(verb, ())]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--cache-dir", str(taken)])
    assert ended.value.code == 2
    assert f"argument --cache-dir: {taken} is not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["process", "dry run"])
def test_files_never_go_among_the_photographs(verb, stored, shared_raw_dir, tmp_path, capsys):
    raw = shutil.copytree(shared_raw_dir, tmp_path / "raw")
    before = sorted(raw.rglob("*"))
    (tmp_path / "link").symlink_to(raw)
    for output in (raw, tmp_path / "link", raw / "images" / ".."):
        assert write(verb, output, stored, raw) == 2
        assert f"output_dir {output}: is raw_data_dir, too; give" in capsys.readouterr().err
    assert write(verb, raw / "images", stored, raw) == 2
    error = capsys.readouterr().err
    assert f"{raw}/images: is a folder of raw_data_dir {raw} with photographs, such as " in error
    assert sorted(raw.rglob("*")) == before
    with pytest.raises(ValueError, match="is raw_data_dir, too"):
        DataProcessor(raw, raw, progress=False).process(["detector"])


def test_files_in_a_folder_of_the_raw_directory_are_not_read_as_annotations(
    stored, shared_raw_dir, tmp_path, capsys
):
    raw = shutil.copytree(shared_raw_dir, tmp_path / "raw")
    first = second = ""
    for folder in ("preprocessed", "annotations"):  # of the second, the annotations are read again
        for _ in range(2):
            assert write("process", raw / folder, stored, raw, "--samples-per-shard", "9") == 0
            first, second = second, capsys.readouterr().out
        assert first.splitlines()[:-1] == second.splitlines()[:-1]
        assert "up to date: nothing to do" in second
