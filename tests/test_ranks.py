"""Several ranks, as real processes that talk over gloo, share samples and stay in step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
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
def test_ranks_stay_in_step_and_count_each_sample_once(tmp_path, ranks):
    write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks_script", tmp_path, str(ranks)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,  # ranks that are not in step would wait for ever
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
