"""The datamodule describes its data: attributes, repr, LightningCLI, settings that contradict."""

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.tuner import Tuner

from datamodules import Augmentation, LazyNPZDataModule
from processing.core.columns import RaggedArray
from processing.lazy_dataset import CombinedLazyDataset, LazyNPZDataset
from tests.test_datamodule import NAMES, CountingProcessor, Recorder, trainer, write_split

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",  # Lightning's own use of torch
)

FACTS = ("num_classes", "category_names", "num_keypoints", "keypoint_names", "flip_indices")


def facts(datamodule):
    return tuple(getattr(datamodule, name) for name in FACTS)


def rewrite(path, **members):
    with np.load(path) as stored:
        kept = {key: value for key, value in stored.items() if key not in members}
    np.savez(path, **kept, **{key: value for key, value in members.items() if value is not None})


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict", None, "not set up"])
def test_facts_are_known_for_every_stage_and_before(data_dir, stage):
    for split in ("train", "val"):
        write_split(data_dir, split, "detector", 3, category_names=["cat", "dog"])
    detector = LazyNPZDataModule(data_dir=data_dir)
    landmarker = LazyNPZDataModule(task="landmarker", data_dir=data_dir)
    for datamodule in (detector, landmarker):
        if stage != "not set up":
            datamodule.setup(stage)
    for _ in range(2):  # they stay after teardown
        assert facts(detector) == (2, ["cat", "dog"], 0, NAMES, [1, 0, 2])
        assert facts(landmarker) == (1, ["object"], 3, NAMES, [1, 0, 2])
        detector.teardown()
        landmarker.teardown()


def test_facts_before_the_data_is_made_are_an_error_that_says_what_to_do(tmp_path):
    processor = CountingProcessor(tmp_path)
    datamodule = LazyNPZDataModule(task="teacher", processor=processor)
    assert not hasattr(datamodule, "num_classes")
    with pytest.raises(
        RuntimeError, match=r"there is no teacher file in .*prepare_data\(\) and setup\("
    ):
        datamodule.num_classes  # noqa: B018 - reading it raises
    datamodule.prepare_data()
    assert datamodule.num_classes == 1


def test_labels_of_a_file_without_names_are_counted_over_all_splits(data_dir):
    for split, largest in (("train", 4), ("val", 1)):
        path = data_dir / f"{split}_teacher.npz"
        rewrite(path, metadata=None, labels=np.arange(len(np.load(path)["images"])) % (largest + 1))
    datamodule = LazyNPZDataModule(task="teacher", data_dir=data_dir)
    datamodule.setup("validate")
    assert facts(datamodule)[:2] == (5, ["0", "1", "2", "3", "4"])
    datamodule.teardown()


def test_samples_with_different_numbers_of_points_have_no_single_number(data_dir):
    path = data_dir / "train_landmarker.npz"
    points = [np.zeros((2 + i % 2, 3)) for i in range(22)]
    rows = RaggedArray.from_rows(points, dtype=np.float32, row_shape=(3,))
    rewrite(path, keypoints=rows.values, keypoints_offsets=rows.offsets)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=data_dir)
    assert datamodule.num_classes == 1
    with pytest.raises(ValueError, match="samples have 2, 3 keypoints, so there is no single"):
        datamodule.num_keypoints  # noqa: B018 - reading it raises


@pytest.mark.parametrize("names", [[], ["a", "b", "c"]])
def test_points_without_sides_have_no_flip_indices(data_dir, names):
    write_split(data_dir, "train", "landmarker", 3, keypoint_names=names)
    write_split(data_dir, "val", "landmarker", 3, keypoint_names=names)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=data_dir)
    assert facts_without_flip(datamodule) == (3, names)
    with pytest.raises(ValueError, match="names"):
        datamodule.flip_indices  # noqa: B018 - reading it raises


def facts_without_flip(datamodule):
    return datamodule.num_keypoints, datamodule.keypoint_names


def test_names_of_an_augmentation_stand_in_for_those_of_the_file(data_dir):
    for split in ("train", "val"):
        write_split(data_dir, split, "landmarker", 3, keypoint_names=[])
    augment = Augmentation(0.5, keypoint_names=NAMES)
    datamodule = LazyNPZDataModule(task="landmarker", data_dir=data_dir, augment=augment)
    assert facts(datamodule)[2:] == (3, NAMES, [1, 0, 2])


def test_repr_shows_task_split_rows_size_categories_and_path(data_dir):
    write_split(data_dir, "train", "detector", 1200, category_names=list("abcdefg"))
    path = data_dir / "train_detector.npz"
    dataset = LazyNPZDataset(path)
    expected = f"detector, train, 1,200 rows of 8x8, 7 categories: a, b, c, d, e, …, {str(path)!r})"
    assert repr(dataset) == f"LazyNPZDataset({expected}"
    other = data_dir / "mine.npz"
    other.hardlink_to(data_dir / "val_teacher.npz")
    assert repr(LazyNPZDataset(other)) == f"LazyNPZDataset(teacher, 9 rows of 8x8, {str(other)!r})"
    combined = CombinedLazyDataset([dataset, dataset])
    text = f"2,400 rows of 8x8, 7 categories: a, b, c, d, e, …, 2 parts: {str(path)!r})"
    assert repr(combined) == f"CombinedLazyDataset(detector, {text}"
    dataset.close()
    assert repr(dataset) == f"LazyNPZDataset({str(path)!r}, closed)"
    assert "closed" in repr(pickle.loads(pickle.dumps(dataset)))


def test_repr_of_a_datamodule_lists_its_open_splits(data_dir):
    datamodule = LazyNPZDataModule(task="teacher", data_dir=data_dir)
    head = f"LazyNPZDataModule(task='teacher', data_dir='{data_dir}', "
    assert repr(datamodule) == head + "no split is open: setup() opens them)"
    datamodule.setup("fit")
    lines = str(datamodule).splitlines()
    assert lines[1].startswith("  train: LazyNPZDataset(teacher, train, 22 rows of 8x8,")
    assert lines[2].startswith("  val: LazyNPZDataset(teacher, val, 9 rows of 8x8,")
    datamodule.teardown()
    assert "no split is open" in str(datamodule)


def test_a_processor_that_writes_elsewhere_is_refused(tmp_path):
    one, two, other = (CountingProcessor(tmp_path / name) for name in ("one", "two", "other"))
    refused = [
        (tmp_path / "one", other),
        ([tmp_path / "one", tmp_path / "two"], one),
        (tmp_path / "one", [one, two]),
        ([tmp_path / "one", tmp_path / "two"], [one, other]),
    ]
    for data_dir, processor in refused:
        with pytest.raises(ValueError, match=r"data_dir is .*, but the processor writes to .*"):
            LazyNPZDataModule(data_dir=data_dir, processor=processor)
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    accepted = [
        (tmp_path / "two/../one", one),
        (tmp_path / "link", one),
        ([tmp_path / "two", tmp_path / "one"], [one, two]),
        (None, [one, two]),
    ]
    for data_dir, processor in accepted:
        assert LazyNPZDataModule(data_dir=data_dir, processor=processor).data_dirs


class AnyPath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_every_kind_of_path_is_a_directory(tmp_path):
    for data_dir in (tmp_path, str(tmp_path), AnyPath(tmp_path), [AnyPath(tmp_path)], (tmp_path,)):
        assert LazyNPZDataModule(data_dir=data_dir).data_dirs == [tmp_path]


class Linked(Recorder):
    def __init__(self, num_classes: int = 0, flip_indices: list[int] | None = None):
        super().__init__()
        self.num_classes, self.flip_indices = num_classes, flip_indices


@pytest.fixture
def cli(tmp_path, monkeypatch):
    pytest.importorskip("jsonargparse")
    monkeypatch.setattr("sys.argv", ["train"])  # LightningCLI warns of arguments there
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own use of it
    from lightning.pytorch.cli import LightningCLI

    class LinkingCLI(LightningCLI):
        def add_arguments_to_parser(self, parser):
            for name in ("num_classes", "flip_indices"):
                parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def run(*args, subcommand="fit"):
        options = {"max_epochs": 1, "accelerator": "cpu", "logger": "false"}
        options |= {"enable_checkpointing": "false", "enable_progress_bar": "false"}
        options |= {"enable_model_summary": "false", "default_root_dir": str(tmp_path)}
        trainer_args = [f"--trainer.{name}={value}" for name, value in options.items()]
        args = [subcommand, *args, *trainer_args]
        return LinkingCLI(Linked, LazyNPZDataModule, args=args, seed_everything_default=False)

    return run


@pytest.mark.parametrize("how", ["file", "command line"])
def test_lightning_cli_reads_lists_and_links_facts(cli, data_dir, tmp_path, how):
    more = tmp_path / "more"
    for split in ("train", "val"):
        write_split(more, split, "landmarker", 3)
    directories = [str(data_dir), str(more)]
    if how == "file":
        config = tmp_path / "mine.yaml"
        config.write_text(json.dumps({"data": {"task": "landmarker", "data_dir": directories}}))
        run = cli(f"--config={config}")
    else:
        run = cli("--data.task=landmarker", f"--data.data_dir=[{','.join(directories)}]")
    assert run.datamodule.data_dirs == [data_dir, more]
    assert (run.model.num_classes, run.model.flip_indices) == (1, [1, 0, 2])
    saved = run.parser.dump(run.config)
    assert run.parser.parse_string(saved).fit.data.data_dir == directories


def test_lightning_cli_makes_a_processor_and_an_augmentation(cli, data_dir, capsys):
    with pytest.raises(SystemExit) as ended:
        cli(
            "--data.processor=processing.data_processor.DataProcessor",
            f"--data.processor.output_dir={data_dir}",
            "--data.augment=datamodules.Augmentation",
            "--data.augment.horizontal_flip=0.25",
            "--data.cache_size.train=3",
            "--print_config",
        )
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"output_dir: {data_dir}" in printed
    assert "horizontal_flip: 0.25" in printed
    assert "data_dir: null" in printed


def test_the_tuner_finds_a_rate_and_a_batch_size(data_dir, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.chdir(tmp_path)  # where the tuner keeps its checkpoint

    class Tuned(Recorder):
        lr = 1e-3

    datamodule = LazyNPZDataModule(data_dir=data_dir, batch_size=2)
    options = {"enable_checkpointing": True, "max_epochs": 2}
    found = Tuner(trainer(tmp_path, **options)).scale_batch_size(
        Tuned(), datamodule=datamodule, max_trials=2, steps_per_trial=1
    )
    assert found == datamodule.batch_size == 4
    finder = Tuner(trainer(tmp_path, **options)).lr_find(
        Tuned(), datamodule=datamodule, num_training=8, early_stop_threshold=None
    )
    assert len(finder.results["lr"]) == 8
    assert not list(Path(tmp_path).glob("*.ckpt"))
