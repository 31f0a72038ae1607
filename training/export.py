"""Exports a model for programs without this project, and compares it with the original.

The exported model takes ``images`` float32 (B, 3, H, W) in [0, 1], RGB, of the size of the training
images: a photograph scaled to fit, centred, the rest grey 114 / 255. B is free. Its outputs are
those of `answer` of the model, in pixels of its input.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.detector import Detector
from models.predictor import evaluation_mode, to_arrays
from processing.imaging.resizing import PADDING
from training.exit_status import SettingsError

if TYPE_CHECKING:
    from models.model import Model

Arrays = dict[str, NDArray[Any]]
Exported = Callable[[Tensor], Arrays]

TOLERANCE = 1e-4
"""The largest difference of an output, as a fraction of its largest value, that is accepted."""
_SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
_METADATA = "metadata.json"
_NEEDED_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
_NOISY = ("torch.onnx", "torch.export", "onnx_ir", "onnxscript")
_RANDOM_BATCHES = (1, 3)  # two sizes: the batch size must be free


class Comparison(NamedTuple):
    """The largest absolute difference of each output from the model's own.

    Args:
        inputs: the inputs that were compared, such as ``4 random images``.
        differences: by output.
    """

    inputs: str
    differences: dict[str, float]


class _Answer(nn.Module):
    """The model's answer as a module, since exporters take `forward`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.model.answer(images)


def export(
    model: Model, directory: Path, format: str = "torch", photographs: Tensor | None = None
) -> tuple[Path, list[Comparison]]:
    """Export a model, compare the file with the model, and return both.

    Args:
        model: a trained model, on the CPU.
        directory: the folder of the file; created if missing.
        format: ``torch``, a file for `torch.export.load`; ``onnx`` needs the extra ``onnx``.
        photographs: real inputs to compare on, next to random ones: float32 (B, 3, H, W).

    Returns:
        The file, and a comparison for each kind of input.

    Raises:
        SettingsError: `format` is unknown, its packages are missing, or the model does not know the
            size of its input.
        RuntimeError: the exported model gives other outputs; the file is removed.
    """
    if format not in _SUFFIXES:
        raise SettingsError(f"export.format={format}: must be one of {', '.join(_SUFFIXES)}")
    missing = [name for name in _NEEDED_FOR_ONNX if importlib.util.find_spec(name) is None]
    if format == "onnx" and missing:
        raise SettingsError(
            f"export.format=onnx needs {', '.join(missing)}: run "
            'pip install -c constraints.txt -e ".[onnx]"'
        )
    if model.facts.image_size is None:
        raise SettingsError("the checkpoint does not hold the size of the model's input")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{model.task}{_SUFFIXES[format]}"
    with evaluation_mode(model), _quiet():
        if format == "torch":
            _write_torch(model, path)
            exported = _load_torch(path)
        else:
            _write_onnx(model, path)
            exported = _load_onnx(path)
        comparisons = list(_compare(model, exported, photographs, path))
    return path, comparisons


def metadata(model: Model) -> dict[str, Any]:
    """Return the description that is saved in the file: input, outputs, names."""
    facts = model.facts
    height, width = facts.image_size or (0, 0)
    return {
        "model": type(model).__name__,
        "task": model.task,
        "input": f"images: float32 (B, 3, {height}, {width}), RGB, 0 to 1, letterboxed",
        "padding": PADDING,
        "image_size": [height, width],
        "crop_margin": facts.crop_margin,
        "outputs": dict(model.outputs),
        "category_names": list(facts.category_names),
        "keypoint_names": list(facts.keypoint_names),
        **model.settings(),
    }


def _export_program(model: Model) -> Any:
    height, width = model.facts.image_size or (0, 0)
    example = torch.rand(2, 3, height, width)
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(
        _Answer(model).eval(), (example,), dynamic_shapes={"images": {0: batch}}
    )


def _write_torch(model: Model, path: Path) -> None:
    text = json.dumps(metadata(model))
    torch.export.save(_export_program(model), path, extra_files={_METADATA: text})


def _load_torch(path: Path) -> Exported:
    module = torch.export.load(path).module()
    return lambda images: to_arrays(module(images))


def _write_onnx(model: Model, path: Path) -> None:
    program: Any = torch.onnx.export(
        _export_program(model), dynamo=True, verbose=False, input_names=["images"]
    )
    for output, name in zip(program.model.graph.outputs, model.outputs, strict=True):
        output.name = name
    for key, value in metadata(model).items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    program.save(str(path), external_data=False)


def _load_onnx(path: Path) -> Exported:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Tensor) -> Arrays:
        values = session.run(None, {"images": np.ascontiguousarray(images.numpy())})
        return dict(zip(names, values, strict=True))

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' notes about parts of torch that a user cannot change."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _compare(
    model: Model, exported: Exported, photographs: Tensor | None, path: Path
) -> Iterator[Comparison]:
    """Yield the comparison on random input and on photographs.

    Raises:
        RuntimeError: a difference is above `TOLERANCE`; the file is removed.
    """
    height, width = model.facts.image_size or (0, 0)
    generator = torch.Generator().manual_seed(0)
    random = [torch.rand(size, 3, height, width, generator=generator) for size in _RANDOM_BATCHES]
    kinds = {f"{sum(_RANDOM_BATCHES)} random images": random}
    if photographs is not None:
        kinds[f"{len(photographs)} photographs"] = [photographs]
    for kind, batches in kinds.items():
        differences: dict[str, float] = {}
        for images in batches:
            for name, (difference, scale) in _differences(model, exported, images).items():
                differences[name] = max(differences.get(name, 0.0), difference)
                # Not with `>`: a comparison with NaN is false.
                if not difference <= TOLERANCE * max(scale, 1.0):
                    path.unlink()
                    raise RuntimeError(
                        f"{path.name}: the output {name} of the exported model differs by "
                        f"{difference:.3g} from the model's own on {kind}, more than "
                        f"{TOLERANCE * max(scale, 1.0):.3g}; the file was removed"
                    )
        yield Comparison(kind, differences)


def _differences(
    model: Model, exported: Exported, images: Tensor
) -> Mapping[str, tuple[float, float]]:
    """Return the largest difference and the largest value of each output."""
    found = exported(images)
    if isinstance(model, Detector):
        cells = images.shape[2] * images.shape[3]
        expected = _matched(found, to_arrays(model.answer(images, most=cells)))
    else:
        expected = to_arrays(model.answer(images))
    compared = {}
    for name, value in expected.items():
        difference = np.abs(found[name].astype(np.float64) - value).max(initial=0)
        compared[name] = float(difference), float(np.abs(value).max(initial=0))
    return compared


def _matched(found: Arrays, expected: Arrays) -> Arrays:
    """Return for each found detection the expected one that is most like it.

    Detections whose scores are equal but for rounding may come in another order, and either may be
    the hundredth.
    """
    matched: Arrays = {name: np.empty_like(value) for name, value in found.items()}
    for i in range(len(found["scores"])):
        distance = np.abs(found["boxes"][i][:, None] - expected["boxes"][i][None]).max(axis=2)
        distance += np.abs(found["scores"][i][:, None] - expected["scores"][i][None])
        distance[found["labels"][i][:, None] != expected["labels"][i][None]] = np.inf
        nearest = distance.argmin(axis=1)
        for name in matched:
            matched[name][i] = expected[name][i][nearest]
    return matched
