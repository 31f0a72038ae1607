"""The NPZ file: its format, writer, reader and verification.

Only this folder knows the bytes of a file. Tasks, photographs and torch do not belong here.
"""
