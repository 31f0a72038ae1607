"""Samples and batches out of stored files: datasets, collation, order, loader.

The only folder of processing that imports torch. What decodes photographs or writes files does not
belong here.
"""
