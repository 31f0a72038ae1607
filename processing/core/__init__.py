"""Types and tools for every stage: errors, annotations, columns, coordinates, threads, files.

Needs numpy, isal and the standard library only, and imports no other folder. Code for one format,
one task, photographs or torch does not belong here.
"""
