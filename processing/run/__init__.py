"""One processing run: its plan, its progress, the leftovers of earlier runs, its published files.

`processing_run` tells the story; `journal` says how far a run came, and `leftovers` continues a
killed run.

A run is handed a table of annotations and never sees a source format. Code that decodes an image,
or knows the bytes of an NPZ file, does not belong here.
"""
