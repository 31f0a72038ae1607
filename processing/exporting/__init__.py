"""Writes the annotations of NPZ files in other formats, in pixels of the photographs."""
