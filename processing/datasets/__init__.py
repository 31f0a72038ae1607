"""Samples and batches read from stored files: datasets, collation, order, loader.

The only folder of `processing` that imports torch. Code that decodes photographs or writes files
does not belong here.
"""
