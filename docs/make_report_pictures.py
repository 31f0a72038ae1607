"""Makes the pictures of the data report in docs/images: ``python docs/make_report_pictures.py``.

Renders demo photographs, puts faults into them, processes them, and takes screenshots of the report
in headless Chromium. Needs the extras ``report`` and ``test``, and the programs ``chromium`` and
``chromedriver``.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from processing import DataProcessor
from processing.demo import render_demo
from processing.report.write import write_report

IMAGES = Path(__file__).parent / "images"
PHONE, DESKTOP = (360, 740), (1280, 1000)
THEMES = ("light", "dark")


def make_report_pictures(target: Path = IMAGES) -> list[Path]:
    """Writes report-light.png, and the same of the charts, a picture and a phone; each also dark.

    Args:
        target: the folder for them.

    Returns:
        Their paths.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        faulty_data(folder / "raw")
        DataProcessor(folder / "raw", folder / "preprocessed", progress=False).process_all(
            include_teacher=False
        )
        page = folder / "report.html"
        write_report(page, [folder / "preprocessed"], folder / "raw")
        return _screenshots(page, target)


def faulty_data(raw: Path, images: int = 160) -> None:
    """Renders demo photographs and makes some of them faulty.

    Args:
        raw: the new raw directory.
        images: number of photographs before copies are added.
    """
    render_demo(raw, images=images, seed=3)
    path = raw / "annotations" / "instances.json"
    coco = json.loads(path.read_text())
    _two_categories(coco)
    for number in range(0, 12):
        _add_copy(raw, coco, number, changed=number % 2 == 0)
    for number in range(20, 26):
        data = (raw / "images" / coco["images"][number]["file_name"]).read_bytes()
        shown = raw / "images" / coco["images"][number]["file_name"]
        shown.write_bytes(data[: len(data) // 2])  # truncated
    (raw / "images" / coco["images"][26]["file_name"]).unlink()
    for number, annotation in enumerate(coco["annotations"][100:340:6]):
        x, y, width, height = annotation["bbox"]
        faults = ([x, y, -width, height], [x + 2000, y, width, height], [x, y, 0.4, 0.5])
        if number % 4 < 3:
            annotation["bbox"] = faults[number % 4]
        else:
            annotation["iscrowd"] = 1
    path.write_text(json.dumps(coco))


def _two_categories(coco: dict[str, Any]) -> None:
    names = coco["categories"][0]["keypoints"]
    coco["categories"] = [
        {"id": 1, "name": "near face", "keypoints": names},
        {"id": 2, "name": "far face", "keypoints": names},
    ]
    for annotation in coco["annotations"]:
        annotation["category_id"] = 1 if annotation["bbox"][3] > 45 else 2


def _add_copy(raw: Path, coco: dict[str, Any], number: int, *, changed: bool) -> None:
    """Adds a copy of a photograph under another name, with its annotations."""
    image = coco["images"][number]
    name = f"copy_{number:03}.jpg"
    source = raw / "images" / image["file_name"]
    if changed:
        pixels = cv2.convertScaleAbs(cv2.imread(str(source)), alpha=1.08, beta=6)
        cv2.imwrite(str(raw / "images" / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])
    else:
        shutil.copy(source, raw / "images" / name)
    copy = {**image, "id": 10_000 + number, "file_name": name}
    coco["images"].append(copy)
    of_image = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
    for each in of_image:
        new = {**each, "id": len(coco["annotations"]) + 100_000, "image_id": copy["id"]}
        coco["annotations"].append(new)


def _screenshots(page: Path, target: Path) -> list[Path]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        return [path for theme in THEMES for path in _of_theme(driver, page, target, theme)]
    finally:
        driver.quit()


def _of_theme(driver: webdriver.Chrome, page: Path, target: Path, theme: str) -> list[Path]:
    _theme(driver, theme)
    _resize(driver, DESKTOP)
    driver.get(page.as_uri())
    saved = [_save(driver, target / f"report-{theme}.png")]
    driver.execute_script("document.getElementById('charts').scrollIntoView()")
    saved.append(_save(driver, target / f"report-charts-{theme}.png"))
    driver.execute_script("document.querySelector('#dropped .tile').click()")
    saved.append(_save(driver, target / f"report-picture-{theme}.png"))
    _resize(driver, PHONE)
    driver.get(page.as_uri())
    saved.append(_save(driver, target / f"report-phone-{theme}.png"))
    return saved


def _resize(driver: webdriver.Chrome, size: tuple[int, int]) -> None:
    shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


def _theme(driver: webdriver.Chrome, name: str) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": name},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def _save(driver: webdriver.Chrome, path: Path) -> Path:
    """Saves what the window shows, with few colours: the picture lies in the repository."""
    path.write_bytes(base64.b64decode(driver.get_screenshot_as_base64()))
    from PIL import Image

    with Image.open(path) as shown:
        small = shown.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    return path


if __name__ == "__main__":
    for made in make_report_pictures():
        sys.stdout.write(f"{made}\n")
