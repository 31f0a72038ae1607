"""Predicts on the user's own photographs: drawings, COCO results, and a list of bad files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from tqdm.auto import tqdm

from models.detector import LEAST_SCORE, Detector
from models.inputs import read_photograph
from models.results import DetectorResult, Result
from processing.core.error_notes import with_filename
from processing.core.errors import ImageError
from training.coco_results import ResultFiles, categories_of, writing
from training.drawn_results import draw_result

if TYPE_CHECKING:
    from models.inputs import ModelInput
    from models.model import Model
    from training.photographs import Photographs

_WRITTEN_AS_IT_IS = (".jpg", ".jpeg", ".png")


@dataclass
class Summary:
    """The numbers of a finished prediction.

    Args:
        total: photographs that were found.
        predicted: photographs with a result.
        drawn: boxes that were drawn.
        results: entries in ``predictions.json``.
        left_out: the photographs that could not be read, as (name, reason, message).
        interrupted: whether Ctrl-C ended the prediction early.
    """

    total: int
    predicted: int = 0
    drawn: int = 0
    results: int = 0
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    interrupted: bool = False


class Prediction:
    """One prediction on a set of photographs.

    Args:
        model: the model; its `threshold` decides which boxes are drawn, if it has one.
        photographs: the photographs.
        run_dir: the folder of the results; ``predictions/``, ``predictions.json``, ``images.json``
            and, if photographs are left out, ``predictions.rejected.jsonl``.
        info: facts about the run, saved in ``images.json``.
        batch_size: photographs that go through the model at once.
        progress: whether to show a progress bar, on a terminal only.
    """

    def __init__(
        self,
        model: Model,
        photographs: Photographs,
        run_dir: Path,
        info: dict[str, Any],
        *,
        batch_size: int = 16,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.photographs = photographs
        self.run_dir = run_dir
        self.info = info
        self.batch_size = batch_size
        self.progress = progress
        self.threshold = float(getattr(model, "threshold", 0.0))
        self.summary = Summary(len(photographs.files))

    def run(self) -> Summary:
        """Predict on all photographs, and write the results."""
        files = self.photographs.files
        bar = tqdm(
            total=len(files),
            unit="image",
            desc="predicting",
            disable=None if self.progress and sys.stderr is not None else True,
        )
        categories = self._categories()
        try:
            with bar, writing(self.run_dir, categories, self.info) as results:
                remaining = iter(files)
                while chunk := list(islice(remaining, self.batch_size)):
                    self._predict(chunk, results)
                    bar.update(len(chunk))
        except KeyboardInterrupt:
            self.summary.interrupted = True
        self._write_left_out()
        return self.summary

    def _categories(self) -> list[dict[str, Any]]:
        model = self.model
        count = int(model.hparams.get("num_classes") or model.facts.num_classes or 1)
        if model.task == "landmarker":
            # It does not tell categories apart.
            name = model.category_names[0] if len(model.category_names) == 1 else "object"
            points = int(model.hparams["num_keypoints"])
            return categories_of([name], model.facts.keypoint_labels(points))
        return categories_of([model.category_name(label) for label in range(count)], [])

    def _predict(self, files: list[Path], results: ResultFiles) -> None:
        prepared = list(self._prepared(files))
        with contextlib.ExitStack() as settings:
            if isinstance(self.model, Detector):  # a metric needs the uncertain boxes too
                settings.enter_context(self.model.at_threshold(LEAST_SCORE))
            found: list[Result] = self.model.predict_prepared(prepared, self.batch_size)
        for result in found:
            file = Path(result.image_path)
            try:
                self._draw(file, result)
            except ImageError as error:
                self._leave_out(file, error)
                continue
            results.add(self.photographs.name(file), result)
            self.summary.predicted += 1
            self.summary.results = results.results

    def _prepared(self, files: list[Path]) -> Iterator[ModelInput]:
        for file in files:
            try:
                yield self.model.prepare(file)
            except ImageError as error:
                self._leave_out(file, error)

    def _draw(self, file: Path, result: Result) -> None:
        picture = draw_result(read_photograph(str(file)), result, self.threshold)
        if isinstance(result, DetectorResult):
            self.summary.drawn += int((result.scores >= self.threshold).sum())
        target = self.run_dir / "predictions" / self.photographs.name(file)
        if target.suffix.lower() not in _WRITTEN_AS_IT_IS:
            target = target.with_name(f"{target.name}.jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Encoded first: `imwrite` would report a full disk and an odd name with False only.
        _, encoded = cv2.imencode(target.suffix, picture[..., ::-1])  # OpenCV writes BGR
        with with_filename(target):
            target.write_bytes(encoded.tobytes())

    def _leave_out(self, file: Path, error: ImageError) -> None:
        message = str(error).removeprefix(f"{file}: ")
        self.summary.left_out.append((self.photographs.name(file), error.reason, message))

    def _write_left_out(self) -> None:
        """Write the list of bad files, and remove that of an earlier run."""
        path = self.run_dir / "predictions.rejected.jsonl"
        if not self.summary.left_out:
            path.unlink(missing_ok=True)
            return
        lines = []
        for name, reason, message in self.summary.left_out:
            lines.append(json.dumps({"path": name, "reason": reason, "message": message}))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
