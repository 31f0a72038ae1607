"""When some inputs changed, only their images are decoded; the bytes are those of a fresh run."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from processing.data_processor import DataProcessor
from processing.imaging import image_rows, renderings
from tests.conftest import write_coco

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
SIZES = ((120, 160), (161, 97), (512, 768))  # the last ones are decoded at a reduced scale
IMAGES = 18


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A raw directory and its files, which no test changes."""
    folder = tmp_path_factory.mktemp("before")
    write_coco(folder / "raw", images=IMAGES, sizes=SIZES)
    jpeg = folder / "raw" / "images" / "0008.jpg"
    Image.open(jpeg).save(jpeg, "PNG")  # no codec decodes it at a reduced scale
    processor(folder).process_all()
    return folder


@pytest.fixture
def folder(before, tmp_path):
    return shutil.copytree(before, tmp_path / "work")  # with the times of the files


def processor(folder, output="out", **options):
    settings = {"image_size": SMALL, "num_workers": 2, "batch_size": 4, **options}
    return DataProcessor(folder / "raw", folder / output, **settings)


def processed_again(folder, *, train_split=0.8, **options):
    """What a run over the earlier files reports, once its files equal those of a fresh run."""
    report = processor(folder, **options).process_all(train_split)
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    fresh = processor(folder, "fresh", **options).process_all(train_split)
    assert fresh.images_copied == 0
    # Files that are up to date are left out, and with them the images that only they need.
    assert report.images_decoded + report.images_copied <= fresh.images_decoded
    assert stored(folder / "out") == stored(folder / "fresh")
    assert [(f.repairs, f.rejected) for f in report.files] == [
        (f.repairs, f.rejected) for f in fresh.files
    ]
    return report


def stored(directory):
    outputs = [*directory.glob("*_*.npz"), *directory.glob("*.jsonl")]
    assert outputs
    return {path.name: path.read_bytes() for path in outputs}


def in_split_of(folder, image):
    """How many images are in the split of an image."""
    name = f"images/{image.name}"
    for split in ("train", "val"):
        paths = np.load(folder / "out" / f"{split}_detector.npz")["image_paths"].tolist()
        if name in paths:
            return len(paths)
    raise LookupError(name)


def edit_annotations(folder, change):
    path = folder / "raw" / "annotations" / "instances.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("index", [0, 2, 7])
def test_one_image_changed_is_one_image_decoded(folder, index):
    path = folder / "raw" / "images" / f"{index:04d}.jpg"
    pixels = np.asarray(Image.open(path))[::-1]
    Image.fromarray(pixels).save(path, quality=92)
    others = in_split_of(folder, path) - 1
    report = processed_again(folder)
    assert (report.images_decoded, report.images_copied) == (1, others)
    assert f"1 image and {others} unchanged ones" in str(report)


def test_a_moved_box_costs_one_decode_for_crops_and_none_for_the_whole_image(folder):
    detector = processor(folder, "detector")
    detector.process_detector()

    def move(content):
        content["annotations"][0]["bbox"][0] += 2

    edit_annotations(folder, move)
    assert processed_again(folder).images_decoded == 1
    report = detector.process_detector()
    others = in_split_of(folder, folder / "raw" / "images" / "0001.jpg")
    assert (report.images_decoded, report.images_copied) == (0, others)
    processor(folder, "detector_fresh").process_detector()
    assert stored(folder / "detector") == stored(folder / "detector_fresh")


def test_another_division_into_splits_decodes_nothing(folder):
    assert processed_again(folder, train_split=0.5).images_decoded == 0
    assert processed_again(folder, train_split=1.0, seed=3).images_decoded == 0


def test_images_that_come_and_go_leave_the_others_alone(folder):
    images = folder / "raw" / "images"
    shutil.copy(images / "0003.jpg", images / "0003 copy.jpg")
    (images / "0005.jpg").unlink()

    def add(content):
        entry = next(e for e in content["images"] if e["file_name"] == "0003.jpg")
        content["images"].append({**entry, "id": 99, "file_name": "0003 copy.jpg"})
        content["images"] = [e for e in content["images"] if e["file_name"] != "0005.jpg"]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 6]

    edit_annotations(folder, add)
    report = processed_again(folder)
    assert (report.images_decoded, report.images_copied) == (1, IMAGES - 1)


def test_an_image_that_goes_bad_is_left_out_and_one_mended_comes_back(folder):
    path = folder / "raw" / "images" / "0004.jpg"
    good = path.read_bytes()
    others = in_split_of(folder, path) - 1
    path.write_bytes(good[: len(good) // 2])
    report = processed_again(folder)
    assert (report.images_decoded, report.images_copied) == (1, others)
    path.write_bytes(good)
    report = processed_again(folder)
    assert (report.images_decoded, report.images_copied) == (1, others)


@pytest.mark.parametrize(
    "option",
    [{"crop_margin": 0.5}, {"image_size": {**SMALL, "detector": 96}}],
    ids=["crop_margin", "image_size"],
)
def test_an_option_that_changes_what_is_shown_decodes_what_it_shows(folder, option):
    report = processed_again(folder, **option)
    without_crops = len(range(0, IMAGES, 5))
    assert report.images_copied == (0 if "image_size" in option else without_crops)


def test_an_option_that_shows_the_same_decodes_nothing(folder):
    report = processed_again(folder, keep_flagged=True)
    assert not report.up_to_date
    assert (report.images_decoded, report.images_copied) == (0, IMAGES)


def test_a_new_way_of_making_pixels_decodes_everything(folder, monkeypatch):
    monkeypatch.setattr(renderings, "PIXELS_VERSION", 10_000)
    assert processor(folder).process_all(0.5).images_copied == 0


def test_rows_that_other_tasks_made_finer_are_not_copied(folder):
    """A crop needs a photograph decoded in full, where the whole image alone needs less."""
    processor(folder).process_detector(0.5)
    processor(folder, "fresh").process_detector(0.5)
    for name, content in stored(folder / "fresh").items():
        assert (folder / "out" / name).read_bytes() == content


def test_a_damaged_row_is_decoded_again(folder, caplog):
    npz = folder / "out" / "train_detector.npz"
    content = bytearray(npz.read_bytes())
    content[6000] ^= 1  # in the first image: arrays begin at multiples of 4096
    npz.write_bytes(content)
    report = processed_again(folder, train_split=0.9)
    assert (report.images_decoded, report.images_copied) == (1, IMAGES - 1)
    assert "train_detector.npz: rows 0 to 1 differ from their checksums" in caplog.text


@pytest.mark.parametrize("damage", ["removed", "cut", "not an archive", "empty"])
def test_without_the_cache_of_keys_everything_is_decoded(folder, damage):
    cache = folder / "out" / "processing.rows.cache"
    if damage == "removed":
        cache.unlink()
    else:
        sound = cache.read_bytes()
        damaged = {"cut": sound[:100], "not an archive": sound[:60] + b"none", "empty": b""}
        cache.write_bytes(damaged[damage])
    assert processed_again(folder, train_split=0.6).images_copied == 0
    assert processed_again(folder, train_split=0.7).images_decoded == 0


def test_rows_of_a_file_that_was_replaced_are_not_taken_for_those_noted(folder):
    other = folder / "other"
    write_coco(other / "raw", images=IMAGES, sizes=SIZES, seed=5)
    processor(other).process_all()
    for npz in (other / "out").glob("*_*.npz"):
        shutil.copy(npz, folder / "out" / npz.name)
    assert processed_again(folder).images_copied == 0


def test_a_run_over_earlier_files_that_is_stopped_continues_with_equal_bytes(folder, monkeypatch):
    original = image_rows._rows

    def failing(path, *arguments):
        if path == f"images/{IMAGES - 1:04d}.jpg":
            raise RuntimeError("stopped")
        return original(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(image_rows, "_rows", failing)
        with pytest.raises(RuntimeError, match="stopped"):
            processor(folder, flush_every=1).process_all(0.5)
    report = processor(folder, flush_every=1).process_all(0.5)
    assert report.images_resumed > 0
    assert report.images_decoded == 0
    processor(folder, "fresh").process_all(0.5)
    assert stored(folder / "out") == stored(folder / "fresh")
