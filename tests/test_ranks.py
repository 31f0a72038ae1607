"""Several ranks, as real processes that talk over gloo, share samples and stay in step."""

import json

import numpy as np
import pytest

from tests.ranks_script import train_and_count

SAMPLES = {"train": 10, "val": 9, "test": 1}


def write(directory):
    for split, n in SAMPLES.items():
        np.savez(
            directory / f"{split}_teacher.npz",
            images=np.zeros((n, 2, 2, 3), np.uint8),
            bboxes=np.zeros((n, 4), np.float32),
            image_paths=np.array([f"{i}.jpg" for i in range(n)]),
        )


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.long)])
def test_ranks_stay_in_step_and_count_each_sample_once(programs, tmp_path, ranks):
    write(tmp_path)
    log = tmp_path / "log"
    # Ranks that are not in step would wait for ever; the server ends them.
    program = {"directory": tmp_path, "ranks": ranks}
    status = programs.run_ranks(train_and_count, log, **program)
    assert status == 0, log.read_text()[-3000:]
    found = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    for source, stages in (
        ("datamodule", ("train", "val", "test")),
        ("loaders", ("train", "val")),
    ):
        for stage in stages:
            batches = [rank[source][stage] for rank in found]
            assert len({len(batch) for batch in batches}) == 1, (source, stage)
            samples = [i for rank in batches for batch in rank for i in batch]
            assert sorted(samples) == list(range(SAMPLES[stage])), (source, stage)
