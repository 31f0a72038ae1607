"""Looks at a raw directory before anything is written, and predicts the run that would follow.

Code that judges data belongs here: the inputs that would be left out, and those that look wrong
although they can be read. Nothing here writes a file. Predictions come from the functions that
processing itself calls; only the pixels are not rendered.
"""
