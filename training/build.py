"""Builds the parts of a run from its settings: data module, model, callbacks, loggers, trainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
)
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from models.model import Model
from training.checkpoints import LastCheckpoint, StopBetweenSteps
from training.curves import CurveRecorder
from training.data import DataSummary
from training.duration import UNLIMITED, Duration
from training.exit_status import SettingsError
from training.log_lines import prepare_log
from training.named_files import existing_checkpoint
from training.report import Picture, Score
from training.saved_model import check_task, load_model
from training.settings import argument_problem, constructor_problem
from training.starting_point import FinishedBefore, check_checkpoint
from training.verdict import FactsRecorder


@dataclass
class Run:
    """The parts of one run.

    Args:
        datamodule: serves the data.
        model: is trained.
        trainer: trains it.
        ckpt_path: checkpoint to start from, or None.
        run_dir: directory of the results.
        finished_before: a callback of the trainer.
        is_command: whether it is all that the user's command does; if not, it is one of several
            runs, or a function was called.
    """

    datamodule: L.LightningDataModule
    model: L.LightningModule
    trainer: L.Trainer
    ckpt_path: Path | None
    run_dir: Path
    finished_before: FinishedBefore
    is_command: bool

    @property
    def picture(self) -> Path:
        """The picture of the last validation; it need not exist."""
        return self.run_dir / "predictions.png"

    @property
    def best(self) -> ModelCheckpoint | None:
        """The callback that keeps the best checkpoint."""
        found: ModelCheckpoint | None = self._callback(ModelCheckpoint)
        return found

    @property
    def last(self) -> LastCheckpoint | None:
        """The callback that keeps the last checkpoint."""
        found: LastCheckpoint | None = self._callback(LastCheckpoint)
        return found

    def _callback(self, kind: type[Any]) -> Any:
        found = (one for one in self.trainer.callbacks if isinstance(one, kind))  # type: ignore[attr-defined]  # set by Lightning, not declared
        return next(found, None)

    def best_weights(self) -> str | None:
        """Return the checkpoint to show after a training; None: the weights in memory.

        If the last epoch scores as high as the best, it is the last: a detector may score 0 for
        some epochs although it is learning.
        """
        if self.best is None or not self.best.best_model_path:
            return None
        monitor = self.best.monitor or ""
        if self.trainer.callback_metrics.get(monitor) == self.best.best_model_score:
            return str(self.last.path) if self.last is not None else None
        return self.best.best_model_path

    def score(self, results: Sequence[Any]) -> float | None:
        """Return the model's score among the metrics of `Trainer.validate` or `Trainer.test`."""
        metrics = dict(results[0]) if results else {}
        score = metrics.get(getattr(self.model, "metric", ""))
        return None if score is None else float(score)


def build(config: DictConfig) -> Run:
    """Build the parts of a run. Nothing is read or written yet.

    Raises:
        SettingsError: an argument is out of range; the message has its full key.
    """
    prepare_log()
    ckpt_path = existing_checkpoint(config.ckpt_path)
    run_dir = Path(config.run_dir)
    L.seed_everything(config.seed, verbose=False)
    _check_there_is_data(config.datamodule)
    datamodule = _built(config, "datamodule")
    model = _built(config, "model")
    if ckpt_path is not None and config.action == "test" and isinstance(model, Model):
        model = load_model(ckpt_path, type(model))  # the checkpoint knows its width
        check_task(model, datamodule, ckpt_path)
    else:
        _check_served_task(model, datamodule)
        if ckpt_path is not None:
            check_checkpoint(ckpt_path, model)
    loggers = list(_loggers(config))
    callbacks = [*_callbacks(config, model, loggers), DataSummary()]
    facts, finished_before = FactsRecorder(), FinishedBefore()
    picture = run_dir / "predictions.png"
    callbacks += [CurveRecorder(run_dir / "curves.png"), facts, finished_before]
    callbacks += [Picture(picture), Score(picture, facts)]
    # First, because others decide at their setup by the interval of validations when to act.
    callbacks.sort(key=lambda one: not isinstance(one, Duration))
    stops = [StopBetweenSteps(one) for one in callbacks if isinstance(one, LastCheckpoint)]
    trainer = _trainer(config, loggers, [*stops, *callbacks])
    is_command = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.RUN
    return Run(datamodule, model, trainer, ckpt_path, run_dir, finished_before, is_command)


def _check_there_is_data(settings: DictConfig) -> None:
    """Check that our data module has NPZ files to read, or a processor that writes some."""
    is_ours = settings._target_ == "datamodules.LazyNPZDataModule"
    if not is_ours or settings.get("processor") is not None or settings.get("data_dir") is not None:
        return
    chosen = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    typed = (
        "datamodule=combined" if "datamodule=combined" in chosen else "datamodule.processor=null"
    )
    raise SettingsError(
        f"{typed}: give datamodule.data_dir too, the directory of the NPZ files to read, or a list "
        "of these"
    )


def _check_served_task(model: Any, datamodule: Any) -> None:
    """Check that model and data belong together, before any data is processed."""
    wanted = getattr(model, "task", None)
    served = getattr(datamodule, "task", wanted)
    if wanted and served != wanted:
        raise SettingsError(
            f"datamodule.task={served}: {type(model).__name__} learns from {wanted} data; choose "
            f"datamodule={served} or datamodule={wanted}, which sets the model, too"
        )


def _built(config: DictConfig, key: str) -> Any:
    node = OmegaConf.select(config, key)
    return _checked(config, key, lambda: hydra.utils.instantiate(node))


def _checked(config: DictConfig, key: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except InstantiationException as error:
        raise SettingsError(constructor_problem(error, config, key)) from error
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise SettingsError(argument_problem(error, config, key)) from error


def _trainer(config: DictConfig, loggers: list[Any], callbacks: list[Callback]) -> L.Trainer:
    settings = config.trainer.copy()
    with open_dict(settings):
        settings.pop("callbacks", None)
        settings.pop("logger", None)
        if settings.get("max_epochs") is None and settings.get("max_steps") is None:
            settings.max_epochs = UNLIMITED  # the callback `Duration` chooses the epochs
        settings.update(processes_of_torchrun(settings))
        if not any(isinstance(one, Checkpoint) for one in callbacks):
            settings.setdefault("enable_checkpointing", False)  # Lightning would add its own
    check_devices(config)
    trainer: L.Trainer = _checked(
        config,
        "trainer",
        lambda: hydra.utils.instantiate(settings, logger=loggers or False, callbacks=callbacks),
    )
    return trainer


def processes_of_torchrun(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's settings for the processes that torchrun has started.

    With the defaults, one device and no strategy, each process would train a model of its own.
    Other settings are left to Lightning, which refuses those that contradict torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return {}
    changes: dict[str, Any] = {}
    if settings.get("devices") in (1, "auto"):
        changes["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])
    if settings.get("num_nodes", 1) == 1:
        changes["num_nodes"] = int(os.environ["GROUP_WORLD_SIZE"])
    if settings.get("strategy", "auto") == "auto":
        changes["strategy"] = "ddp"
    return changes


def check_devices(config: DictConfig) -> None:
    """Check that there are as many devices as the settings ask for.

    Lightning starts any number of processes on CPUs.

    Raises:
        SettingsError: there are fewer.
    """
    wanted = config.trainer.get("devices")
    if config.trainer.get("accelerator") != "cpu" or not isinstance(wanted, int):
        return
    most = max(2, os.cpu_count() or 1)
    if wanted > most:
        raise SettingsError(
            f"trainer.devices={wanted}: there are {os.cpu_count()} CPUs; at most {most} processes"
        )


def _entries(config: DictConfig, key: str) -> Iterator[tuple[str, Any]]:
    """Yield (full key, node) for a group that holds one ``_target_``, or several under names."""
    node = config.get(key)
    if isinstance(node, DictConfig) and "_target_" in node:
        yield key, node
    elif isinstance(node, ListConfig):
        for position in range(len(node)):
            yield f"{key}[{position}]", node[position]
    elif isinstance(node, DictConfig):
        for name in map(str, node):
            yield f"{key}.{name}", node[name]


def _loggers(config: DictConfig) -> Iterator[Any]:
    """Yield the loggers of the group and those of ``trainer.logger``; False there: none at all."""
    extra = config.trainer.get("logger")
    if extra is False:
        return
    if extra is True:
        raise SettingsError("trainer.logger=true: choose logger=csv or logger=tensorboard instead")
    for parent, key in ((config, "logger"), (config.trainer, "logger")):
        for full, node in _entries(parent, key):
            if node is not None:
                yield _logger(config, full if parent is config else f"trainer.{full}")


def _logger(config: DictConfig, key: str) -> Any:
    """Build a logger; the message about a missing library names the extra to install."""
    try:
        return _built(config, key)
    except SettingsError as error:
        missing = isinstance(error.__cause__, ModuleNotFoundError) or isinstance(
            getattr(error.__cause__, "__cause__", None), ModuleNotFoundError
        )
        extra = str(OmegaConf.select(config, f"{key}._target_")).rpartition(".")[2]
        extra = extra.removesuffix("Logger").lower()
        if not missing or extra not in ("tensorboard", "wandb", "mlflow"):
            raise
        raise SettingsError(
            f"logger={extra}: {extra} is not installed: pip install -c constraints.txt -e "
            f'".[{extra}]", or choose logger=csv'
        ) from error


def _callbacks(config: DictConfig, model: Any, loggers: list[Any]) -> Iterator[Callback]:
    """Yield the callbacks of the group and those of ``trainer.callbacks``."""
    for parent, key in ((config, "callbacks"), (config.trainer, "callbacks")):
        for full, node in _entries(parent, key):
            if node is None:
                continue
            name = full if parent is config else f"trainer.{full}"
            callback = _callback(config, name, node, model)
            if isinstance(callback, LearningRateMonitor) and not loggers:
                continue  # it has nowhere to write to
            if isinstance(callback, ProgressBar) and not config.trainer.get("enable_progress_bar"):
                continue
            yield callback


def _callback(config: DictConfig, key: str, node: Any, model: Any) -> Callback:
    """Build a callback; ``monitor: null`` and ``mode: null`` stand for the model's score."""
    filled = {}
    if "monitor" in node and node["monitor"] is None:
        filled["monitor"] = model.metric
    if "mode" in node and node["mode"] is None:
        if node.get("monitor") not in (None, model.metric):
            raise SettingsError(f"{key}.mode is required with monitor={node.monitor}: min or max")
        filled["mode"] = model.mode
    if (
        "stopping_threshold" in node
        and node["stopping_threshold"] is None
        and node.get("monitor") in (None, model.metric)
    ):
        filled["stopping_threshold"] = getattr(model, "good_enough", None)
    callback = _checked(config, key, lambda: hydra.utils.instantiate(node, **filled))
    if not isinstance(callback, Callback):
        raise SettingsError(f"{key}: {type(callback).__name__} is not a Lightning callback")
    return callback
