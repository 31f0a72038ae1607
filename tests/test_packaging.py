"""The built package: what a wheel holds, and that type checkers follow an editable install."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import datamodules
import processing

ROOT = Path(__file__).parents[1]
FOLDERS = ("processing", "datamodules", "models", "conf", "training")

# A file of another project. It uses every public name.
NAMES = [*processing.__all__, *datamodules.__all__]
REVEALED = "\n".join(f"reveal_type({name})" for name in NAMES)
USER_FILE = f"""
from datamodules import {", ".join(datamodules.__all__)}
from processing import {", ".join(processing.__all__)}
from processing.data_processor import DataProcessor as Processor
from processing.demo import render_demo
from processing.lazy_dataset import LazyNPZDataset as Dataset

reveal_type(LazyNPZDataset("train_detector.npz"))
reveal_type(DataProcessor("raw").process_all())
reveal_type(LazyNPZDataModule(data_dir="preprocessed").val_dataloader())
reveal_type(render_demo("raw"))
{REVEALED}
Dataset(3)
Processor("raw", bach_size=4)
"""

# All of them together take a minute to read, and no assertion depends on their types.
LIBRARIES = (
    *("torch", "lightning", "numpy", "PIL", "matplotlib", "IPython", "jinja2", "filelock"),
    *("hydra", "omegaconf", "distributed", "ray", "obstore"),
)
MYPY_SETTINGS = f"""
[mypy]
strict = true
[mypy-{",".join(f"{name}.*" for name in LIBRARIES)}]
follow_imports = skip
follow_imports_for_stubs = true
[mypy-cv2.*,simplejpeg.*]
ignore_missing_imports = true
"""


def build(target, directory, root=ROOT):
    """Builds as pip does, only without the network, and returns the wheel or sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "-d", str(directory)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    (built,) = directory.glob("*.tar.gz" if target == "sdist" else "*.whl")
    return built


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(wheel_path):
    return zipfile.ZipFile(wheel_path)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The folder of an unpacked sdist."""
    directory = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", directory)) as archive:
        archive.extractall(directory, filter="data")
    (unpacked,) = (path for path in directory.iterdir() if path.is_dir())
    return unpacked


def metadata(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_string(wheel.read(name).decode())


def test_a_wheel_holds_every_module_and_setting_and_no_test(wheel):
    expected = {"train_example.py"}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(path.relative_to(ROOT).as_posix())
    stored = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert stored == expected
    assert {"processing/py.typed", "datamodules/py.typed", "conf/train.yaml"} <= stored
    assert {"processing/sources/coco/reader.py", "conf/trainer/ddp.yaml"} <= stored


def test_an_sdist_holds_the_tests_and_what_they_read(sdist):
    expected = {"constraints.txt", "pyproject.toml", "README.md", "SECURITY.md", ".ci/run"}
    for folder in (*FOLDERS, "benchmarks", "docs", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(path.relative_to(ROOT).as_posix())
    stored = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*") if path.is_file()}
    assert expected <= stored


def test_the_sdist_builds_the_same_wheel(sdist, wheel_path, tmp_path):
    assert build("wheel", tmp_path, sdist).read_bytes() == wheel_path.read_bytes()


def test_the_command_of_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path)
    (points,) = tmp_path.glob("*.dist-info/entry_points.txt")
    module, function = re.search(r"npz-vision = ([\w.]+):(\w+)", points.read_text()).groups()
    code = f"import sys; from {module} import {function}; sys.argv[0] = 'npz-vision'; {function}()"
    command = [sys.executable, "-c", code, "--version"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["npz-vision-data", project()["version"]], result.stderr


def test_a_wheel_states_its_license_page_and_extras(wheel):
    fields = metadata(wheel)
    assert fields["License-Expression"] == "Apache-2.0"
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
    assert fields.get_payload() == (ROOT / "README.md").read_text()
    assert set(fields.get_all("Provides-Extra")) == {
        *("bench", "cli", "dask", "dev", "docs", "mlflow", "onnx", "ray", "remote"),
        *("report", "tensorboard", "test", "wandb"),
    }


@pytest.fixture(scope="module")
def user_python(tmp_path_factory):
    """The Python of an environment with an editable install, and this one's other packages."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    paths = sysconfig.get_paths("venv", {"base": str(directory), "platbase": str(directory)})
    site = Path(paths["purelib"])
    with zipfile.ZipFile(build("wheel:editable", tmp_path_factory.mktemp("editable"))) as archive:
        archive.extractall(site)
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    return Path(paths["scripts"]) / "python"


def test_an_editable_install_is_one_plain_path(user_python):
    (path,) = user_python.parents[1].rglob("_npz_vision_data.pth")
    assert path.read_text().split() == [str(ROOT)]


def test_mypy_resolves_the_packages_from_another_projects_folder(user_python, tmp_path):
    (tmp_path / "use.py").write_text(USER_FILE)
    (tmp_path / "mypy.ini").write_text(MYPY_SETTINGS)
    command = [sys.executable, "-m", "mypy", "--python-executable", str(user_python)]
    command += ["--cache-dir", os.devnull, "use.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    revealed = re.findall(r'Revealed type is "(.*)"', result.stdout)
    assert [kind.partition("[")[0] for kind in revealed[:3]] == [
        "processing.lazy_dataset.LazyNPZDataset",
        "processing.run.processing_report.ProcessingReport",
        "processing.datasets.resumable.ResumableLoader",
    ], result.stdout + result.stderr
    assert revealed[0].endswith("[processing.datasets.collate.Sample]")
    assert len(revealed) == 4 + len(NAMES)
    assert "Any" not in revealed, result.stdout
    # Mistakes are found, so the types above are those of the arguments too.
    errors = [line for line in result.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 2, result.stdout
    assert 'Argument 1 to "LazyNPZDataset" has incompatible type "int"' in errors[0]
    assert 'Unexpected keyword argument "bach_size" for "DataProcessor"' in errors[1]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned_versions():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin in pins}


def test_the_pinned_versions_are_within_the_bounds():
    extras = project()["optional-dependencies"]
    requirements = project()["dependencies"] + extras["test"] + extras["dev"] + extras["docs"]
    tested = pinned_versions()
    for requirement in map(Requirement, requirements):
        assert requirement.specifier.contains(tested[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(
    ("name", "vulnerable"),
    [
        ("lightning", ["2.6.2", "2.6.3", "2.6.5"]),
        ("hydra-core", ["1.3.2", "1.3.6"]),
        ("pillow", ["10.3", "12.3.0"]),
        ("opencv-python-headless", ["4.10.0.84", "4.11.0.86"]),
        ("torch", ["2.6", "2.9.1", "2.10.0"]),
        ("filelock", ["3.12", "3.20.3", "4.2.0"]),
        ("tqdm", ["4.66", "4.66.2"]),
    ],
)
def test_no_release_with_a_known_advisory_can_be_installed(name, vulnerable):
    requirements = {found.name: found for found in map(Requirement, project()["dependencies"])}
    for version in vulnerable:
        assert not requirements[name].specifier.contains(version), version
