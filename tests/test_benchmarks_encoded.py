"""The benchmark of encoded rows, on a few small photographs."""

from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import encoded
from benchmarks.contenders.encoded import SUBSAMPLINGS, Decode, OursEncoded, OursRaw
from benchmarks.harness import Pass, Result
from benchmarks.memory_data import small_photographs

IMAGES = 6


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    """Small photographs, stored in each form."""
    work = tmp_path_factory.mktemp("encoded")
    small_photographs(work, IMAGES)
    made = encoded.workload_of(work / "raw", work)
    for subsampling in SUBSAMPLINGS:
        writer = OursEncoded(made, 0, subsampling)
        writer.prepare(made.data, made.data.parent / writer.files)
    return made


def test_every_contender_without_a_library_reads_what_was_stored(workload):
    readers = [OursRaw(workload, 0)]
    for subsampling in SUBSAMPLINGS:
        readers += [Decode(workload, 1, subsampling), OursEncoded(workload, 1, subsampling)]
    for reader in readers:
        folder = workload.data.parent / reader.files
        reader.open(folder)
        assert sum(reader.read(0)) == IMAGES, reader.name
        reader.check(workload.data, folder)


def test_a_row_that_shows_another_photograph_is_not_taken_for_its_image(workload):
    image = workload.sample(0).image
    assert workload.shows(np.clip(image, 1, 254), image)
    assert not workload.shows(workload.sample(0).image[::-1], image)
    assert not workload.shows(image.astype(np.float32), image)


def test_bytes_and_likeness_are_those_of_the_stored_rows(workload):
    full, halved = encoded.likeness(workload)
    assert 0.05 < halved["share"] < full["share"] < 0.5
    assert len(full["psnr"]) == IMAGES
    assert min(full["psnr"]) > max(30, min(halved["psnr"]))


def test_each_table_has_the_contenders_of_its_form_and_raw_rows():
    one = Result([Pass(100, 1.0, 1.0)])
    names = ["4:4:4: decode alone, 1 thread", "4:2:0: FFCV jpg, 1 thread", "raw: ours, 0 threads"]
    saved = {
        "likeness": [{"kind": "4:4:4", "share": 0.16, "psnr": [40.0, 42.0, 30.0]}],
        "results": {name: asdict(one) for name in names},
        "read_mb": 200,
        "slow": {"raw": [100.0, 100.0], "4:4:4": [500.0, 700.0]},
    }
    likeness, *others = encoded.tables(saved)
    assert "| 4:4:4 | 0.160 | 40.0 | 30.0 |" in likeness
    full, halved, slow = (others[number] for number in (1, 3, 5))
    assert names[0] in full
    assert names[0] not in halved
    assert names[1] in halved
    assert names[2] in full
    assert names[2] in halved
    assert "| 4:4:4 | 600 (500 to 700) | 6.00 (5.00 to 7.00) |" in slow
