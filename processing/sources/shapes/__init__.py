"""Helpers of the formats of annotation tools: JSON, XML, outlines of objects, and named points."""
