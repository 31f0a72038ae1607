"""augment_batch: calls any augmentation, with the keywords that it takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import nn

from datamodules.transform_checks import name_of
from datamodules.transforms import Augmentation

Augment: TypeAlias = Callable[..., Mapping[str, Any]]
"""Called with a batch on its device, and with `seed` and `epoch` if it names these parameters."""


def check_augment(augment: Any) -> Augment | None:
    """Returns the argument `augment` of the datamodule.

    Raises:
        TypeError: it is not callable, or it is a class in place of an object.
    """
    if augment is None or (callable(augment) and not _is_class_of_callables(augment)):
        return augment  # type: ignore[no-any-return]  # a callable, whatever it returns
    hint = f": write {augment.__name__}(...)" if isinstance(augment, type) else ""
    raise TypeError(f"augment must be a callable on batches, got {augment!r}{hint}")


def keywords_of(augment: Augment) -> frozenset[str]:
    """Returns which of `seed` and `epoch` a callable names among its parameters.

    A `**kwargs` does not count: the function behind it may not know them. A value that
    `functools.partial` has bound stays the one that the user chose.
    """
    target = augment.forward if isinstance(augment, nn.Module) else augment
    bound = target.keywords if isinstance(target, functools.partial) else {}
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return frozenset()
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = {name for name, parameter in parameters.items() if parameter.kind in kinds}
    return frozenset(named & {"seed", "epoch"} - set(bound))


def augment_batch(
    augment: Augment, keywords: frozenset[str], batch: Any, *, seed: int, epoch: int
) -> dict[str, Any]:
    """Returns an augmented batch.

    Args:
        augment: the callable.
        keywords: the result of `keywords_of`.
        batch: a finished batch on its device; a shallow copy is handed on.
        seed: of the run.
        epoch: of the training.

    Raises:
        TypeError: the result is not a dict with an image.
        ValueError: an `Augmentation` is to change a batch that lacks what it needs.
    """
    if isinstance(augment, Augmentation):
        missing = [key for key in ("image", "index") if key not in batch]
        if missing:
            raise ValueError(
                f"augment: Augmentation needs {', '.join(missing)} in each batch, and collate_fn "
                "left them out: keep them, or give augment=None or a function of your own"
            )
    values = {name: value for name, value in (("seed", seed), ("epoch", epoch)) if name in keywords}
    result = augment(dict(batch) if isinstance(batch, dict) else batch, **values)
    if not isinstance(result, Mapping) or "image" not in result:
        found = list(result) if isinstance(result, Mapping) else type(result).__name__
        raise TypeError(
            f"augment {name_of(augment)} returned {found}; expected the batch, a dict with 'image'"
        )
    changed = dict(result)
    if "valid" in batch and len(changed["image"]) == len(batch["valid"]):
        changed.setdefault("valid", batch["valid"])
    return changed


def _is_class_of_callables(augment: Any) -> bool:
    """Checks for a class that was given in place of an object, and would swallow the batch."""
    # `callable` would not do: every class is callable, and `dict` is a fine augmentation.
    return isinstance(augment, type) and any("__call__" in vars(base) for base in augment.__mro__)
