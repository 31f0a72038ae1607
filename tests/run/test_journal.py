from collections import Counter

import pytest

from processing.core.errors import Rejection
from processing.run.image_member import ImageMember
from processing.run.journal import (
    JOURNAL_VERSION,
    Block,
    FinishedRecord,
    FlushRecord,
    Journal,
    JournalHeader,
    Progress,
    header_of,
)

HEADER = JournalHeader("key", {"train_detector": ImageMember("images", (8, 8, 3))}, JOURNAL_VERSION)


def record(n):
    return FlushRecord(
        images_done=n,
        blocks={"train_detector": Block(n, {"bboxes": bytes(n)})},
        counts={"train_detector": dict(Counter(clipped=n))},
        input_crc32=[n],
        image_keys=[2**64 - 1],
        rejections={"train_detector": [Rejection("a.jpg", "decode", "truncated", "cut")]},
        dropped={"train_detector": b"{}\n" * n},
    )


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "j", HEADER)
    journal.append([record(1), record(2)])
    journal.close()
    return tmp_path / "j"


def reopened(path, header=HEADER):
    journal = Journal(path, header)
    records = list(journal.records())
    journal.close()
    return records


def added_up(*records):
    progress = Progress()
    for one in records:
        progress.add(one)
    return progress


def test_progress_is_all_records_added_up_and_grows_with_each(path):
    journal = Journal(path, HEADER)
    assert journal.progress == added_up(record(1), record(2))
    assert journal.progress.rows == {"train_detector": 3}
    assert journal.progress.column_bytes == {"train_detector": {"bboxes": 3}}
    assert journal.progress.dropped_bytes == {"train_detector": 9}
    assert len(journal.progress.rejections["train_detector"]) == 2
    journal.append([record(4)])
    assert journal.progress == added_up(record(1), record(2), record(4))
    journal.close()


def test_records_read_back_equal_after_reopening(path):
    assert reopened(path) == [record(1), record(2)]


def test_a_journal_cut_anywhere_gives_its_whole_records_and_can_be_continued(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        journal = Journal(path, HEADER)
        survivors = list(journal.records())
        assert survivors == [record(1), record(2)][: len(survivors)]
        journal.append([record(3)])
        assert list(journal.records()) == [*survivors, record(3)]
        journal.close()


def test_a_flipped_byte_ends_the_journal_before_its_record(path):
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    assert reopened(path) == [record(1)]


def test_a_journal_of_another_run_is_emptied(path):
    other = JournalHeader("other", HEADER.outputs, JOURNAL_VERSION)
    assert reopened(path, other) == []
    assert header_of(path) == other


def test_what_was_finished_survives_reopening(path):
    journal = Journal(path, HEADER)
    journal.finish({"train_detector": 7})
    journal.close()
    assert reopened(path) == [record(1), record(2), FinishedRecord({"train_detector": 7})]
    journal = Journal(path, HEADER)
    journal.close()
    assert journal.progress.content_ids == {"train_detector": 7}


def test_a_journal_of_another_version_is_emptied(path):
    newer = JournalHeader(HEADER.key, HEADER.outputs, HEADER.version + 1)
    assert reopened(path, newer) == []


def test_a_file_that_is_no_journal_has_no_header(tmp_path):
    (tmp_path / "x").write_bytes(b"\x04\0\0\0not a journal at all")
    assert header_of(tmp_path / "x") is None
    assert header_of(tmp_path / "absent") is None


def test_an_image_that_several_files_lack_counts_once_and_not_as_left_out_by_a_rule():
    cut = Rejection("a.jpg", "decode", "truncated", "cut")
    rule = Rejection("b.jpg", "rules", "no_usable_annotation", "crowd 1")
    inverted = Rejection("b.jpg", "annotation", "no_usable_annotation", "inverted 1")
    progress = Progress(
        rejections={"train_detector": [cut, rule], "train_teacher": [cut, inverted]}
    )
    assert progress.rejected_images() == [cut, inverted]
