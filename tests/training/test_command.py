"""The command as other programs see it."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

import train_example
from tests.conftest import ROOT
from training.command import exit_statuses
from training.help import asks_for_help


@pytest.mark.parametrize("arguments", [["--help"], ["--info", "defaults"]])
def test_a_reader_that_has_read_enough_ends_the_command_quietly(monkeypatch, capsys, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "argv", ["train_example.py", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        try:
            train_example.main()
        except SystemExit as stop:
            assert stop.code == 0  # noqa: PT017 - the command may also return
    assert capsys.readouterr().err == ""


def test_the_hint_about_the_traceback_is_true(monkeypatch, capsys):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit, match="1"), exit_statuses():
        raise RuntimeError("no memory left")
    assert "set HYDRA_FULL_ERROR=1 to see the traceback" in capsys.readouterr().err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(RuntimeError, match="no memory left"), exit_statuses():
        raise RuntimeError("no memory left")


def test_ctrl_c_while_settings_are_read_is_one_line_and_status_130(tmp_path):
    plugin = tmp_path / "hydra_plugins" / "waiting.py"  # Hydra imports it when it begins
    plugin.parent.mkdir()
    plugin.write_text("import sys\nprint('waiting', flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen(
        [sys.executable, ROOT / "train_example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", "interrupted\n")
    assert process.returncode == 130


@pytest.mark.parametrize("settings", [[], ["model=teacher", "experiment=smoke", "seed=7"]])
def test_help_is_what_hydra_prints(monkeypatch, capsys, settings):
    printed = []
    # With a setting of its own, Hydra answers.
    for arguments in (["--help"], ["--help", "hydra.job.chdir=false"]):
        monkeypatch.setattr(sys, "argv", ["train_example.py", *settings, *arguments])
        monkeypatch.setattr(sys, "path", [*sys.path])
        with contextlib.suppress(SystemExit):
            train_example.main()
        printed.append(capsys.readouterr().out)
    assert "model: detector, landmarker, teacher\n" in printed[0]
    assert printed[0] == printed[1]


@pytest.mark.parametrize("other", ["hydra.verbose=true", "++hydra.verbose=true", "--cfg", "-m"])
def test_help_with_options_or_settings_of_hydra_is_left_to_hydra(other):
    assert asks_for_help(["--help", "seed=7"])
    assert not asks_for_help(["--help", other])
    assert not asks_for_help([other])
