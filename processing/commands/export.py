"""``npz-vision export FILE… --format coco|yolo -o OUT``: annotations for other programs."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from processing.commands.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    describe,
    print_error,
    print_result,
)
from processing.commands.outputs import OUTPUT, local_path
from processing.commands.places import add_cache_dir, location
from processing.core.error_notes import format_error, note_remedy
from processing.core.errors import ProcessingError

_FAILURES: Final = (ProcessingError, OSError, ValueError, MemoryError, ImportError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to a parser."""
    describe(
        parser,
        "Writes the annotations of NPZ files as COCO or YOLO, in pixels of the upright "
        "photographs: boxes, classes and points, also the photographs without any. COCO: a file "
        "for each split, instances_SPLIT.json, or keypoints_SPLIT.json of landmarkers. YOLO: "
        "data.yaml and labels/SPLIT/PATH.txt, as Ultralytics reads them. Things that the files do "
        "not store, such as dropped boxes, are counted in the output. Photographs are not copied.",
        [
            "data/preprocessed/*_detector.npz --format coco -o exported",
            "data/preprocessed/*_detector.npz --format yolo -o tree --raw-data-dir data/raw",
        ],
        f"Exit status: {EXIT_SUCCESS} all is written, {EXIT_FAILURE} failure: nothing is written, "
        f"{EXIT_USAGE} wrong usage, {EXIT_INTERRUPTED} interrupted.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        type=location,
        help="NPZ files of one task, each of another split; or NAME.json, the manifest of a set. "
        "May be URLs",
    )
    parser.add_argument(
        "--format", required=True, choices=("coco", "yolo"), help="the format to write"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        type=local_path(OUTPUT),
        help="a new or empty directory, which gets all files at the end, or none; missing folders "
        "are made, and nothing is ever replaced: delete an earlier export, or name another",
    )
    parser.add_argument(
        "--raw-data-dir",
        metavar="DIR",
        type=local_path("--raw-data-dir"),
        help="with yolo: link the photographs of this directory into images/SPLIT/PATH",
    )
    add_cache_dir(parser)


def run(options: argparse.Namespace) -> int:
    """Exports, and prints a line for each split, with everything that is not in the export.

    Returns:
        The exit status.
    """
    from processing.exporting.export import export
    from processing.npz.places import path_to_open

    raw: Path | None = options.raw_data_dir
    if raw is not None and options.format != "yolo":
        print_error("--raw-data-dir goes with --format yolo: COCO names photographs by path")
        return EXIT_USAGE
    if raw is not None and not raw.is_dir():
        print_error(f"--raw-data-dir {raw}: is not a directory")
        return EXIT_USAGE
    try:
        with note_remedy("then run again"), tempfile.TemporaryDirectory() as temporary:
            report = export(
                [path_to_open(file) for file in options.files],
                options.output,
                format=options.format,
                raw_data_dir=raw,
                cache_dir=options.cache_dir or temporary,
            )
    except _FAILURES as error:
        print_error(format_error(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print_error("interrupted: nothing was written")
        return EXIT_INTERRUPTED
    print_result(str(report))
    return EXIT_SUCCESS
