"""Checks the composed settings before anything is built, rendered or processed.

Every key under a ``_target_`` must be an argument of that class or function, and its value must
suit the argument's type hint. The classes themselves check ranges when they are built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from processing.core.urls import is_url
from training.declared import declared_arguments
from training.exit_status import SettingsError
from training.hints import allowed, choices, first_line, fits, nearest
from training.named_files import DEMO_DIR, check_photographs, existing_checkpoint
from training.targets import Arguments, Problem, Reference, imported_arguments

ROOT_HINTS: dict[str, Any] = {
    "action": Literal["fit", "test", "predict", "export"],
    "raw_data_dir": str,
    "output_dir": str,
    "run_dir": str,
    "seed": int,
    "ckpt_path": str | None,
    "demo_images": int,
    "source": str | list[str] | None,
    "export": dict[str, Any],
    "export.format": Literal["torch", "onnx"],
}
"""Keys of ``train.yaml`` that hold a single value, or plain values under names."""
LEAST = {
    "seed": 0,
    "demo_images": 1,
    # Lightning accepts smaller values, and divides by them later.
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_nodes": 1,
    "trainer.gradient_clip_val": 0,
}
BUILT = ("model", "datamodule", "trainer")
"""Keys of ``train.yaml`` that hold a ``_target_``."""
GIVEN = ("mirror", "move", "tint")
"""Keys that other settings refer to."""
NAMED = ("callbacks", "logger")
"""Keys that hold a ``_target_``, or several under names of the user; null or {}: none."""
SPECIAL = ("_target_", "_convert_", "_recursive_", "_partial_", "_args_")
FILLED_IN = ("monitor", "mode", "stopping_threshold")
"""Arguments of callbacks that the script fills in with the model's score if they are null."""


def check_settings(config: DictConfig) -> None:
    """Check the composed settings, and that the files and directories in them exist.

    Importing torch and Lightning takes seconds, which most mistakes need not wait for. So the
    arguments that are written in the sources are checked first, and then those of the imported
    classes.

    Raises:
        SettingsError: keys are unknown, values are missing or have a wrong type. Each has one line.
    """
    _raise_any(_Check(config, declared_arguments).problems())
    _check_paths(config)
    _raise_any(_Check(config, imported_arguments).problems())


def _raise_any(found: Iterator[str]) -> None:
    problems = list(found)
    # A value that refers to a wrong one is wrong for that reason only.
    first = [one for one in problems if not isinstance(one, Reference)] or problems[:1]
    if first:
        raise SettingsError("\n".join(first))


def _check_paths(config: DictConfig) -> None:
    existing_checkpoint(config.ckpt_path)
    if config.action not in ("fit", "test") or "processor" not in config.datamodule:
        return
    processor = _resolved(config.datamodule, "processor")
    # Another class may read its photographs from anywhere.
    if isinstance(processor, DictConfig) and processor._target_ == "processing.DataProcessor":
        raw = processor.get("raw_data_dir", DEMO_DIR)
        if not is_url(raw):  # only the processor looks at URLs
            check_photographs(Path(raw).expanduser())


class _Check:
    """One look at all settings.

    Args:
        config: the settings.
        arguments_of: called with a dotted name and its key; returns None where the arguments of a
            target cannot be checked.
    """

    def __init__(
        self,
        config: DictConfig,
        arguments_of: Callable[[str, str], Arguments | Problem | None],
    ) -> None:
        self._config, self._arguments_of = config, arguments_of

    def problems(self) -> Iterator[str]:
        config = self._config
        known = [*ROOT_HINTS, *BUILT, *NAMED, *GIVEN]
        text = OmegaConf.to_yaml(config)
        for key in map(str, config):
            if key in known or f"${{{key}" in text:  # a key of the user that others refer to
                continue
            yield f"{key}={_shown(config, key)}: no such setting{nearest(key, known)}"
        yield from self._plain_root_problems()
        for key in BUILT:
            node = _resolved(config, key) if key in config else None
            if isinstance(node, Problem):
                yield node
            elif not isinstance(node, DictConfig) or "_target_" not in node:
                yield (
                    f"{key}={_shown(config, key)}: must be a mapping with _target_; see python "
                    "train_example.py --help"
                )
            else:
                yield from self._target_problems(node, key)
        for key in NAMED:
            if key in config:
                yield from self._named_problems(key)

    def _plain_root_problems(self) -> Iterator[str]:
        for full, hint in ROOT_HINTS.items():
            group, _, key = full.rpartition(".")
            node = OmegaConf.select(self._config, group) if group else self._config
            if isinstance(node, DictConfig) and key in node:
                yield from self._value_problems(node, key, full, hint)
            elif not group or isinstance(node, DictConfig):
                yield f"{full} is missing: it may be null, but not be deleted with ~"

    def _named_problems(self, key: str) -> Iterator[str]:
        node = _resolved(self._config, key)
        if isinstance(node, Problem):
            yield node
        elif isinstance(node, DictConfig) and "_target_" in node:
            yield from self._target_problems(node, key)
        elif isinstance(node, DictConfig):
            for name in map(str, node):
                full = f"{key}.{name}"
                entry = _resolved(node, name, full)
                if isinstance(entry, DictConfig) and "_target_" in entry:
                    yield from self._target_problems(entry, full)
                elif entry is not None:
                    yield f"{full}={_shown(node, name)}: must be a mapping with _target_, or null"
        elif node is not None:
            yield f"{key}={_shown(self._config, key)}: must be a mapping with _target_, or null"

    def _target_problems(self, node: DictConfig, key: str) -> Iterator[str]:
        """Check one mapping with ``_target_``, and those inside."""
        name = _resolved(node, "_target_", f"{key}._target_")
        if isinstance(name, Problem):
            yield name
            return
        if not isinstance(name, str) or not name:
            yield f"{key}._target_={name!r}: must be the dotted name of a class or function"
            return
        arguments = self._arguments_of(name, f"{key}._target_")
        if isinstance(arguments, Problem):
            yield arguments
        if not isinstance(arguments, Arguments):
            return
        for argument in map(str, node):
            full = f"{key}.{argument}"
            if argument in SPECIAL:
                continue
            if argument not in arguments.parameters and not arguments.takes_any:
                wrong = f"{name.rpartition('.')[2]} has no such argument"
                similar = nearest(argument, arguments.parameters)
                yield f"{full}={_shown(node, argument)}: {wrong}{similar}"
                continue
            hint = arguments.hints.get(argument, Any)
            yield from self._value_problems(node, argument, full, hint)
        if not node.get("_partial_") and "_args_" not in node:
            yield from _missing(node, key, arguments)

    def _value_problems(self, node: DictConfig, name: str, full: str, hint: Any) -> Iterator[str]:
        value = _resolved(node, name, full)
        refers = OmegaConf.is_interpolation(node, name)
        if isinstance(value, Problem):
            yield value
        elif isinstance(value, DictConfig) and "_target_" in value:
            yield from self._target_problems(value, full)
        elif isinstance(value, ListConfig):
            for problem in self._list_problems(value, full, hint):
                yield Reference(problem) if refers else problem
        else:
            for problem in _plain_problems(value, full, hint):
                yield Reference(problem) if refers else problem

    def _list_problems(self, value: ListConfig, full: str, hint: Any) -> Iterator[str]:
        plain = True
        for position in range(len(value)):
            entry = value[position]
            if isinstance(entry, DictConfig) and "_target_" in entry:
                plain = False
                yield from self._target_problems(entry, f"{full}[{position}]")
        if plain:
            yield from _plain_problems(value, full, hint)


def _missing(node: DictConfig, key: str, arguments: Arguments) -> Iterator[str]:
    for argument in arguments.required:
        filled_in = key.startswith("callbacks.") and argument in FILLED_IN
        if argument not in node and not filled_in:
            yield f"{key}.{argument} is required by {node['_target_']}"


def _plain_problems(value: Any, full: str, hint: Any) -> Iterator[str]:
    if OmegaConf.is_config(value):
        try:
            value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            yield f"{full}: {first_line(error)}"
            return
    name = full.rpartition(".")[2]
    filled_in = full.startswith("callbacks.") and name in FILLED_IN
    if value is None and filled_in:
        return
    if not fits(value, hint):
        close = nearest(value, choices(hint)) if isinstance(value, str) else ""
        yield f"{full}={_yaml(value)}: must be {allowed(hint)}{close}"
    elif full in LEAST and value is not None and value < LEAST[full]:
        yield f"{full}={value!r}: must be at least {LEAST[full]}"
    elif full in ROOT_HINTS and value == "":
        yield f"{full}='': is empty; was a variable not set?"


def _resolved(node: DictConfig, name: str, full: str | None = None) -> Any:
    """Return a value with its interpolations resolved, or the `Problem` with it."""
    full = full or name
    if OmegaConf.is_missing(node, name):
        return Problem(f"{full} is required: add {full}=VALUE")
    try:
        return node[name]
    except OmegaConfBaseException as error:
        kind = Reference if isinstance(error, InterpolationKeyError) else Problem
        return kind(f"{full}={_shown(node, name)}: {first_line(error)}")


def _shown(node: DictConfig, name: str) -> str:
    """Return a value as the user wrote it, shortened."""
    if name not in node and not OmegaConf.is_missing(node, name):
        return "null"
    raw = OmegaConf.to_container(node, resolve=False)
    value = raw.get(name) if isinstance(raw, dict) else None
    return _yaml(value)


def _yaml(value: object) -> str:
    """Return a value as a command line has it, shortened."""
    text = str(value)
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    return text if len(text) <= 80 else f"{text[:77]}..."


def constructor_problem(error: InstantiationException, config: DictConfig, key: str) -> str:
    """Return one line for an error of a constructor, with the full key of the argument.

    Args:
        error: what Hydra raised; it knows the node, and its cause the argument.
        config: all settings.
        key: key of the node that was to be built.
    """
    found = re.search(r"full_key: (\S+)", str(error))
    return argument_problem(error.__cause__ or error, config, found[1] if found else key)


def argument_problem(cause: BaseException, config: DictConfig, key: str) -> str:
    """Return one line for an error, with the full key and the value of the argument it names."""
    message = " ".join(str(cause).split())
    node = OmegaConf.select(config, key)
    names = [str(name) for name in node if name not in SPECIAL] if _is_mapping(node) else []
    for name in sorted(names, key=lambda name: _position(name, message)):
        if _position(name, message) < len(message):
            return f"{key}.{name}={_shown(node, name)}: {message}"
    # Such as "no gpu backend found".
    for name in names:
        value = node[name]
        texts = list(value) if isinstance(value, ListConfig) else [value]
        if any(isinstance(one, str) and _position(one, message) < len(message) for one in texts):
            return f"{key}.{name}={_shown(node, name)}: {message}"
    return f"{key}: {message}"


def _is_mapping(node: Any) -> bool:
    return isinstance(node, DictConfig) and not node._is_none()


def _position(name: str, message: str) -> int:
    """Return where a message names an argument; its length if it does not."""
    found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", message)
    return found.start() if found else len(message)
