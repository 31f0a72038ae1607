"""Benchmarks: this project beside its peers and beside what the machine can do at most.

Each `python -m benchmarks.NAME` measures and, with ``--write-docs``, renews its section of
``docs/benchmarks.md``. The peers are the extra ``[bench]``; those that are missing are listed as
such. Not part of the installed packages.
"""
