"""Tests of `processing.checking`."""
