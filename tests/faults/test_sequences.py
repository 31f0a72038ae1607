"""A data set that grows, changes, breaks and is processed, also by runs that are killed.

Seeded sequences of what people do to a raw directory and its output. After every run that comes to
its end the files are those of a run that began with nothing, and only what changed was decoded.
"""

import json
import os
import random
import shutil
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor
from processing.lazy_dataset import LazyNPZDataset
from tests.faults.small_runs import BESIDE, JOURNAL, OPTIONS, published

SEED = 20261125
MOST_OPERATIONS = 150  # of a run; a kill behind the last is none


@dataclass
class Photograph:
    """What the file of an image holds and what is written about it."""

    pixels: int
    boxes: list = field(default_factory=list)
    state: str = "good"  # or "cut", "missing"


class Directory:
    """A raw directory, its output, and what a user does to both.

    Args:
        root: where both are.
        seed: of everything that is done.
        server: runs the runs that are killed.
    """

    def __init__(self, root, seed, server):
        self.raw, self.output, self._scratch = root / "raw", root / "out", root / "scratch"
        self._server, self._rng = server, random.Random(seed)
        self._photographs, self._named = {}, 0
        self._options = {"train_split": 0.8, "crop_margin": 0.25, "min_box_size": 1.0}
        self._changed = set()  # names of what a run has to decode
        self._known = False  # whether rows can be copied at all
        self.history = []
        (self.raw / "images").mkdir(parents=True)
        for _ in range(6):
            self.add()
        self._write_annotations()

    def step(self):
        """Does one thing; runs and kills are likelier than each of the others."""
        doing = self._rng.choice(
            (
                *(self.add, self.edit, self.annotate, self.delete, self.rename, self.cut),
                *(self.mend, self.lose, self.touch, self.set_option, self.lose_file),
                *(self.lose_cache, self.process, self.process, self.kill, self.kill, self.kill),
            )
        )
        self.history.append(doing.__name__)
        doing()
        self._write_annotations()

    def add(self):
        self._named += 1
        name = f"{self._rng.randrange(100):02d}_{self._named}.jpg"
        photograph = Photograph(self._rng.randrange(1 << 30), self._draw_boxes())
        self._photographs[name] = photograph
        self._write_image(name)

    def edit(self):
        name = self._any("good")
        self._photographs[name].pixels = self._rng.randrange(1 << 30)
        self._write_image(name)

    def annotate(self):
        name = self._any("good")
        self._photographs[name].boxes = self._draw_boxes()
        self._changed.add(name)

    def delete(self):
        if self._good() > 4:
            name = self._any(*("good", "cut", "missing"))
            del self._photographs[name]
            (self.raw / "images" / name).unlink(missing_ok=True)

    def rename(self):
        old = self._any("good")
        new = f"{self._rng.randrange(100):02d}_{old}"
        self._photographs[new] = self._photographs.pop(old)
        (self.raw / "images" / old).rename(self.raw / "images" / new)
        self._changed.add(new)

    def cut(self):
        if self._good() > 4:
            name = self._any("good")
            self._photographs[name].state = "cut"
            image = self.raw / "images" / name
            image.write_bytes(image.read_bytes()[:-200])
            self._changed.add(name)

    def lose(self):
        if self._good() > 4:
            name = self._any("good")
            self._photographs[name].state = "missing"
            (self.raw / "images" / name).unlink()

    def mend(self):
        bad = [name for name, p in self._photographs.items() if p.state != "good"]
        for name in bad[:2]:
            self._photographs[name].state = "good"
            self._write_image(name)

    def touch(self):
        for name in self._rng.sample(sorted(self._photographs), 2):
            if self._photographs[name].state == "good":
                os.utime(self.raw / "images" / name, ns=(0, self._rng.randrange(1 << 60)))

    def set_option(self):
        name = self._rng.choice(sorted(self._options))
        values = {"train_split": (0.5, 0.8), "crop_margin": (0.0, 0.25), "min_box_size": (1.0, 9.0)}
        self._options[name] = self._rng.choice(values[name])
        self._known &= name == "train_split"  # which decides no pixel

    def lose_file(self):
        """Somebody removes one of the files, or what lies beside them."""
        files = [path for path in sorted(self.output.glob("*")) if path.name != "processing.lock"]
        if files:
            self._rng.choice(files).unlink()
            self._known = False

    def lose_cache(self):
        """A cache is overwritten with something else."""
        for path in sorted(self.output.glob("processing.*.cache")):
            content = bytearray(path.read_bytes())
            content[self._rng.randrange(len(content))] ^= 1 << self._rng.randrange(8)
            path.write_bytes(content)
            self._known = False

    def kill(self):
        self._scratch.mkdir(exist_ok=True)
        self._write_annotations()
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._options.items()]
        where = {"raw": self.raw, "output": self.output, "scratch": self._scratch}
        how = {
            "at": self._rng.randint(1, MOST_OPERATIONS),
            "how": self._rng.choice(("before", "half", "after", "SIGINT", "SIGTERM")),
        }
        log = self._scratch / "log"
        status = self._server.run("run_with_kill", log, **where, **how, flags=flags)
        assert status in (-9, -15, 130, 0, 3), log.read_text()
        for npz in self.output.glob("*.npz"):
            with LazyNPZDataset(npz) as dataset:
                dataset.verify()

    def process(self):
        """A run to its end."""
        self._write_annotations()
        report = self._run(self.output)
        fresh = self.output.with_name("fresh")
        expected = self._run(fresh)
        assert published(self.output) == published(fresh)
        shutil.rmtree(fresh)
        left = {path.name for path in self.output.iterdir()} - BESIDE
        assert JOURNAL not in left
        assert not [name for name in left if name.endswith(".partial")]
        good = {name for name, p in self._photographs.items() if p.state == "good"}
        bad = self._photographs.keys() - good
        if self._known:  # of bad ones there is nothing to copy: they are tried again
            assert report.images_decoded <= len(self._changed & good | bad)
        assert self._stored("detector") == good
        assert self._listed() == bad
        assert [replace(f, path=f.path.name) for f in report.files] == [
            replace(f, path=f.path.name) for f in expected.files
        ]
        self._changed = set()
        self._known |= not report.up_to_date  # else a lost cache has not been made anew

    def _run(self, output):
        options = {name: value for name, value in self._options.items() if name != "train_split"}
        processor = DataProcessor(self.raw, output, **OPTIONS, **options)
        return processor.process_all(self._options["train_split"])

    def _stored(self, task):
        stored = set()
        for npz in self.output.glob(f"*_{task}.npz"):
            with LazyNPZDataset(npz) as dataset:
                dataset.verify()
                stored |= {path.removeprefix("images/") for path in dataset.image_paths.tolist()}
        return stored

    def _listed(self):
        lines = self.output.glob("*_detector.rejected.jsonl")
        paths = [json.loads(line)["path"] for f in lines for line in f.read_text().splitlines()]
        assert len(paths) == len(set(paths))
        return {path.removeprefix("images/") for path in paths}

    def _draw_boxes(self):
        draw = self._rng.randint
        return [[draw(-4, 30), draw(-4, 30), draw(1, 30), draw(1, 30)] for _ in range(draw(1, 3))]

    def _any(self, *states):
        return self._rng.choice(
            sorted(n for n, p in self._photographs.items() if p.state in states)
        )

    def _good(self):
        return sum(photograph.state == "good" for photograph in self._photographs.values())

    def _write_image(self, name):
        pixels = np.random.default_rng(self._photographs[name].pixels)
        image = Image.fromarray(pixels.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        image.save(self.raw / "images" / name)
        self._changed.add(name)

    def _write_annotations(self):
        images, annotations = [], []
        for i, (name, photograph) in enumerate(sorted(self._photographs.items()), 1):
            images.append({"id": i, "file_name": name, "width": 50, "height": 40})
            for box in photograph.boxes:
                x, y, *_ = box
                annotation = {"image_id": i, "category_id": 1, "bbox": box, "iscrowd": 0}
                points = {"keypoints": [x, y, 2, x + 1, y + 1, 2], "num_keypoints": 2}
                annotations.append({"id": len(annotations) + 1, **annotation, **points})
        categories = [{"id": 1, "name": "face", "keypoints": ["a", "b"]}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (self.raw / "instances.json").write_text(json.dumps(content))


def lives(tmp_path, server, seed, steps):
    """One sequence, ended by a run; gives the outcome for the tally."""
    root = tmp_path / str(seed)
    directory = Directory(root, seed, server)
    try:
        for _ in range(steps):
            directory.step()
        directory.process()
    except BaseException as error:
        error.add_note(f"after {', '.join(directory.history)}")
        raise
    shutil.rmtree(root)
    return "recovered"


@pytest.mark.parametrize(
    ("sequences", "steps"), [(3, 15), pytest.param(100, 50, marks=pytest.mark.long)]
)
def test_whatever_is_done_to_a_data_set_its_files_are_those_of_a_run_from_nothing(
    tmp_path, small_runs_server, tally, sequences, steps
):
    tally.points, tally.seed = sequences * steps, SEED
    cases = range(SEED, SEED + sequences)
    tally.each(cases, lambda seed: lives(tmp_path, small_runs_server, seed, steps))
