"""Benchmarks: this project compared with its peers and with the limit of the machine.

Each ``python -m benchmarks.NAME`` measures and, with ``--write-docs``, updates its section of
``docs/benchmarks.md``. The extra ``[bench]`` installs the peers; missing ones are listed as such.
This folder is not part of the installed packages.
"""
