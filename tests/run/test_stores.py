"""What a run stores with each `store`: equal bytes, copies, and photographs as they are."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules import LazyNPZDataModule
from processing.data_processor import DataProcessor
from processing.imaging import image_rows
from processing.lazy_dataset import LazyNPZDataset
from processing.npz.mapped import MappedNPZ
from tests.conftest import write_coco
from tests.faults.image_files import hostile_images, jpeg
from tests.faults.test_hostile_images import write_data_set

SMALL = {"detector": 64, "landmarker": 48, "teacher": 32}
ENCODED = ("jpeg", "original")


def run(raw, output, **options):
    settings = {"image_size": SMALL, "num_workers": 2, "batch_size": 4, "progress": False}
    return DataProcessor(raw, output, **(settings | options)).process_all()


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.npz"))}


def images(path):
    with LazyNPZDataset(path, verify=True) as dataset:
        dataset.verify()
        return dataset.get_batch(range(len(dataset)))["images"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A raw directory, and the files of each store."""
    folder = tmp_path_factory.mktemp("stores")
    write_coco(folder / "raw", images=12)
    for store in ("raw", *ENCODED):
        run(folder / "raw", folder / store / "out", store=store)
    return folder


@pytest.fixture
def raw(made, tmp_path):
    """A copy of the raw directory that the test may change."""
    return shutil.copytree(made / "raw", tmp_path / "raw")


@pytest.mark.parametrize("task", SMALL)
def test_a_jpeg_row_is_the_raw_row_encoded_and_all_else_is_equal(made, task):
    name = f"train_{task}.npz"
    raw, encoded = MappedNPZ(made / "raw/out" / name), MappedNPZ(made / "jpeg/out" / name)
    others = [n for n in raw if n not in ("images", "image_crc32", "metadata")]
    assert list(encoded)[:2] == ["images_jpeg", "images_offsets"]
    assert [n for n in encoded if n in others] == others
    assert all(np.array_equal(raw[n], encoded[n]) for n in others)
    offsets = encoded["images_offsets"]
    tables = Image.open(io.BytesIO(jpeg(np.zeros((8, 8, 3), np.uint8)))).quantization
    for i, image in enumerate(raw["images"]):
        row = Image.open(io.BytesIO(encoded["images_jpeg"][offsets[i] : offsets[i + 1]]))
        assert set(row.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
        assert row.quantization == tables
        assert [sampling for _, *sampling, _ in row.layer] == [[1, 1]] * 3
        assert cv2.PSNR(image, np.asarray(row)) > 35
    metadata = json.loads(encoded["metadata"].item())
    assert metadata["encoding"] == {"codec": "jpeg", "quality": 95, "subsampling": "444"}
    assert metadata["options"]["store"] == "jpeg"
    assert (metadata["format_version"], metadata["image_size"]) == (2, [SMALL[task]] * 2)


@pytest.mark.parametrize("store", ENCODED)
def test_the_bytes_do_not_depend_on_workers_batches_or_a_second_run(made, tmp_path, store):
    run(made / "raw", tmp_path, store=store, num_workers=1, batch_size=3)
    assert files(tmp_path) == files(made / store / "out")
    assert run(made / "raw", tmp_path, store=store, num_workers=3).up_to_date


@pytest.mark.parametrize("store", ENCODED)
def test_rows_of_unchanged_photographs_are_copied(made, raw, tmp_path, store):
    output = shutil.copytree(made / store / "out", tmp_path / "out")
    path = raw / "images" / "0004.jpg"
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1].copy()).save(path)
    report = run(raw, output, store=store)
    assert report.images_decoded == 1
    assert report.images_copied
    run(raw, tmp_path / "fresh", store=store)
    assert files(output) == files(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("before", "options"),
    [
        ("raw", {"store": "jpeg"}),
        ("jpeg", {"store": "raw"}),
        ("jpeg", {"store": "original"}),
        ("original", {"store": "jpeg"}),
        ("jpeg", {"store": "jpeg", "jpeg_quality": 90}),
        ("jpeg", {"store": "jpeg", "jpeg_subsampling": 420}),
    ],
    ids=str,
)
def test_rows_that_are_stored_otherwise_are_not_copied(made, tmp_path, before, options):
    output = shutil.copytree(made / before / "out", tmp_path / "out")
    report = run(made / "raw", output, **options)
    assert (report.images_decoded, report.images_copied) == (12, 0)
    run(made / "raw", tmp_path / "fresh", **options)
    assert files(output) == files(tmp_path / "fresh")


@pytest.mark.parametrize("store", ENCODED)
def test_rows_of_an_abandoned_run_are_kept(made, raw, tmp_path, monkeypatch, store):
    """The run is stopped, one photograph changes, and the next run begins again."""
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        original = image_rows.repair

        def stopped(*arguments, **options):
            if len(list(output.glob("*.partial"))) and calls.append(1) is None and len(calls) > 10:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        calls = []
        patch.setattr(image_rows, "repair", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(raw, output, store=store, num_workers=1, flush_every=1)
    path = raw / "images" / "0001.jpg"
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1].copy()).save(path)
    report = run(raw, output, store=store)
    assert report.images_copied >= 4
    run(raw, tmp_path / "fresh", store=store)
    assert files(output) == files(tmp_path / "fresh")


@pytest.mark.parametrize("store", ENCODED)
def test_a_datamodule_reads_encoded_images(made, store):
    directory = made / store / "out"
    module = LazyNPZDataModule(task="detector", data_dir=directory, batch_size=4, num_workers=1)
    module.setup("fit")
    expected = images(directory / "val_detector.npz")
    found = [batch["image"].numpy() for batch in module.val_dataloader()]
    assert np.array_equal(np.concatenate(found), expected)


def test_an_original_row_is_the_photographs_file_and_is_read_as_raw_rows_are(made):
    for task in SMALL:
        raw, original = (made / s / "out" / f"train_{task}.npz" for s in ("raw", "original"))
        same = np.array_equal(images(raw), images(original))
        assert same == (task == "detector")
    npz = MappedNPZ(made / "original/out/train_detector.npz")
    for i, path in enumerate(npz["image_paths"].tolist()):
        start, end = npz["images_offsets"][i : i + 2]
        assert npz["images_jpeg"][start:end].tobytes() == (made / "raw" / path).read_bytes()


def test_crops_and_other_formats_are_encoded_and_the_report_counts_them(raw, tmp_path):
    path = raw / "images" / "0003.jpg"  # a PNG by content
    stream = io.BytesIO()
    Image.open(path).save(stream, "PNG")
    path.write_bytes(stream.getvalue())
    report = run(raw, tmp_path / "out", store="original", jpeg_quality=90)
    counted = {file.path.stem: file.encoded for file in report.files}
    detector, teacher = (
        {
            key: counted[f"train_{task}"].get(key, 0) + counted[f"val_{task}"].get(key, 0)
            for key in ENCODED
        }
        for task in ("detector", "teacher")
    )
    assert detector == {"original": 11, "jpeg": 1}
    assert teacher["original"] == 0 < teacher["jpeg"]
    assert "1 stored images encoded as JPEG" in str(report)
    assert "photographs' own files" in str(report)
    renderings = []
    for file in (tmp_path / "out").glob("*_detector.npz"):
        npz = MappedNPZ(file)
        renderings += npz["image_paths"][npz["image_reductions"] == 0].tolist()
    assert renderings == ["images/0003.jpg"]


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated File|Tag data larger|Image size)")
def test_odd_photographs_are_shown_as_with_raw_rows(tmp_path):
    """Turned, CMYK, progressive, padded: whatever processing keeps, reading shows alike."""
    cases = {f"{i:03d}.jpg": case.data for i, case in enumerate(hostile_images())}
    write_data_set(tmp_path / "photographs", cases)
    for store in ("raw", "original"):
        run(tmp_path / "photographs", tmp_path / store, image_size=24, store=store)
    raw, original = (tmp_path / s / "train_detector.npz" for s in ("raw", "original"))
    kept = MappedNPZ(original)["image_reductions"] > 0
    assert kept.sum() > 20
    same = (images(raw) == images(original)).all(axis=(1, 2, 3))
    assert same[kept].all()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_photograph_is_decoded_at_the_scale_of_raw_rows(tmp_path, orientation):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8)).resize((1001, 803))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = {}
    for subsampling in (0, 1, 2):
        stream = io.BytesIO()
        photo.save(stream, "JPEG", subsampling=subsampling, exif=exif)
        found[f"{subsampling}.jpg"] = stream.getvalue()
    write_data_set(tmp_path / "photographs", found)
    for store in ("raw", "original"):
        DataProcessor(
            *(tmp_path / "photographs", tmp_path / store),
            image_size=(96, 64),
            progress=False,
            store=store,
        ).process_detector(1.0)
    raw, original = (tmp_path / s / "train_detector.npz" for s in ("raw", "original"))
    assert (MappedNPZ(original)["image_reductions"] > 1).all()
    assert np.array_equal(images(raw), images(original))
