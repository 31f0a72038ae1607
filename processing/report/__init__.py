"""The data report: one HTML page about stored files, for people.

`write.py` makes the page of `files.py` (what is there), `lists.py` (what was left out),
`statistics.py` (what is in the files), `looks.py` and `duplicates.py` (how images look, and which
look alike), `pictures.py` (which are shown), and `charts.py`. The page itself is in `page/`.

Reads files and the lists next to them, never annotations. Needs the extra ``report``.
"""
