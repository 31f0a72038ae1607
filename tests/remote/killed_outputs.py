"""A run in a process of its own that writes to a bucket, and is killed at one of its requests."""

import itertools
import os
import signal
from pathlib import Path

from processing.data_processor import DataProcessor
from processing.remote import stores


def make_shards(raw, url, work_dir, options, environment, at, how):
    """In a child: makes all shards; killed before or after it puts the `at`-th object.

    Returns:
        The exit status.
    """
    os.environ |= environment
    put = stores._ObjectStore.put
    numbers = itertools.count(1)

    def killed(self, key, content):
        now = next(numbers)
        if now == at and how == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, key, content)
        if now == at:
            os.kill(os.getpid(), signal.SIGKILL)

    stores._ObjectStore.put = killed
    DataProcessor(Path(raw), url, work_dir=Path(work_dir), **options).process_all()
    return 0
