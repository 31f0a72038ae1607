"""One processing run: its plan, how far it came, what an earlier run left, what it published.

A run is handed a table of annotations and never sees a source format. What decodes one image, or
knows the bytes of a file, does not belong here.
"""
