import inspect
from pathlib import Path

import lightning as L
import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules import Augmentation, LazyNPZDataModule
from processing import DataProcessor
from training.build import build
from training.settings import check_settings

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf"
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
REQUIRED = {
    ("datamodule", "combined"): ["datamodule.data_dir=[one,two]"],
    ("experiment", "wider_face"): ["raw_data_dir=data/raw"],  # its photographs are not here
}
MOUNTED = {"processor": "processor@datamodule.processor"}
NEEDS_EXTRA = {("logger", name): name for name in ("tensorboard", "wandb", "mlflow")}


@pytest.fixture
def configured(tmp_path):
    """Returns a function that composes the settings like the command, in a temporary run_dir."""
    with initialize_config_module("conf", version_base="1.3"):
        yield lambda *overrides: compose("train", [f"run_dir={tmp_path}", *overrides])


def nodes_with_target(config):
    if isinstance(config, DictConfig):
        if "_target_" in config:
            yield config
        for key in config:
            yield from nodes_with_target(config._get_node(key))


def assert_plain(value):
    assert "omegaconf" not in type(value).__module__, value
    if isinstance(value, dict):
        for item in value.values():
            assert_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_key_of_every_choice_is_a_constructor_argument(configured, group, choice):
    extra = NEEDS_EXTRA.get((group, choice))
    if extra:
        pytest.importorskip(extra, reason=f"optional extra {extra}")
    config = configured(f"{MOUNTED.get(group, group)}={choice}", *REQUIRED.get((group, choice), []))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    targets = list(nodes_with_target(config))
    assert {"datamodule", "model", "trainer", "logger", "callbacks"} <= set(config)
    check_settings(config)
    for node in targets:
        parameters = inspect.signature(get_class(node["_target_"])).parameters
        unknown = {str(key) for key in node if not str(key).startswith("_")} - set(parameters)
        assert not unknown, f"{node['_target_']} has no {unknown}"


@pytest.mark.parametrize("target", [LazyNPZDataModule, Augmentation, DataProcessor])
def test_every_constructor_argument_has_a_key(configured, target):
    keys = [
        {str(key) for key in node if not str(key).startswith("_")}
        for node in nodes_with_target(configured())
        if get_class(node["_target_"]) is target
    ]
    assert keys == [set(inspect.signature(target).parameters)]


@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
def test_defaults_equal_those_of_the_constructors(configured, task):
    config = configured(f"datamodule={task}")
    parts = [config.datamodule.processor, config.model]
    for node in parts:
        for name, parameter in inspect.signature(get_class(node["_target_"])).parameters.items():
            assert node[name] == parameter.default, name
    # Compared when built: a size for each split, all 0, is no other cache than 0.
    built = instantiate(config.datamodule, processor=None, augment=None, data_dir="data")
    plain = LazyNPZDataModule(task=task, data_dir="data")
    for name in inspect.signature(LazyNPZDataModule).parameters:
        if hasattr(plain, name):
            assert getattr(built, name) == getattr(plain, name), name
    assert built.cache_sizes == plain.cache_sizes


@pytest.mark.parametrize(
    ("task", "chosen", "flip", "brightness"),
    [
        ("detector", "default", 0.5, 0.2),
        ("landmarker", "default", None, 0.2),
        ("landmarker", "strong", None, 0.4),
        ("teacher", "light", 0.5, 0.05),
    ],
)
def test_augmentations_are_a_group_that_leaves_the_mirroring_of_landmarks_to_their_names(
    configured, task, chosen, flip, brightness
):
    augment = configured(f"datamodule={task}", f"augment={chosen}").datamodule.augment
    assert (augment.horizontal_flip, augment.brightness) == (flip, brightness)


def test_augmentation_none_leaves_batches_as_they_are(configured):
    assert configured("augment=none").datamodule.augment is None


@pytest.mark.parametrize("overrides", [["logger=none"], ["~logger"], ["+trainer.logger=false"]])
def test_a_training_without_a_logger(configured, overrides):
    run = build(configured("trainer=cpu", *overrides))
    assert run.trainer.loggers == []


def test_callbacks_and_loggers_of_the_trainer_are_added_to_those_of_the_groups(configured):
    timer = "+trainer.callbacks=[{_target_: lightning.pytorch.callbacks.Timer}]"
    second = "+trainer.logger={_target_: lightning.pytorch.loggers.CSVLogger, save_dir: elsewhere}"
    run = build(configured("trainer=cpu", timer, second))
    names = [type(callback).__name__ for callback in run.trainer.callbacks]
    assert {"Timer", "BestCheckpoint", "LastCheckpoint", "EarlyStopping"} <= set(names)
    assert run.trainer.loggers[1].save_dir == "elsewhere"
    assert run.best.monitor == "AP@0.5"


def test_a_callback_is_left_out_with_null_and_all_with_none(configured):
    run = build(configured("trainer=cpu", "callbacks.early_stopping=null"))
    assert "EarlyStopping" not in [type(callback).__name__ for callback in run.trainer.callbacks]
    run = build(configured("trainer=cpu", "callbacks=none"))
    assert (run.best, run.last) == (None, None)


@pytest.mark.parametrize("task", ["detector", "landmarker", "teacher"])
def test_a_datamodule_selects_its_model(configured, task):
    config = configured(f"datamodule={task}")
    assert config.datamodule.task == task
    assert config.model["_target_"] == f"models.{task.capitalize()}"


def test_a_model_on_the_command_line_overrides_that_of_the_datamodule(configured):
    assert (
        configured("datamodule=landmarker", "model=teacher").model["_target_"] == "models.Teacher"
    )


@pytest.mark.parametrize("choice", ["detector", "landmarker", "teacher", "combined"])
def test_configured_objects_hold_no_omegaconf_containers(configured, choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lists = ["datamodule.augment.keypoint_names=[left,right]"]
    if choice != "combined":
        lists.append("datamodule.processor.sources=[coco]")
    config = configured(f"datamodule={choice}", *REQUIRED.get(("datamodule", choice), []), *lists)
    datamodule = instantiate(config.datamodule)
    assert isinstance(datamodule, LazyNPZDataModule)
    assert isinstance(datamodule.augment, Augmentation)
    assert_plain(datamodule.augment.keypoint_names)
    built = [datamodule, datamodule.augment, *datamodule.processors]
    assert len(built) == (2 if choice == "combined" else 3)
    for part in built:
        for value in vars(part).values():
            assert_plain(value)
    if choice != "combined":
        assert_plain(instantiate(config.datamodule.processor).sources)
    assert isinstance(instantiate(config.model), L.LightningModule)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("datamodule.batch_size=64", "datamodule.batch_size", 64),
        ("datamodule.num_workers=4", "datamodule.num_workers", 4),
        ("datamodule.cache_size.train=100", "datamodule.cache_size.train", 100),
        ("datamodule.cache_size=50", "datamodule.cache_size", 50),
        ("datamodule.train_split=0.9", "datamodule.train_split", 0.9),
        ("datamodule.processor.flush_every=10", "datamodule.processor.flush_every", 10),
        ("datamodule.processor.num_workers=8", "datamodule.processor.num_workers", 8),
        ("datamodule.processor.image_size=[96,128]", "datamodule.processor.image_size", [96, 128]),
        ("raw_data_dir=/data/wider", "datamodule.processor.raw_data_dir", "/data/wider"),
        ("output_dir=made", "datamodule.processor.output_dir", "made"),
        ("seed=3", "datamodule.seed", 3),
        ("trainer=cpu", "trainer.accelerator", "cpu"),
        ("trainer=ddp", "trainer.strategy", "ddp"),
        ("trainer.max_epochs=2", "trainer.max_epochs", 2),
        ("datamodule.augment=null", "datamodule.augment", None),
    ],
)
def test_settings_are_overridden_on_the_command_line(configured, override, key, value):
    assert OmegaConf.select(configured(override), key) == value


def test_the_training_seed_does_not_change_the_split(configured):
    assert configured("seed=3").datamodule.processor.seed == configured().datamodule.processor.seed


def test_a_mistyped_key_is_named(configured):
    with pytest.raises(ConfigCompositionException, match=r"datamodule\.batchsize"):
        configured("datamodule.batchsize=3")


def test_combined_without_directories_names_the_missing_setting(configured):
    with pytest.raises(InstantiationException, match="give data_dir"):
        instantiate(configured("datamodule=combined").datamodule)
