"""The file: its specification, its writer, its reader and its verification.

Nobody else knows a byte of an NPZ file. Tasks, photographs and torch do not belong here.
"""
