"""Explains, in one line, why Hydra cannot compose the settings of a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf import DictConfig, OmegaConf

from training.hints import first_line, nearest


def explain(error: Exception, arguments: Sequence[str], conf: Path, name: str) -> str:
    """Return one line with the wrong override, the reason, and the nearest valid name.

    Args:
        error: the exception of Hydra or OmegaConf.
        arguments: the command line without the program's name.
        conf: directory of the settings.
        name: name of the main file in it.
    """
    if isinstance(error, OverrideParseException):
        reason = first_line(error.message)
        return (
            f"{error.override}: cannot be read as KEY=VALUE: {reason}; quote the whole "
            "override if it has brackets, braces, spaces or commas"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error, arguments)
    # All other errors have one class; only the words of their messages tell them apart.
    message = first_line(error)
    if isinstance(error, SearchPathException):
        return f"--config-dir: {message}"
    keyless = next((one for one in arguments if one.startswith("=")), None)
    if keyless is not None:
        return f"{keyless}: has no key before ="
    if "must be a string or a list" in message:
        return _wrong_choice(arguments, message, conf)
    key = _key_of(error)
    matching = (one for one in _overrides(arguments) if key in (one.key_or_group, _full_key(one)))
    override = next(matching, None)
    if key and override is not None:
        return _wrong_key(override, message, conf, name)
    return f"{key}: {message}" if key else message


def _wrong_key(override: Override, message: str, conf: Path, name: str) -> str:
    line, key = override.input_line or override.key_or_group, override.key_or_group
    if "already at" in message:
        return f"{line}: the setting exists; write {line.lstrip('+')}"
    if override.is_delete():
        return f"{line}: there is no such setting to delete{_similar(key, conf, name)}"
    if "Could not override" in message or "append" in message:
        return f"{line}: no such setting{_similar(key, conf, name)}"
    return f"{line}: {message}"


def _unknown_choice(error: MissingConfigException, arguments: Sequence[str]) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return f"--config-name={choice}: there is no such file of settings"
    texts = [str(one.input_line) for one in _overrides(arguments) if one.value() == choice]
    text = texts[-1] if texts else f"{group}={choice}"
    if not error.options:
        return f"{text}: there is no settings file {error.missing_cfg_file}"
    options = ", ".join(error.options)
    return f"{text}: must be one of {options}{nearest(choice, error.options)}"


def _wrong_choice(arguments: Sequence[str], message: str, conf: Path) -> str:
    """Return the line about a group with a choice that is not a name, such as ``model=null``."""
    for override in _overrides(arguments):
        folder = conf / override.key_or_group
        if folder.is_dir() and not isinstance(override.value(), str | list):
            options = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            return f"{override.input_line}: must be one of {options}"
    return message


def _full_key(override: Override) -> str:
    """Return the key as typed, such as ``processor@datamodule.processor``."""
    return str(override.input_line).partition("=")[0].lstrip("+~")


def _overrides(arguments: Sequence[str]) -> Iterator[Override]:
    """Parse those arguments that are overrides; wrong ones are left out."""
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-"):
            continue
        try:
            yield parser.parse_override(argument)
        except HydraException:
            continue


def _key_of(error: Exception) -> str:
    """Return the key that a message of Hydra names."""
    found = re.search(r"(?:override|at|delete from config\.|full_key:) '?([\w.@/-]+)'?", str(error))
    quoted = re.search(r"'([\w.@/-]+)'", str(error))
    match = found or quoted
    return match[1].rstrip(".") if match else ""


def _similar(key: str, conf: Path, name: str) -> str:
    """Return the most similar key of the default settings, or of any group, as a question."""
    known = _known(conf, name)
    # The whole key may be the end of one, such as in store=jpeg.
    ends = sorted((one for one in known if one.endswith(f".{key}")), key=len)
    if ends:
        return f"; did you mean {ends[0]}?"
    found = nearest(key, known)
    if found:
        return found
    # The last part may be right, such as in data.batch_size=8.
    last = key.rpartition(".")[2]
    same = [one for one in known if one.rpartition(".")[2] == last]
    return f"; did you mean {same[0]}?" if same else ""


@cache
def _known(conf: Path, name: str) -> list[str]:
    """Return all keys of the default settings, and all groups."""
    GlobalHydra.instance().clear()  # Hydra composes once in a process
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose(name)
    return [*_keys(config), *(path.name for path in conf.iterdir() if path.is_dir())]


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        if key.startswith("_"):
            continue
        yield f"{prefix}{key}"
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not (
            OmegaConf.is_missing(config, key) or node._is_none()
        ):
            yield from _keys(node, f"{prefix}{key}.")
