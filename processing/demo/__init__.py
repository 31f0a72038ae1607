"""Renders an annotated data set to try with; nothing of it is needed for one's own photographs."""

from processing.demo.scene import render_demo

__all__ = ["render_demo"]
