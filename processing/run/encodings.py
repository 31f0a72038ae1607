"""The encoding of stored images, as the user gives it."""

from __future__ import annotations

from collections.abc import Mapping

from processing.core.arguments import check_integer
from processing.core.coordinates import Size
from processing.imaging.encoding import MAX_JPEG_SIDE, RAW, STORES, SUBSAMPLINGS, Encoding

_BEST_QUALITY = 100


def checked_encoding(
    store: object, quality: object, subsampling: object, sizes: Mapping[str, Size]
) -> Encoding:
    """Checks the arguments ``store``, ``jpeg_quality`` and ``jpeg_subsampling``.

    Args:
        store: to be checked.
        quality: to be checked.
        subsampling: to be checked; a number if it was written without quotes in YAML.
        sizes: height, width of the stored images, by task.

    Raises:
        TypeError: `quality` is not an integer.
        ValueError: a value is out of range, or has no effect.
    """
    if not isinstance(store, str) or store not in STORES:
        raise ValueError(f"store must be one of {', '.join(STORES)}, got {store!r}")
    quality = check_integer("jpeg_quality", quality, least=1)
    if quality > _BEST_QUALITY:
        raise ValueError(f"jpeg_quality must be at most {_BEST_QUALITY}, got {quality}")
    if str(subsampling) not in SUBSAMPLINGS:
        allowed = ", ".join(SUBSAMPLINGS)
        raise ValueError(f"jpeg_subsampling must be one of {allowed}, got {subsampling!r}")
    encoding = Encoding(store, quality, str(subsampling))
    if encoding.is_raw and encoding != RAW:
        raise ValueError(
            f"jpeg_quality={quality} and jpeg_subsampling={subsampling} have no effect with "
            "store='raw': leave them out, or choose store='jpeg'"
        )
    for task, size in sizes.items():
        if not encoding.is_raw and max(size) > MAX_JPEG_SIDE:
            raise ValueError(
                f"image_size.{task} must be at most {MAX_JPEG_SIDE} for JPEG, got {size}: make it "
                "smaller, or choose store='raw'"
            )
    return encoding
