import numpy as np
import pytest

from processing.run.inputs import InputCache, input_keys


def test_the_input_cache_knows_an_image_until_its_file_changes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    keys = input_keys(tmp_path, ["a", "b", "absent"])
    InputCache(tmp_path).update(keys, np.array([7, 8, 0], dtype=np.uint32))
    checksums, known = InputCache(tmp_path).lookup(keys)
    assert checksums.tolist() == [7, 8, 0]
    assert known.all()
    (tmp_path / "a").write_text("longer")
    _, known = InputCache(tmp_path).lookup(input_keys(tmp_path, ["a", "b", "absent"]))
    assert known.tolist() == [False, True, True]


@pytest.mark.parametrize("content", [b"", b"PK broken", b"PK\3\4garbage", b"no archive"])
def test_an_input_cache_that_cannot_be_read_is_empty(tmp_path, content):
    (tmp_path / "processing.inputs.cache").write_bytes(content)
    (tmp_path / "a").write_text("a")
    _, known = InputCache(tmp_path).lookup(input_keys(tmp_path, ["a"]))
    assert not known.any()
