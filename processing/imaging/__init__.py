"""One photograph: decoded upright, its annotations made valid, and the rows each task makes of it.

Pure functions of one image, safe from any thread. What writes files, or looks at other images,
does not belong here.
"""
