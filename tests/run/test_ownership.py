"""A run replaces and removes only files that this package wrote."""

import os
import threading

import numpy as np
import pytest

from processing.core.errors import ForeignFileError, InterferenceError
from processing.data_processor import DataProcessor
from processing.run.output_directory import JOURNAL_NAME, LOCK_NAME, locked
from tests.conftest import write_coco

FOREIGN = b"a file that somebody else wrote, with more than a few bytes"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("owned") / "raw", images=10)


def processor(raw, output, **options):
    return DataProcessor(raw, output, image_size=16, progress=False, num_workers=1, **options)


@pytest.fixture
def out(raw, tmp_path):
    processor(raw, tmp_path / "out").process_all()
    return tmp_path / "out"


def content(directory):
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in directory.iterdir()
        if path.name != LOCK_NAME
    }


def write_npz(path):
    np.savez(path, images=np.zeros((3, 16, 16, 3), np.uint8), bboxes=np.zeros((3, 4), np.float32))


def write_bytes(path):
    path.write_bytes(FOREIGN)


def write_folder(path):
    path.mkdir()


def write_pipe(path):
    os.mkfifo(path)


def write_link(path):
    target = path.with_name("victim")
    target.write_bytes(FOREIGN)
    path.symlink_to(target)


def write_link_to_nothing(path):
    path.symlink_to(path.with_name("nothing"))


def write_lines(path):
    path.write_text('{"path": "a.jpg", "score": 0.5}\n')


WRITERS = [
    *(write_bytes, write_folder, write_pipe),
    *(write_link, write_link_to_nothing),
]
REPLACED = [
    *("train_detector.npz", "val_teacher.npz", "train_landmarker.npz.partial"),
    *("test_detector.npz.partial", "val_detector.npz.earlier"),
    *("train_detector.rejected.jsonl", "val_detector.dropped.jsonl"),
    *("train_detector.rejected.jsonl.partial", "processing.inputs.cache.partial"),
    *("processing.journal", "processing.inputs.cache", "processing.rows.cache"),
    *("processing.lock", "processing.notes.jsonl"),
]


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("write", WRITERS)
def test_what_another_program_wrote_stops_the_run_before_any_work(raw, tmp_path, name, write):
    write(tmp_path / name)
    before = content(tmp_path)
    with pytest.raises(ForeignFileError, match="move it away, or choose another output_dir") as met:
        processor(raw, tmp_path).process_all()
    assert str(met.value).startswith(str(tmp_path / name))
    assert isinstance(met.value, FileExistsError)
    assert content(tmp_path) == before


def test_the_files_of_the_old_tool_are_never_replaced(raw, tmp_path):
    write_npz(tmp_path / "train_detector.npz")
    before = content(tmp_path)
    for _ in range(2):
        with pytest.raises(ForeignFileError, match=r"an NPZ file of another program.*numpy\.savez"):
            processor(raw, tmp_path).process_all()
    assert content(tmp_path) == before
    (tmp_path / "train_detector.npz").rename(tmp_path / "old_detector.npz")
    assert processor(raw, tmp_path).process_all().images_decoded == 10


@pytest.mark.parametrize(
    "line", ['{"path": "a.jpg", "score": 0.5}', '{"path":"a.jpg","stage":"train","score":0.5}']
)
def test_a_list_of_another_program_is_not_replaced(raw, tmp_path, line):
    (tmp_path / "train_detector.rejected.jsonl").write_text(f"{line}\n")
    with pytest.raises(ForeignFileError, match=r"train_detector\.rejected\.jsonl"):
        processor(raw, tmp_path).process_all()


def test_files_that_the_run_does_not_make_may_be_of_others(raw, tmp_path):
    write_npz(tmp_path / "test_detector.npz")
    write_npz(tmp_path / "train_teacher.npz")
    write_lines(tmp_path / "train_teacher.rejected.jsonl")
    write_lines(tmp_path / "test_landmarker.rejected.jsonl")
    before = content(tmp_path)
    processor(raw, tmp_path).process_detector()
    assert before.items() <= content(tmp_path).items()


def test_our_file_saved_again_by_another_program_is_not_ours(raw, out):
    path = out / "train_detector.npz"
    with np.load(path) as stored:
        members = {**stored, "labels": np.ones(1)}
    np.savez(path, **members)
    with pytest.raises(ForeignFileError, match=r"train_detector\.npz"):
        processor(raw, out).process_all()


def cut(content):
    return content[: len(content) // 2]


def cut_to_the_first_page(content):
    return content[:4096]


def lose_the_end(content):
    return content[:-3000] + bytes(3000)


def lose_the_beginning(content):
    return bytes(4096) + content[4096:]


def lose_all(content):
    return bytes(len(content))


def empty(_):
    return b""


def flip_bits(content):
    return (
        bytes(byte ^ (position % 7 == 0) for position, byte in enumerate(content[:64]))
        + (content[64:])
    )


DAMAGES = [
    *(cut, cut_to_the_first_page, lose_the_end, lose_the_beginning, lose_all, empty, flip_bits)
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_our_own_file_does_not_stop_a_run(raw, out, damage):
    sound = content(out)
    for name in ("train_detector.npz", "val_teacher.npz"):
        (out / name).write_bytes(damage((out / name).read_bytes()))
    processor(raw, out).process_all()
    assert {n: c for n, c in content(out).items() if n.endswith(".npz")} == {
        n: c for n, c in sound.items() if n.endswith(".npz")
    }


@pytest.mark.parametrize("damage", [cut, lose_the_end, lose_all, empty, flip_bits])
@pytest.mark.parametrize("name", ["processing.inputs.cache", "processing.rows.cache"])
def test_damage_to_our_own_caches_does_not_stop_a_run(raw, out, damage, name):
    (out / name).write_bytes(damage((out / name).read_bytes()))
    assert processor(raw, out).process_all().up_to_date


def stopped(raw, out, monkeypatch):
    """Leaves the journal and the partial files of a run that was stopped."""
    from processing.run.processing_run import ProcessingRun

    def stop(*_):
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(ProcessingRun, "_finish_lists", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            processor(raw, out, batch_size=2, flush_every=1).process_all()
    assert (out / JOURNAL_NAME).exists()
    assert (out / "train_detector.npz.partial").exists()


@pytest.mark.parametrize("damage", [cut, lose_the_end, lose_all, empty, flip_bits, None])
def test_what_a_killed_run_left_is_ours_even_without_its_journal(
    raw, tmp_path, damage, monkeypatch
):
    stopped(raw, tmp_path, monkeypatch)
    journal = tmp_path / JOURNAL_NAME
    if damage is None:
        journal.unlink()
    else:
        journal.write_bytes(damage(journal.read_bytes()))
    assert not processor(raw, tmp_path).process_all().up_to_date
    assert processor(raw, tmp_path).process_all().up_to_date


def test_a_link_to_our_own_file_is_replaced_and_its_target_kept(raw, out, tmp_path):
    """As data version control leaves it."""
    target = tmp_path / "store"
    (out / "val_detector.npz").rename(target)
    (out / "val_detector.npz").symlink_to(target)
    stored = target.read_bytes()
    assert processor(raw, out).process_all().up_to_date
    assert not processor(raw, out, seed=5).process_all().up_to_date
    assert not (out / "val_detector.npz").is_symlink()
    assert target.read_bytes() == stored


def test_a_second_processor_of_this_process_is_an_error_while_the_first_works(raw, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with locked(tmp_path / "out"):
        for same in (tmp_path / "out", tmp_path / "link", tmp_path / "out" / ".." / "out"):
            with pytest.raises(InterferenceError, match="another processor of this process"):
                processor(raw, same).process_all()
        failed = []

        def run():
            try:
                processor(raw, tmp_path / "out").process_all()
            except InterferenceError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert len(failed) == 1
        processor(raw, tmp_path / "other").process_all()
    assert processor(raw, tmp_path / "out").process_all().images_decoded == 10


def test_the_output_may_lie_in_the_raw_directory(tmp_path):
    raw = write_coco(tmp_path / "raw", images=10)
    before = processor(raw, tmp_path / "elsewhere").process_all()
    report = processor(raw, raw / "out").process_all()
    assert report.notes == before.notes
    assert processor(raw, raw / "out").process_all().up_to_date


def test_files_of_another_data_set_that_a_run_replaces_are_named_in_its_report(tmp_path):
    one = write_coco(tmp_path / "one", images=10)
    other = write_coco(tmp_path / "other", images=10, seed=5)  # the same names
    report = processor(one, tmp_path / "out").process_detector()
    assert report.replaced_data == ()
    report = processor(other, tmp_path / "out").process_detector()
    assert report.replaced_data == ("train_detector.npz", "val_detector.npz")
    assert "replaced the files of another data set, with other images: train_detector.npz" in str(
        report
    )
    report = processor(other, tmp_path / "out", seed=3).process_detector()
    assert report.replaced_data == ()


def test_files_of_an_earlier_data_set_that_stay_are_named(tmp_path):
    one = write_coco(tmp_path / "one", images=10)
    other = write_coco(tmp_path / "other", images=12, seed=5)
    (other / "images").rename(other / "photos")
    processor(one, tmp_path / "out").process_all()
    write_npz(tmp_path / "out" / "test_landmarker.npz")
    before = content(tmp_path / "out")
    for _ in range(2):
        report = processor(other, tmp_path / "out").process_detector()
        assert report.notes["other_file"] == 1
        assert report.notes["other_data"] > 0
        text = (tmp_path / "out" / "processing.notes.jsonl").read_text()
        for name in ("train_teacher", "val_teacher", "train_landmarker", "val_landmarker"):
            assert f"{name}.npz was made of other data, and stays" in text
        assert "test_landmarker.npz was written by another program, and stays" in text
    for name in ("train_teacher.npz", "val_landmarker.npz", "test_landmarker.npz"):
        assert (tmp_path / "out" / name).read_bytes() == before[name]


def test_of_files_of_the_same_data_set_nothing_is_said(raw, out):
    assert not processor(raw, out).process_detector().notes
    assert not processor(raw, out, seed=3).process_all().notes
