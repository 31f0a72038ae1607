"""Checks that the files and directories in the settings exist, before anything else is done."""

from __future__ import annotations

from pathlib import Path

from training.exit_status import SettingsError
from training.hints import nearest

DEMO_DIR = Path("data/raw")
"""The only place where the demo is rendered: any other missing directory is a typing mistake."""
SHARDED = ("meta.pt", ".metadata", "checkpoint")
"""One of these is in a checkpoint that is a directory, of FSDP or DeepSpeed."""


def existing_checkpoint(ckpt_path: str | None) -> Path | None:
    """Return the checkpoint to start from, or None.

    Raises:
        SettingsError: there is no such file, or it is a folder without a checkpoint.
    """
    if not ckpt_path:
        return None
    path = Path(ckpt_path).expanduser()
    if not path.exists():
        raise SettingsError(f"ckpt_path={ckpt_path}: there is no such checkpoint")
    if path.is_dir() and not any((path / name).exists() for name in SHARDED):
        raise SettingsError(
            f"ckpt_path={ckpt_path}: is a folder, not a checkpoint; give a .ckpt file"
        )
    return path


def check_photographs(raw_data_dir: Path) -> None:
    """Check a directory of photographs; the demo is rendered where it belongs.

    Raises:
        SettingsError: it does not exist, or is a file.
    """
    if raw_data_dir != DEMO_DIR:
        check_directory("raw_data_dir", raw_data_dir)


def check_directory(key: str, path: Path) -> None:
    """Check that a directory exists.

    Args:
        key: of the setting, for the message.
        path: the directory.

    Raises:
        SettingsError: it does not exist, or is a file.
    """
    if path.is_dir():
        return
    problem = "is not a directory" if path.exists() else "there is no such directory"
    siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    raise SettingsError(f"{key}={path}: {problem}{nearest(path.name, siblings)}")
