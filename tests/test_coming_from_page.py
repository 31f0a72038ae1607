"""docs/coming_from.md: our code runs, and that of other libraries where they are installed."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.markdown import code_blocks, run_python, section

PAGE = Path(__file__).parents[1] / "docs" / "coming_from.md"
PEERS = {
    "## From WebDataset": "webdataset",
    "## From LitData": "litdata",
    "## From Hugging Face datasets": "datasets",
    "## From FFCV": "ffcv",
}
OURS = (
    *("## With this package", "## What the others leave to you", "## From `np.savez`"),
    "## Your own data, from anywhere",
)


def blocks_of(heading):
    text = section(PAGE, heading)
    return [block for block in code_blocks(PAGE) if block.code in text]


@pytest.fixture
def raw_dir(shared_raw_dir, tmp_path, monkeypatch):
    """The page's folder, with photographs that were rendered for all tests."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shared_raw_dir, tmp_path / "raw")
    return tmp_path


def run(headings):
    namespace, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        run_python(code_blocks(PAGE)[0], namespace, PAGE)
        for heading in headings:
            for block in blocks_of(heading):
                run_python(block, namespace, PAGE)
    return namespace, printed.getvalue()


def test_every_section_with_code_is_tested():
    with_code = [
        heading
        for heading in re.findall(r"^## .+$", PAGE.read_text(), re.MULTILINE)
        if blocks_of(heading)
    ]
    assert sorted(with_code) == sorted([*PEERS, *OURS])


def test_our_code_delivers_the_boxes_that_the_hand_written_code_makes(raw_dir):
    namespace, printed = run(OURS)
    ours = namespace["LazyNPZDataset"]("data/train_detector.npz")
    by_hand = {row["path"]: row for row in namespace["rows"]}
    for sample in ours:
        other = by_hand[Path(sample["image_path"]).name]
        assert sample["bboxes"] == pytest.approx(other["bboxes"], abs=1)
    assert namespace["images"].shape[1:] == (256, 256, 3)
    assert len(namespace["boxes"]) == len(namespace["rows"][7]["bboxes"])
    assert "train_detector.npz" in printed
    assert "rejected" not in printed


# Continues the body of the loop with which the code of each library ends.
COLLECT = """
    assert images.shape[1:] == (256, 256, 3)
    assert [one.shape[1:] for one in boxes] == [(4,)] * len(images)
    assert {str(one.dtype).removeprefix("torch.") for one in boxes} == {"float32"}
    delivered += [(one.tolist(), image.tolist()) for one, image in zip(boxes, images)]
"""
# Boxes identify a photograph: no two have the same ones, unless they have none.
COMPARE = """
expected = [(one["bboxes"].tolist(), one["image"]) for one in samples()]
assert sorted(boxes for boxes, _ in delivered) == sorted(boxes for boxes, _ in expected)
stored = {repr(boxes): image for boxes, image in expected if boxes}
for boxes, image in delivered:
    if boxes:
        difference = np.abs(np.array(image) - stored[repr(boxes)].astype(int)).mean()
        assert difference < 2, difference  # not 0: WebDataset stores JPEGs
"""


@pytest.mark.long  # these libraries start slowly
@pytest.mark.parametrize("heading", PEERS)
def test_the_code_of_another_library_delivers_each_photograph_once_with_its_boxes(heading, raw_dir):
    if not find_spec(PEERS[heading]):
        pytest.skip(f"{PEERS[heading]} is not installed")
    # A process of its own, because LitData changes how every later process of this one starts.
    blocks = [code_blocks(PAGE)[0], *blocks_of("## What the others leave to you")]
    program = "\n".join(block.code for block in [*blocks, *blocks_of(heading)])
    (raw_dir / "program.py").write_text(f"delivered = []\n{program.rstrip()}{COLLECT}{COMPARE}")
    environment = os.environ | {"PYTHONPATH": str(PAGE.parents[1])}
    result = subprocess.run(
        [sys.executable, "program.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
