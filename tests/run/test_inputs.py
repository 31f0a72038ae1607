"""The cache of image contents: what passes for the same file, and what leaves the cache."""

import os
import shutil

import numpy as np
import pytest

from processing.imaging.contents import UNKNOWN_HEADER, ImageContent
from processing.imaging.photo import ImageHeader
from processing.imaging.photographs import LocalPhotographs
from processing.run.input_cache import InputCache, contents_in, entries_of, input_keys

CONTENT = ImageContent(5, 77, ImageHeader("JPEG", 8, 6, 3))


def remember(raw, paths, directory, content=CONTENT):
    """Notes the content of some images in the cache of a directory."""
    cache, keys = InputCache(directory), input_keys(LocalPhotographs(raw), paths)
    entries = cache.lookup(paths, keys)
    cache.update(entries_of(entries["path"], keys, [content] * len(paths)), paths)


def known(raw, paths, directory):
    entries = InputCache(directory).lookup(paths, input_keys(LocalPhotographs(raw), paths))
    return (entries["crc32"] != 0).tolist()


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("a", "b"):
        (raw / name).write_text(name)
    return raw


def test_an_image_is_known_until_its_file_changes(raw, tmp_path):
    remember(raw, ["a", "b"], tmp_path)
    assert known(raw, ["a", "b", "absent"], tmp_path) == [True, True, False]
    (raw / "a").write_text("longer")
    assert known(raw, ["a", "b"], tmp_path) == [False, True]


def test_all_that_was_known_of_an_image_comes_back(raw, tmp_path):
    remember(raw, ["a"], tmp_path)
    entries = InputCache(tmp_path).lookup(["a"], input_keys(LocalPhotographs(raw), ["a"]))
    assert contents_in(entries) == [CONTENT]
    remember(raw, ["b"], tmp_path, CONTENT._replace(header=UNKNOWN_HEADER))
    entries = InputCache(tmp_path).lookup(["b"], input_keys(LocalPhotographs(raw), ["b"]))
    assert entries["crc32"] == [CONTENT.crc32]
    assert contents_in(entries) == [None]


def same_size_and_times(path):
    status = path.stat()
    path.write_text("x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_file_of_that_name(path):
    status = path.stat()
    other = path.with_name("other")
    other.write_text("x" * status.st_size)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def a_link_of_that_name(path):
    another_file_of_that_name(path)
    path.rename(path.with_name("target"))
    path.symlink_to("target")


@pytest.mark.parametrize(
    "change", [same_size_and_times, another_file_of_that_name, a_link_of_that_name]
)
def test_equal_names_sizes_and_times_deceive_nobody(raw, tmp_path, change):
    remember(raw, ["a", "b"], tmp_path)
    change(raw / "a")
    assert known(raw, ["a", "b"], tmp_path) == [False, True]


def test_another_raw_directory_with_the_same_names_sizes_and_times_is_another_input(raw, tmp_path):
    remember(raw, ["a", "b"], tmp_path)
    other = shutil.copytree(raw, tmp_path / "other")  # with the times of the files
    assert known(other, ["a", "b"], tmp_path) == [False, False]
    os.link(raw / "a", tmp_path / "linked")
    (other / "a").unlink()
    os.link(raw / "a", other / "a")
    assert known(other, ["a"], tmp_path) == [False]


def test_an_image_read_through_a_link_is_another_input_where_links_are_refused(raw):
    followed = input_keys(LocalPhotographs(raw), ["a", "absent"])
    refused = input_keys(LocalPhotographs(raw, follow_links=False), ["a", "absent"])
    assert (followed == refused).tolist() == [False, True]


def test_the_cache_holds_one_entry_for_each_image_that_is_listed(raw, tmp_path):
    for round_ in range(5):
        (raw / "a").write_text(f"{round_}")
        remember(raw, ["a", "b"], tmp_path)
    assert len(InputCache(tmp_path)) == 2
    remember(raw, ["b"], tmp_path)
    assert len(InputCache(tmp_path)) == 1
    assert known(raw, ["a", "b"], tmp_path) == [False, True]


def test_an_image_that_cannot_be_read_leaves_the_cache(raw, tmp_path):
    remember(raw, ["a", "b"], tmp_path)
    remember(raw, ["a", "b"], tmp_path, CONTENT._replace(crc32=0))
    assert len(InputCache(tmp_path)) == 0


def test_images_of_the_same_path_and_content_are_counted(raw, tmp_path):
    remember(raw, ["a", "b"], tmp_path)
    cache = InputCache(tmp_path)
    entries = cache.lookup(["a", "b", "c"], input_keys(LocalPhotographs(raw), ["a", "b", "c"]))
    assert cache.count_unchanged(entries) == 2
    entries["crc32"][0] += 1
    assert cache.count_unchanged(entries) == 1
    assert InputCache(tmp_path / "absent").count_unchanged(entries) == 0


@pytest.mark.parametrize("content", [b"", b"PK broken", b"PK\3\4garbage", b"no archive"])
def test_an_input_cache_that_cannot_be_read_is_empty(raw, tmp_path, content):
    (tmp_path / "processing.inputs.cache").write_bytes(content)
    assert known(raw, ["a"], tmp_path) == [False]


def test_the_cache_of_an_earlier_version_is_empty(raw, tmp_path):
    from processing.core.files import write_cache

    keys = np.zeros(3, np.uint64)
    write_cache(tmp_path / "processing.inputs.cache", {"keys": keys, "entries": keys})
    assert known(raw, ["a"], tmp_path) == [False]
