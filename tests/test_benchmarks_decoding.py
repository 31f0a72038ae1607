import cv2
import numpy as np
from PIL import Image

from benchmarks import decoding


def photographs(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        noise = rng.integers(0, 256, (60, 80), dtype=np.uint8)
        yield Image.fromarray(cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))


def test_it_tells_how_far_scaled_decoding_is_from_full(monkeypatch):
    monkeypatch.setattr(decoding, "SIZES", ((384, 512), (383, 511)))
    monkeypatch.setattr(decoding, "SUBSAMPLINGS", ("4:2:0",))
    monkeypatch.setattr(decoding, "SHRINKS", (2.0, 4.0))
    whole, odd = decoding.measure(list(photographs(3)))
    assert (whole.encoding, whole.shrink, whole.reductions) == ("512x384 4:2:0", 4.0, (4,))
    assert (odd.encoding, odd.shrink, odd.reductions) == ("511x383 4:2:0", 4.0, (2,))
    for agreement in (whole, odd):
        assert 40 < agreement.least <= agreement.mean < 70
        assert 0 <= agreement.share <= 1
    assert "| 511x383 4:2:0 | 4 | 1/2 | " in decoding.table([whole, odd])


def test_it_times_decoding_and_shrinking(monkeypatch):
    monkeypatch.setattr(decoding, "SIZES", ((768, 1024),))
    times = decoding.times(list(photographs(1)), passes=1)
    assert set(times) == {
        f"1024x768, reduction {reduction}: {step}"
        for reduction in (1, 2, 4, 8)
        for step in ("decode", "shrink")
    }
    assert all(milliseconds > 0 for milliseconds in times.values())
