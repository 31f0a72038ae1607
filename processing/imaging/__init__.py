"""One photograph: decoded upright, its annotations repaired, and the rows that each task makes.

Pure functions of one image, safe from any thread. Code that writes files or looks at several images
does not belong here.
"""
