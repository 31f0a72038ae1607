"""Renders an annotated data set for a first try.

This folder draws pictures. It imports nothing from the rest of the package, and no other folder
needs it.
"""

from processing.demo.scene import render_demo

__all__ = ["render_demo"]
