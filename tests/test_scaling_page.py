"""docs/scaling.md: commands that need no cluster and no bucket run; all others are understood."""

import functools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module

from processing.__main__ import main
from processing.commands.process import process_command
from processing.data_processor import DataProcessor
from tests.conftest import write_coco
from tests.markdown import code_blocks, run_python
from tests.remote.servers import RangeServer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"
BLOCKS = code_blocks(PAGE)
SCRIPTS = [block.code for block in BLOCKS if block.language == "bash"]
PROCESS, VERIFY = "npz-vision process ", "npz-vision verify "
NEEDS_MORE = ("--executor", "://")
"""Words of commands that take seconds, or need a cluster or a bucket."""


def commands():
    """Yields the commands of the page, one a line, with the numbers that a scheduler gives."""
    arguments = [line for block in BLOCKS if block.language == "yaml" for line in pod(block)]
    for script in [*SCRIPTS, *arguments]:
        text = script.replace("\\\n", " ")
        text = re.sub(r'"\$(SLURM_ARRAY_TASK_COUNT)"', "40", text)
        text = re.sub(r'"\$\w+"|\{\}', "3", text)
        text = text.removeprefix("parallel --jobs 4 ").partition(" :::")[0]
        for line in text.splitlines():
            command = line.partition("  #")[0].strip()
            if command and not command.startswith("#"):
                yield command


def pod(block):
    """The commands of a Kubernetes job."""
    containers = yaml.safe_load(block.code)["spec"]["template"]["spec"]["containers"]
    return [line for container in containers for line in container["args"]]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A working directory with photographs in data/raw."""
    write_coco(tmp_path / "data" / "raw", images=12)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_commands_and_python_run_in_their_order(data):
    done = []
    for command in commands():
        if any(word in command for word in NEEDS_MORE):
            continue
        # The page has millions of photographs.
        words = shlex.split(command.replace("-shard 10000", "-shard 3"))
        if command.startswith((PROCESS, VERIFY)):
            assert main(words[1:]) == 0, command
            done.append(command)
    assert len(done) >= 5
    assert (data / "preprocessed" / "train_detector.json").exists()
    with RangeServer(data).running() as server:
        namespace = {}
        for block in BLOCKS:
            if block.language == "python":
                code = block.code.replace("s3://bucket", server.url).replace(
                    "https://example.org/train_detector.npz",
                    f"{server.url}/preprocessed/val_detector-00000-of-00001.npz",
                )
                run_python(type(block)(block.language, code, block.line), namespace, PAGE)
    assert len(namespace["dataset"]) > 0


class UnderstoodError(Exception):
    """All flags and settings are right."""


class Understands(DataProcessor):
    @functools.wraps(DataProcessor.__init__)
    def __init__(self, **settings):
        super().__init__(**settings)
        raise UnderstoodError


def test_every_command_is_understood():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for command in commands():
        words = shlex.split(command)
        if command.startswith(PROCESS):
            with pytest.raises(UnderstoodError):
                process_command(Understands, words[2:])
        elif words[:2] == ["python", "train_example.py"]:
            with initialize_config_module("conf", version_base="1.3"):
                compose("train", ["run_dir=runs", *words[2:]])
        elif words[:2] == ["pip", "install"]:
            assert re.fullmatch(r"\.\[(\w+)\]", words[5])[1] in extras
        else:
            assert command.startswith(VERIFY), command


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid(script):
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.stderr == ""
