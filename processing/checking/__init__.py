"""Looks at a raw directory before anything is written, and says what processing would do with it.

Code that judges data belongs here: what would be left out, and what looks wrong although it could
be read. Nothing here writes a file. Predictions come from the functions that processing itself
calls; only the pixels are not rendered.
"""
