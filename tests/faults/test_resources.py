"""Too little of everything: descriptors, shared memory, address space, rights to write."""

import ctypes
import re
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset, open_dataset

REPOSITORY = Path(__file__).parents[2]
CLONE_NEWNS = 0x20000
PATIENCE = 240  # seconds: ends a hang, judges no speed
PROCESS = (sys.executable, "-m", "processing.data_processor", "--all", "--no-progress")


def run(*command, before="", **options):
    """Runs a command after shell commands that take something from it."""
    shell = ["sh", "-c", f'{before}\nexec "$@"', "sh", *map(str, command)]
    result = subprocess.run(
        shell,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )
    return result.returncode, result.stdout + result.stderr


def in_a_namespace(commands):
    """A shell command that runs commands in a mount namespace of their own, and then "$@"."""
    return ["unshare", "-m", "sh", "-c", f'{commands} && exec "$@"', "sh"]


def mounted(commands, why):
    """Returns a command that mounts something first; skips the test where that is barred."""
    if subprocess.run([*in_a_namespace(commands), "true"], capture_output=True).returncode:
        pytest.skip(f"no mount namespace may be made here, which {why} needs")
    return in_a_namespace(commands)


def execute(code, arguments, limits, mount, filters):
    """Runs code as ``python -c`` does, with less of something; in a child of a `ForkServer`."""
    if mount:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
        subprocess.run(f"mount --make-rprivate / && {mount}", shell=True, check=True)
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    warnings.simplefilter(filters)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


@pytest.fixture
def run_python(programs, tmp_path_factory):
    """Returns a function that runs code with less of something: (exit status, output)."""
    log = tmp_path_factory.mktemp("run") / "log"

    def run(code, *arguments, mount="", filters="error", **limits):
        arguments = [str(one) for one in arguments]
        request = {"code": code, "arguments": arguments, "limits": limits}
        status = programs.run(execute, log, **request, mount=mount, filters=filters)
        return status, log.read_text()

    return run


def write_files(directory, files, rows=3, side=4):
    paths = []
    for i in range(files):
        paths.append(directory / f"{i}.npz")
        np.savez(
            paths[-1],
            images=np.full((rows, side, side, 3), i, np.uint8),
            bboxes=np.zeros((rows, 4), np.float32),
            bboxes_offsets=np.arange(rows + 1),
            image_paths=np.array([f"{i}/{row}.jpg" for row in range(rows)]),
        )
    return paths


OPEN_ALL = """
import os, sys
from processing.lazy_dataset import open_dataset
def descriptors(): return len(os.listdir("/proc/self/fd"))
before = descriptors()
try:
    dataset = open_dataset(sys.argv[1:])
except OSError as error:
    assert descriptors() == before, "while the error is held"
    sys.exit(str(error))
print(len(dataset), dataset[len(dataset) - 1]["image"].max(), descriptors() - before)
"""


class TestDescriptors:
    def test_more_files_than_may_be_open_are_an_error_that_says_what_to_do(
        self, run_python, tmp_path
    ):
        paths = write_files(tmp_path, 120)
        status, output = run_python(OPEN_ALL, *paths, RLIMIT_NOFILE=64)
        assert status == 1
        assert re.search(r"too many open files.*`ulimit -n`.*/\d+\.npz'", output), output
        assert run_python(OPEN_ALL, *paths, RLIMIT_NOFILE=300) == (0, "360 119 240\n")

    def test_files_that_are_closed_give_their_descriptors_back(self, tmp_path):
        paths = write_files(tmp_path, 10)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            open_dataset(paths).close()
            LazyNPZDataset(paths[0])
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_64_are_enough_for_a_loader(self, run_python, tmp_path):
        code = (
            "import sys\nfrom torch.utils.data import DataLoader\n"
            "from processing.lazy_dataset import open_dataset\n"
            "from processing.datasets.loader import BatchLoader\n"
            "dataset = open_dataset(sys.argv[1:])\n"
            "for loader in (DataLoader, BatchLoader):\n"
            "    batches = loader(dataset, 8, num_workers=4)\n"
            "    print(sum(len(batch['image']) for batch in batches))\n"
        )
        paths = write_files(tmp_path, 2, rows=100)
        found = run_python(code, *paths, filters="ignore", RLIMIT_NOFILE=64)
        assert found == (0, "200\n200\n")

    @pytest.mark.parametrize("num_workers", [4, 100])
    def test_too_few_lose_no_image(self, shared_raw_dir, tmp_path, num_workers):
        status, output = run(
            *PROCESS,
            *("--raw-data-dir", shared_raw_dir, "--output-dir", tmp_path / "out"),
            *("--workers", num_workers),
            before="ulimit -n 24",
        )
        if status == 0:
            assert not list((tmp_path / "out").glob("*.rejected.jsonl"))
        else:
            assert status == 1, output
            assert "Too many open files: lower num_workers" in output
            status, output = run(
                *PROCESS, *("--raw-data-dir", shared_raw_dir, "--output-dir", tmp_path / "out")
            )
            assert status == 0, output


READ_WITHOUT_DESCRIPTORS = """
import os, resource, sys
from pathlib import Path
from processing.imaging.reading import read_inside
resource.setrlimit(resource.RLIMIT_NOFILE, (os.dup(0), 64))
read_inside(Path(sys.argv[1]), "images/0000.jpg")
"""


def test_an_image_is_not_called_bad_because_no_file_can_be_opened(run_python, shared_raw_dir):
    status, output = run_python(READ_WITHOUT_DESCRIPTORS, shared_raw_dir)
    assert status == 1
    assert "OSError: [Errno 24] Too many open files: " in output, output
    assert "images/0000.jpg" in output


LOADERS = """
import sys, warnings
warnings.filterwarnings("ignore", "This DataLoader will create")
from torch.utils.data import DataLoader
from datamodules import LazyNPZDataModule
from processing.lazy_dataset import LazyNPZDataset
def as_floats(sample):
    return {**sample, "image": sample["image"].astype("float32")}
def samples(loader):
    print(loader.num_workers, sum(len(batch["image"]) for batch in loader))
path = sys.argv[1] + "/train_detector.npz"
for transform in (None, as_floats):
    samples(DataLoader(LazyNPZDataset(path, transform=transform), batch_size=100, num_workers=4))
module = LazyNPZDataModule(data_dir=sys.argv[1], num_workers=4, train_transform=as_floats)
module.setup("fit")
samples(module.train_dataloader())
"""


@pytest.mark.parametrize(
    ("size", "side"), [pytest.param("64m", 256, marks=pytest.mark.long), ("1m", 64)]
)
def test_worker_processes_need_no_room_in_dev_shm(run_python, tmp_path, size, side):
    """A batch has more bytes, or floats, than there is room; torch's own way is a bus error.

    With a side of 256 it has 20 MB of bytes or 79 of floats, with one of 64 a sixteenth of that.
    """
    (path,) = write_files(tmp_path, 1, rows=400, side=side)
    for split in ("train", "val"):
        (tmp_path / f"{split}_detector.npz").hardlink_to(path)
    small = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    mounted(small, "a small /dev/shm")
    assert run_python(LOADERS, tmp_path, mount=small) == (0, "4 400\n" * 3)


TRAIN = """
import sys
from datamodules import LazyNPZDataModule
workers = int(sys.argv[2])
module = LazyNPZDataModule(data_dir=sys.argv[1], num_workers=workers, train_transform=dict)
module.setup("fit")
loader = module.train_dataloader()
print(loader.num_workers, sum(len(batch["image"]) for batch in loader))
"""


@pytest.mark.parametrize(
    "options",
    ["size=4k", *(pytest.param(o, marks=pytest.mark.long) for o in ("ro", "nr_inodes=3"))],
)
def test_without_room_for_semaphores_only_training_without_workers_works(
    run_python, tmp_path, options
):
    (path,) = write_files(tmp_path, 1, rows=50)
    for split in ("train", "val"):
        (tmp_path / f"{split}_detector.npz").hardlink_to(path)
    small = f"mount -t tmpfs -o {options} tmpfs /dev/shm"
    mounted(small, "a /dev/shm of its own")
    status, output = run_python(TRAIN, tmp_path, "2", mount=small, filters="default")
    assert status == 1
    assert re.search(r"OSError: .*(No space left on device|Read-only file system)", output), output
    assert run_python(TRAIN, tmp_path, "0", mount=small, filters="default") == (0, "0 50\n")


class TestReadOnlyOutput:
    def test_is_named_with_what_to_do(self, shared_raw_dir, tmp_path):
        output_dir = tmp_path / "out"
        output_dir.mkdir()
        bound = mounted(
            f"mount --bind '{output_dir}' '{output_dir}' "
            f"&& mount -o remount,ro,bind '{output_dir}'",
            "a read-only directory",
        )
        process = (*bound, *PROCESS, "--raw-data-dir", shared_raw_dir, "--output-dir")
        for directory in (output_dir, output_dir / "new"):
            status, output = run(*process, directory)
            assert status == 1
            assert f"output_dir {directory}: cannot be written: this user may not" in output, output
            assert "or its file system is read-only: " in output
            assert "choose another place, or allow it (chmod, or mount it without `ro`)" in output

    def test_that_is_a_file_is_named(self, shared_raw_dir, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(FileExistsError, match="is not a folder: choose another place"):
            DataProcessor(shared_raw_dir, tmp_path / "out", progress=False).process_all()

    def test_can_be_read_without_a_processor(self, run_python, processed_dir):
        read_only = (
            f"mount --bind '{processed_dir}' '{processed_dir}' "
            f"&& mount -o remount,ro,bind '{processed_dir}'"
        )
        mounted(read_only, "a read-only directory")
        path = processed_dir / "train_detector.npz"
        code = (
            "import sys\nfrom processing.lazy_dataset import LazyNPZDataset\n"
            "dataset = LazyNPZDataset(sys.argv[1])\n"
            "print(len(dataset.get_batch(range(len(dataset)))['images']))"
        )
        found = run_python(code, path, mount=read_only)
        assert found == (0, f"{len(LazyNPZDataset(path))}\n")


class TestAddressSpace:
    def test_too_small_for_a_file_is_an_error_that_says_what_to_do(self, run_python, tmp_path):
        with (tmp_path / "large.npz").open("wb") as file:
            file.truncate(1 << 40)
        code = (
            "import sys; from processing.lazy_dataset import LazyNPZDataset\n"
            "LazyNPZDataset(sys.argv[1])"
        )
        status, output = run_python(code, tmp_path / "large.npz", RLIMIT_AS=1 << 34)
        assert status == 1
        assert re.search(r"cannot be mapped.*`ulimit -v`.*/large\.npz'", output), output

    @pytest.mark.parametrize(
        "megabytes",
        [pytest.param(1, marks=pytest.mark.long), 30, pytest.param(100, marks=pytest.mark.long)],
    )
    def test_too_small_for_processing_ends_it_and_loses_nothing(
        self, shared_raw_dir, tmp_path, megabytes
    ):
        code = (
            "import resource, sys\nfrom pathlib import Path\n"
            "from processing.commands.process import process_command\n"
            "from processing.data_processor import DataProcessor\n"
            "import cv2, simplejpeg\n"
            "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
            "limit = pages * resource.getpagesize() + (int(sys.argv[1]) << 20)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
            "sys.exit(process_command(DataProcessor, sys.argv[2:]))"
        )
        arguments = (*PROCESS[3:], "--raw-data-dir", shared_raw_dir, "--output-dir")
        status, output = run(
            *(sys.executable, "-c", code, megabytes, *arguments, tmp_path / "out"),
            *("--workers", 4),
        )
        assert status in (0, 1), output
        if status == 1:
            assert re.search("MemoryError|Errno 12|can't start new thread|memory", output), output
        status, output = run(*PROCESS[:3], *arguments, tmp_path / "out")
        assert status == 0, output
        expected = LazyNPZDataset(tmp_path / "out/train_detector.npz")
        assert len(expected) == 19
        expected.verify()
