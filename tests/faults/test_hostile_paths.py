"""Hostile file systems: names, links, pipes, files that change; nothing outside is ever opened."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from tests.faults.image_files import PIXELS, encoded
from tests.faults.processed import Processed, equal_rows

PNG = encoded(PIXELS, "PNG")
LATIN = os.fsdecode(b"caf\xe9.png")


def write_coco(raw, names):
    """Lists these images, with one box each."""
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [4, 4, 9, 9]} for i in range(len(names))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (raw / "annotations.json").write_text(json.dumps(content))


@pytest.fixture
def raw(tmp_path):
    """A directory with a good image, beside a secret one."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(PNG)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "good.png").write_bytes(PNG)
    return raw


@pytest.fixture
def good_rows(tmp_path):
    """What the good image alone comes to."""
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "good.png").write_bytes(PNG)
    write_coco(alone, ["good.png"])
    return Processed(alone, tmp_path / "alone_out").rows("detector")["good.png"]


# --- names

NAMES = {
    "emoji": "\U0001f600.png",
    "Chinese": "图片/图.png",
    "Hebrew": "תמונה.png",
    "composed": "caf\u00e9.png",
    "decomposed": "cafe\u0301.png",
    "lower case": "name.png",
    "upper case": "NAME.PNG",
    "newline": "a\nb.png",
    "tab and quotes": "a\t\"b'.png",
    "spaces": " a b .png",
    "line separator": "a\u2028b\u0085c.png",
    "255 bytes": "n" * 251 + ".png",
    "percent and hash": "%20#?.png",
    "backslash": "a\\b.png",
    "a drive": "C:a.png",
    "dash": "--help.png",
    "dots": "...png.png",
}


def test_every_name_that_a_file_can_have_is_kept(raw, tmp_path, tally, good_rows):
    tally.points = len(NAMES)
    names = {kind: name if not name.startswith(".") else f"d{name}" for kind, name in NAMES.items()}
    for name in names.values():
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_bytes(PNG)
    write_coco(raw, ["good.png", *names.values()])
    processed = Processed(raw, tmp_path / "out")
    assert not processed.rejected
    rows = processed.rows("detector")
    assert len(rows) == len(names) + 1

    def check(kind):
        ((stored,), (good,)) = rows[names[kind]], good_rows
        assert stored["image_path"] == names[kind]
        assert (stored["image"] == good["image"]).all()
        return "unaffected"

    tally.each(names, check)


def test_a_name_that_is_not_unicode_is_listed(raw, tmp_path, good_rows):
    try:
        (raw / LATIN).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    write_coco(raw, ["good.png"])
    processed = Processed(raw, tmp_path / "out")
    ((_, reason, message),) = processed.rejected["caf\\xe9.png"]
    assert reason == "undecodable_name"
    assert "rename the file" in message
    assert equal_rows(processed.rows("detector")["good.png"], good_rows)


@pytest.mark.parametrize(
    ("there", "listed"),
    [
        ("photo.JPG", "photo.jpg"),
        ("photo.png", "PHOTO.PNG"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
    ],
)
def test_a_missing_image_s_message_names_the_file_of_nearly_its_name(raw, tmp_path, there, listed):
    (raw / there).write_bytes(PNG)
    write_coco(raw, ["good.png", listed])
    ((_, reason, message),) = Processed(raw, tmp_path / "out").rejected[listed]
    assert reason == "missing_image"
    assert ascii(there).strip("'") in message
    assert "rename one" in message


# --- what is no file


def make_loop(path, _):
    path.symlink_to(path.name)


def make_dangling(path, _):
    path.symlink_to("gone")


def make_folder(path, _):
    path.mkdir()


def make_pipe(path, _):
    os.mkfifo(path)


def make_socket(path, _):
    server = socket.socket(socket.AF_UNIX)
    # The path of a socket has 108 bytes, a test's folder may have more.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        server.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    finally:
        os.close(descriptor)
        server.close()


def make_link_out(path, outside):
    path.symlink_to(outside / "secret.png")


def make_relative_link_out(path, outside):
    path.symlink_to(os.path.relpath(outside / "secret.png", path.parent))


def make_link_to_device(path, _):
    path.symlink_to("/dev/zero")


def make_huge(path, _):
    with path.open("wb") as file:
        file.truncate(1 << 40)


NO_IMAGES = {
    make_huge: ("too_large", "1,099,511,627,776 bytes: expected at most"),
    make_loop: ("unreadable", "symbolic links"),
    make_dangling: ("missing_image", "a link to 'gone', where nothing is"),
    make_folder: ("not_a_file", "a folder: expected a file"),
    make_pipe: ("not_a_file", "pipe, socket or device"),
    make_socket: ("not_a_file", "pipe, socket or device"),
    make_link_out: ("outside_raw_dir", "secret.png"),
    make_relative_link_out: ("outside_raw_dir", "secret.png"),
    make_link_to_device: ("outside_raw_dir", "/dev/zero"),
}

OPENED = """
import os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
from processing.data_processor import DataProcessor
options = {"image_size": 24, "num_workers": 2, "follow_links": sys.argv[4] == "True"}
report = DataProcessor(sys.argv[1], sys.argv[2], **options).process_all(1.0)
paths = {os.path.realpath(os.fsdecode(p)) for p in opened if isinstance(p, (str, bytes))}
print(*sorted(p for p in paths if p.startswith(sys.argv[3]) or p in ("/dev/zero", "/etc/passwd")))
"""


def opened_outside(raw, out, outside, *, follow_links):
    """Which files of `outside`, and of the system, a process opens that processes `raw`."""
    line = [sys.executable, "-c", OPENED, str(raw), str(out), str(outside), str(follow_links)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("follow_links", [False, True])
def test_what_is_no_image_file_is_listed_and_never_opened(
    raw, tmp_path, tally, good_rows, follow_links
):
    makers = {make.__name__: verdict for make, verdict in NO_IMAGES.items()}
    if follow_links:
        del makers["make_link_out"], makers["make_relative_link_out"]
        makers["make_link_to_device"] = ("not_a_file", "pipe, socket or device")
    tally.points = len(makers)
    for make in NO_IMAGES:
        if make.__name__ in makers:
            make(raw / f"{make.__name__}.png", tmp_path / "outside")
    write_coco(raw, ["good.png", *(f"{name}.png" for name in makers)])
    processed = Processed(raw, tmp_path / "out", follow_links=follow_links)
    assert equal_rows(processed.rows("detector").pop("good.png"), good_rows)
    assert len(processed.rows("detector")) == 1

    def check(name):
        ((stage, reason, message),) = processed.rejected[f"{name}.png"]
        assert (stage, reason) == ("read", makers[name][0])
        assert makers[name][1] in message
        return "detected"

    tally.each(makers, check)
    outside = tmp_path / "outside"
    assert opened_outside(raw, tmp_path / "again", outside, follow_links=follow_links) == []


@pytest.mark.parametrize("make", [make_link_out, make_relative_link_out])
def test_a_link_to_a_photograph_anywhere_is_followed(raw, tmp_path, make, good_rows):
    (tmp_path / "outside" / "secret.png").write_bytes(PNG)
    make(raw / "link.png", tmp_path / "outside")
    write_coco(raw, ["good.png", "link.png"])
    (stored,) = Processed(raw, tmp_path / "out").rows("detector")["link.png"]
    assert (stored["image"] == good_rows[0]["image"]).all()


def test_a_link_to_nothing_says_how_to_fetch_its_content(raw, tmp_path):
    (raw / "photo.png").symlink_to(".git/annex/objects/x")
    (raw / "folder").symlink_to("/mnt/no such disk")
    write_coco(raw, ["good.png", "photo.png", "folder/a.png"])
    rejected = Processed(raw, tmp_path / "out").rejected
    ((_, reason, message),) = rejected["photo.png"]
    assert reason == "missing_image"
    assert "git annex get" in message
    assert "dvc pull" in message
    ((_, reason, message),) = rejected["folder/a.png"]
    assert reason == "missing_image"
    assert "'folder' is a link to '/mnt/no such disk', where nothing is" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files of any mode")
def test_an_image_that_may_not_be_read_is_listed(raw, tmp_path):
    (raw / "locked.png").write_bytes(PNG)
    (raw / "locked.png").chmod(0)
    write_coco(raw, ["good.png", "locked.png"])
    ((_, reason, message),) = Processed(raw, tmp_path / "out").rejected["locked.png"]
    assert (reason, message) == ("unreadable", "Permission denied")


# --- annotation files that are links or pipes

CSV = "filename,class,xmin,ymin,xmax,ymax\nsecret.png,x,1,1,9,9\n"
COCO = '{"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": []}'
ANNOTATIONS = {
    "b.json": COCO,
    "b.csv": CSV,
    "b.pts": "n_points: 1\n{\n1 1\n}\n",
    "b.xml": "<annotation/>",
    "data.yaml": "train: .\nnames: [x]\n",
    "wider_face_train_bbx_gt.txt": "good.png\n0\n",
}


def link_out(path, outside, content):
    (outside / path.name).write_text(content)
    path.symlink_to(outside / path.name)


def link_to_nothing(path, outside, content):
    path.symlink_to("gone")


def pipe(path, outside, content):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [link_out, link_to_nothing, pipe])
def test_annotation_files_that_are_links_or_pipes_are_listed_and_never_opened(
    raw, tmp_path, tally, good_rows, make
):
    tally.points = len(ANNOTATIONS)
    for name, content in ANNOTATIONS.items():
        make(raw / name, tmp_path / "outside", content)
    write_coco(raw, ["good.png"])
    # In a process of its own, which a pipe would hold for ever.
    outside = tmp_path / "outside"
    assert opened_outside(raw, tmp_path / "out", outside, follow_links=False) == []
    processed = Processed(raw, tmp_path / "out", follow_links=False)
    assert equal_rows(processed.rows("detector")["good.png"], good_rows)

    def check(name):
        ((_, reason, message),) = processed.rejected[name]
        assert reason == ("outside_raw_dir" if make is link_out else "not_a_file")
        assert "expected a file" in message or "copy the file here" in message
        return "detected"

    tally.each(ANNOTATIONS, check)


def test_an_image_whose_labels_lie_outside_is_not_taken_for_one_without_objects(raw, tmp_path):
    for name in ("good", "bad"):
        (raw / "images").mkdir(exist_ok=True)
        (raw / "images" / f"{name}.png").write_bytes(PNG)
    (raw / "labels").mkdir()
    (raw / "labels" / "good.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "outside" / "bad.txt").write_text("0 .5 .5 .5 .5\n")
    (raw / "labels" / "bad.txt").symlink_to(tmp_path / "outside" / "bad.txt")
    processed = Processed(raw, tmp_path / "out", follow_links=False)
    assert set(processed.rows("detector")) == {"images/good.png"}
    assert processed.rejected["labels/bad.txt"][0][1] == "outside_raw_dir"


def test_a_linked_folder_that_leads_out_gives_nothing(raw, tmp_path):
    (raw / "link").symlink_to(tmp_path / "outside")
    write_coco(raw, ["good.png", "link/secret.png", "link/../good.png"])
    processed = Processed(raw, tmp_path / "out", follow_links=False)
    assert set(processed.rows("detector")) == {"good.png"}
    assert processed.rejected["link/secret.png"][0][1] == "outside_raw_dir"
    outside = tmp_path / "outside"
    assert opened_outside(raw, tmp_path / "again", outside, follow_links=False) == []


def test_a_link_within_the_raw_directory_is_followed(raw, tmp_path):
    (raw / "link.png").symlink_to("good.png")
    write_coco(raw, ["good.png", "link.png"])
    assert set(Processed(raw, tmp_path / "out").rows("detector")) == {"good.png", "link.png"}


# --- files that change under way


@pytest.mark.parametrize("change", ["vanishes", "is cut short", "is replaced"])
def test_a_file_that_changes_while_it_is_read_is_set_right_by_the_next_run(
    raw, tmp_path, monkeypatch, change, good_rows
):
    victim = raw / "victim.png"
    victim.write_bytes(PNG)
    write_coco(raw, ["good.png", "victim.png"])
    stat = os.stat
    new = {"is cut short": PNG[:-40], "is replaced": encoded(PIXELS[::-1], "PNG")}

    def changing(path, **more):
        status = stat(path, **more)
        # Before the run reads an image, it asks for the sizes of all.
        is_reading = threading.current_thread() is not threading.main_thread()
        if is_reading and os.fspath(path) == os.fspath(victim) and victim.read_bytes() == PNG:
            victim.unlink() if change == "vanishes" else victim.write_bytes(new[change])
        return status

    monkeypatch.setattr(os, "stat", changing)
    processed = Processed(raw, tmp_path / "out")
    monkeypatch.undo()
    rows = processed.rows("detector")
    assert equal_rows(rows["good.png"], good_rows)
    if change == "is replaced":
        assert (rows["victim.png"][0]["image"] == PIXELS[::-1]).all()
    else:
        assert "victim.png" not in rows
        assert processed.rejected["victim.png"][0][1] in ("missing_image", "truncated", "corrupt")
    victim.write_bytes(PNG)
    mended = Processed(raw, tmp_path / "out")
    fresh = Processed(shutil.copytree(raw, tmp_path / "copy"), tmp_path / "fresh")
    assert not mended.rejected
    for task in ("detector", "teacher"):
        name = f"train_{task}.npz"
        made = [(run.output_dir / name).read_bytes() for run in (mended, fresh)]
        assert made[0] == made[1]


def test_pixels_are_compared_with_what_was_written(good_rows):
    assert (good_rows[0]["image"] == np.asarray(Image.fromarray(PIXELS))).all()
