"""Rows of a stored file, drawn by ``npz-vision preview``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from website.pictures.demo import Demo


@dataclass(frozen=True)
class Sheet:
    """A sheet that was drawn into a file.

    Args:
        path: of the file.
    """

    path: Path

    def save(self, path: Path) -> None:
        """Copy the sheet to `path`."""
        shutil.copyfile(self.path, path)


def preview(demo: Demo) -> Sheet:
    """Draw nine rows of the detector's file."""
    command = ["preview", "demo/preprocessed/train_detector.npz", "-n", "9", "--side", "200"]
    status, printed = demo.run(*command, "-o", "preview.jpg")
    if status:
        raise RuntimeError(printed)
    return Sheet(demo.folder / "preview.jpg")
