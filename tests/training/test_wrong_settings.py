"""Whatever is typed wrongly ends with one line, which has the full key, and exit status 2."""

import copy
import sys
import zipfile
from functools import cache

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

import train_example
import training.build  # noqa: F401 - Lightning logs to the standard error of its first import
from training import actions

# (argument, part of the line). Hydra itself refuses these keys.
UNKNOWN_KEYS = [
    ("rawdata_dir=x", "did you mean raw_data_dir?"),
    ("datamodule.batchsize=3", "did you mean datamodule.batch_size?"),
    ("batch_size=8", "did you mean datamodule.batch_size?"),
    ("store=jpeg", "store=jpeg: no such setting; did you mean datamodule.processor.store?"),
    ("processor.store=jpeg", "did you mean datamodule.processor.store?"),
    ("datamodule.cache_size.trian=3", "did you mean datamodule.cache_size.train?"),
    ("datamodule.proccessor.seed=1", "did you mean datamodule.processor.seed?"),
    ("datamodule.augment.flip=1", "no such setting"),
    ("model.widht=3", "did you mean model.width?"),
    ("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
    ("trainer.max_epochs.foo=1", "did you mean trainer.max_epochs?"),
    ("callbacks.early_stoping=null", "did you mean callbacks.early_stopping?"),
    ("logger.foo=1", "no such setting"),
    ("~sed", "did you mean seed?"),
    ("+seed=1", "write seed=1"),
]
# Hydra adds or deletes these keys, and the script finds that they are wrong.
ADDED_AND_DELETED_KEYS = [
    ("~model", "model=null"),
    ("~seed", "seed is missing"),
    ("+model.widht=3", "model.widht=3: Detector has no such argument; did you mean width?"),
    ("+trainer.foo=1", "Trainer has no such argument"),
    ("++trainer.max_epoch=3", "did you mean max_epochs?"),
    ("+datamodule.processor.foo=1", "datamodule.processor.foo=1: DataProcessor has no such"),
    ("+lr=3", "lr=3: no such setting"),
    ("+callbacks.last.foo=1", "LastCheckpoint has no such argument"),
]
WRONG_CHOICES = [
    ("datamodule=combined", "give datamodule.data_dir too"),
    ("model=detectr", "must be one of detector, landmarker, teacher; did you mean detector?"),
    ("model=null", "must be one of detector, landmarker, teacher"),
    ("datamodule=detectr", "did you mean detector?"),
    ("datamodule=null", "must be one of combined"),
    ("trainer=gpuu", "did you mean gpu?"),
    ("logger=cvs", "did you mean csv?"),
    ("callbacks=defualt", "did you mean default?"),
    ("augment=storng", "did you mean strong?"),
    ("experiment=smok", "did you mean smoke?"),
    ("hparams_search=gird", "did you mean grid?"),
    ("datamodule/augment=strong", "no such setting"),
    ("augment@datamodule.augment=strong", "no such setting"),
    ("--config-name=nope", "--config-name=nope"),
    ("--config-dir=nope", "nope"),
]
SYNTAX = [
    ("foo", "foo: cannot be read as KEY=VALUE"),
    ("seed=[1", "quote the whole override"),
    ("seed=1=2", "seed=1=2: cannot be read"),
    ("=3", "has no key before ="),
    ("a b", "cannot be read"),
    ("datamodule.processor.group_by=[", "cannot be read"),
]
WRONG_TYPES = [
    ("datamodule.batch_size=abc", "must be an integer"),
    ("datamodule.batch_size=2.5", "must be an integer"),
    ("datamodule.batch_size=null", "must be an integer"),
    ("datamodule.cache_size=foo", "must be an integer or a mapping"),
    ("datamodule.pin_memory=maybe", "must be true or false or null"),
    ("datamodule.data_dir=3", "a path"),
    ("datamodule.augment=foo", "must be a callable"),
    ("datamodule.processor=foo", "DataProcessor"),
    ("datamodule.train_transform=foo.bar", "a function with _partial_: true"),
    ("datamodule.processor.raw_data_dir=3", "a path"),
    ("model.width=abc", "must be an integer"),
    ("model.learning_rate=fast", "must be a number"),
    ("trainer.max_epochs=abc", "must be an integer or null"),
    ("trainer.gradient_clip_val=abc", "must be a number or null"),
    ("trainer.log_every_n_steps=x", "must be an integer or null"),
    ("trainer.enable_progress_bar=2", "must be true or false or null"),
    ("callbacks.last.every_n_minutes=often", "must be a number or null"),
    ("callbacks.early_stopping.patience=x", "must be an integer"),
    ("+callbacks.mine=3", "callbacks.mine=3: must be a mapping with _target_"),
    ("+trainer.callbacks=foo", "must be a list"),
    ("seed=abc", "must be an integer"),
    ("demo_images=x", "must be an integer"),
    ("run_dir=null", "must be a text"),
    ("output_dir=[a,b]", "must be a text"),
]
WRONG_VALUES = [
    ("datamodule.batch_size=0", "at least 1"),
    ("datamodule.processor.batch_size=0", "at least 1"),
    ("datamodule.num_workers=-1", "at least 0"),
    ("datamodule.task=detectr", "did you mean detector?"),
    ("datamodule.task=landmarker", "choose datamodule=landmarker or datamodule=detector"),
    ("datamodule.train_split=2", "in [0, 1]"),
    ("datamodule.augment.horizontal_flip=2", "in [0, 1]"),
    ("datamodule.processor.on_error=riase", "did you mean raise?"),
    ("datamodule.processor.group_by='('", "regular expression"),
    ("datamodule.processor.sources=[cocoo]", "coco"),
    ("model.width=0", "at least 2"),
    ("model.learning_rate=0", "above 0"),
    ("model.num_classes=0", "at least 1"),
    ("trainer.max_epochs=-5", "-1"),
    ("trainer.devices=99", "CPUs"),
    ("trainer.devices=0", "devices"),
    ("trainer.precision=foo", "bf16-mixed"),
    ("trainer.accelerator=gpuu", "cpu"),
    ("trainer.strategy=ddpp", "ddp"),
    ("trainer.limit_train_batches=5.5", "[0.0, 1.0]"),
    ("trainer.accumulate_grad_batches=0", "at least 1"),
    ("+trainer.logger=true", "choose logger=csv"),
    ("callbacks.last.every_n_minutes=-1", "at least 0"),
    ("callbacks.early_stopping.mode=maxx", "min, max"),
    ("seed=-1", "at least 0"),
    ("demo_images=0", "at least 1"),
    ("raw_data_dir=", "empty"),
    ("raw_data_dir=${nope}", "nope"),
    ("raw_data_dir=nope", "there is no such directory"),
    (
        "datamodule.processor.raw_data_dir=https://example.org/raw",
        "web servers do not list their files",
    ),
    ("datamodule.processor=null", "give datamodule.data_dir too"),
    ("action=fitt", "did you mean fit?"),
    ("action=test", "ckpt_path"),
    ("ckpt_path=nope.ckpt", "there is no such checkpoint"),
    ("ckpt_path=README.md", "is not a checkpoint"),
    ("ckpt_path=zip.ckpt", "is not a checkpoint"),
    ("ckpt_path=arrays.npz", "is not a checkpoint"),
    ("ckpt_path=damaged.ckpt", "cannot be read"),
    ("ckpt_path=.", "is a folder, not a checkpoint"),
]
WRONG_TARGETS = [
    ("+trainer.callbacks=[{_target_: no.such.Thing}]", "trainer.callbacks[0]._target_=no.such"),
    ("+callbacks.a={_target_: torch.nn.Identity}", "callbacks.a: Identity is not a Lightning"),
    ("+callbacks.a={_target_: lightning.Callbak}", "did you mean Callback?"),
    ("+callbacks.a={_target_: lightning.pytorch.callbacks.Timer, intervall: a}", "interval?"),
    ("model._target_=models.Detectr", "did you mean Detector?"),
    ("model._target_=modles.Detector", "No module named 'modles'"),
    ("datamodule.train_transform={_target_: foo.bar}", "datamodule.train_transform._target_"),
]
# Hydra leaves handlers that write to the captured output of a test.
NO_LOGGING = ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
NOT_COMPOSED = [*UNKNOWN_KEYS, *WRONG_CHOICES, *SYNTAX]
COMPOSED = [*ADDED_AND_DELETED_KEYS, *WRONG_TYPES, *WRONG_VALUES, *WRONG_TARGETS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with files that are no checkpoints."""
    directory = tmp_path_factory.mktemp("wrong")
    (directory / "README.md").write_text("# no checkpoint")
    (directory / "zip.ckpt").write_bytes(b"PK\x05\x06" + bytes(18))
    np.savez(directory / "arrays.npz", boxes=np.zeros(4))
    with zipfile.ZipFile(directory / "damaged.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"not a pickle")
    return directory


@pytest.fixture
def failure(folder, monkeypatch, capsys):
    """Returns a function that calls another, which must exit: (exit status, standard error)."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(function, *arguments):
        with pytest.raises(SystemExit) as stop:
            function(*arguments)
        return stop.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def command(failure, monkeypatch):
    """Returns a function that runs the command in this process: (exit status, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_example.py", *NO_LOGGING, *arguments])
        return failure(train_example.main)

    return run


@cache
def defaults():
    """The settings without overrides; composing them once saves half a minute."""
    with initialize_config_dir(str(train_example.CONF), version_base="1.3"):
        return compose("train", ["run_dir=run", "trainer=cpu"])


def composed(*overrides):
    """Returns settings with overrides, as Hydra composes them for the command."""
    config = copy.deepcopy(defaults())
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_delete():
            with open_dict(config):
                config.pop(override.key_or_group)
        else:
            OmegaConf.update(config, override.key_or_group, override.value(), force_add=True)
    return config


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    """A setting that is not found to be wrong must not start a training."""
    monkeypatch.setitem(actions.ACTIONS, "fit", lambda run: pytest.fail("the training began"))


def test_there_are_eighty_cases():
    assert len(NOT_COMPOSED) + len(COMPOSED) >= 80


def assert_one_line(status, printed, argument, expected):
    assert len(printed.splitlines()) == 1, printed
    assert expected in printed
    key = argument.partition("=")[0].lstrip("+~")
    assert printed.lstrip("+~").startswith(key)
    assert status == 2


@pytest.mark.parametrize(
    ("argument", "expected"), NOT_COMPOSED, ids=[one for one, _ in NOT_COMPOSED]
)
def test_settings_that_cannot_be_composed_are_one_line_and_status_2(command, argument, expected):
    assert_one_line(*command(argument), argument, expected)


@pytest.mark.parametrize(("argument", "expected"), COMPOSED, ids=[one for one, _ in COMPOSED])
def test_a_wrong_setting_is_one_line_and_status_2(failure, argument, expected):
    result = failure(train_example.main, composed(argument))
    assert_one_line(*result, argument, expected)


def test_a_wrong_value_on_the_command_line_is_one_line_and_status_2(command):
    result = command("datamodule.batch_size=abc")
    assert_one_line(*result, "datamodule.batch_size", "abc: must be an integer")


@pytest.mark.parametrize(
    "arguments",
    [
        ["seed=-1", "--multirun", "demo_images=3"],
        ["seed=-1", "--config-dir", "own=conf", "demo_images=3"],
        ["seed=-1", "--config-dir=own=conf", "~model.width"],
    ],
)
def test_settings_may_stand_on_both_sides_of_an_option(command, folder, arguments):
    (folder / "own=conf").mkdir(exist_ok=True)
    assert_one_line(*command(*arguments), "seed=-1", "at least 0")


def test_a_module_that_is_not_found_names_the_places_of_the_search(failure):
    result = failure(train_example.main, composed("+callbacks.mine={_target_: nowhere.Mine}"))
    assert "among the installed packages and in the current directory" in result[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["raw_data_dir=photographs", "output_dir=./photographs"], "is raw_data_dir, too"),
        (["raw_data_dir=.", "output_dir=photographs"], "with photographs, such as"),
        (["datamodule.processor=null", "datamodule.data_dir=fotographs"], "mean photographs?"),
    ],
)
def test_directories_that_cannot_be_meant_are_one_line_and_status_2(
    failure, folder, arguments, expected
):
    (folder / "photographs").mkdir(exist_ok=True)
    (folder / "photographs" / "a.jpg").touch()
    result = failure(train_example.main, composed(*arguments))
    assert_one_line(*result, arguments[-1], expected)


def test_a_url_of_photographs_is_not_looked_for_on_the_disk(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = []
    monkeypatch.setitem(actions.ACTIONS, "fit", lambda run: found.extend(run.datamodule.processors))
    train_example.main(composed("raw_data_dir=s3://bucket/raw"))
    assert [str(processor.raw_data_dir) for processor in found] == ["s3://bucket/raw"]


def test_several_wrong_settings_have_a_line_each(failure):
    config = composed("model.width=abc", "seed=-1", "+trainer.foo=1")
    status, printed = failure(train_example.main, config)
    assert status == 2
    keys = sorted(line.partition("=")[0] for line in printed.splitlines())
    assert keys == ["model.width", "seed", "trainer.foo"]


def test_the_value_that_others_refer_to_is_named_once(failure):
    _, printed = failure(train_example.main, composed("seed=1.5"))  # datamodule.seed is ${seed}
    assert printed.splitlines() == ["seed=1.5: must be an integer"]


def test_a_checkpoint_of_another_model_names_what_differs(failure, folder):
    weights = {"pyramid.stem.0.0.weight": torch.zeros(9, 3, 3, 3)}
    saved = {"state_dict": weights, "hyper_parameters": {"width": 9}}
    torch.save(saved, folder / "other.ckpt")
    status, printed = failure(train_example.main, composed("ckpt_path=other.ckpt"))
    assert status == 2
    assert "does not fit Detector" in printed
    assert "model.width=9, this model has 24" in printed


FOREIGN = {
    "names its layers": ({"layer.weight": torch.zeros(1)}, {}, "with the layers layer"),
    "has its name": ({}, {"npz_vision_data": {"model": "Landmarker"}}, "Landmarker"),
}


@pytest.mark.parametrize(("weights", "entries", "name"), FOREIGN.values(), ids=FOREIGN)
def test_a_checkpoint_of_another_project_or_task(failure, folder, weights, entries, name):
    torch.save({"state_dict": weights, **entries}, folder / "foreign.ckpt")
    status, printed = failure(train_example.main, composed("ckpt_path=foreign.ckpt"))
    expected = f"ckpt_path=foreign.ckpt: was saved by another model ({name}), not Detector\n"
    assert (status, printed) == (2, expected)
