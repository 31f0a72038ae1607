"""The names of the engines that make shards."""

from __future__ import annotations

from typing import Final

EXECUTORS: Final = ("threads", "processes", "dask", "ray")
"""``threads`` is this process: one shard after the other, each decoded by several threads."""
