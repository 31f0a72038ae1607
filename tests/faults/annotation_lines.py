"""Hostile annotations of the formats that are lines of text, and of Pascal VOC.

The rows of the table are those of `annotation_files`.
"""

from tests.faults.annotation_files import (
    GOOD_POINTS,
    TEN,
    WHOLE,
    Case,
    alone,
    clipped,
    dropped,
    kept,
    lost,
)

# --- YOLO: fractions, centre and size. The files lie in two folders.

HALF = [6, 6, 18, 18]
CENTRE = "0 0.5 0.5 0.5 0.5"


def in_labels(reason, says):
    return lost("labels/bad.txt", reason, says, image="images/bad.png")


ROWS = {
    "sound": (CENTRE, kept(HALF)),
    "empty": ("", kept()),
    "NaN": ("0 nan 0.5 0.5 0.5", in_labels("malformed", "line 1: expected finite")),
    "infinite": ("0 inf 0.5 0.5 0.5", in_labels("malformed", "line 1: expected finite")),
    "1e308": ("0 1e308 0.5 1e308 0.5", in_labels("not_fractions", "line 1: .* not fractions")),
    "pixels for fractions": (
        "0 12 12 12 12",
        in_labels("not_fractions", "line 1: .* not fractions"),
    ),
    "negative size": (
        "0 0.5 0.5 -0.5 0.5",
        in_labels("malformed", "line 1: width -0.5 and height 0.5"),
    ),
    "zero size": ("0 0.5 0.5 0 0.5", dropped("zero_size", "images/bad.png")),
    "beyond the image": ("0 0.25 0.25 1 1", clipped([0, 0, 18, 18])),
    "too large": ("0 0.5 0.5 1.5 1.5", in_labels("not_fractions", "line 1: .* not fractions")),
    "polygon with NaN inside": (
        "0 0.1 0.1 0.3 nan 0.5 0.5",
        in_labels("malformed", "line 1: expected finite"),
    ),
    "polygon of a point": ("0 0.5 0.5 0.5 0.5 0.5 0.5", dropped("zero_size", "images/bad.png")),
    "box twice": (f"{CENTRE}\n{CENTRE}\n", kept(HALF) | {"notes": {"duplicate_box": 1}}),
    "a confidence": (f"{CENTRE} 0.9", in_labels("malformed", "line 1: .*confidence")),
    "decimal comma": ("0 0,5 0,5 0,5 0,5", in_labels("malformed", "line 1: expected a class")),
    "class missing": ("0.5 0.5 0.5 0.5", in_labels("malformed", "line 1: expected a class")),
    "negative class": (CENTRE.replace("0", "-1", 1), in_labels("malformed", "class id -1")),
    "class and a half": (CENTRE.replace("0", "1.5", 1), in_labels("malformed", "class id 1.5")),
    "class of NaN": (CENTRE.replace("0", "nan", 1), in_labels("malformed", "class id nan")),
    "class 1e400": (CENTRE.replace("0", "1e400", 1), in_labels("malformed", "class id 1e400")),
    "class without a name": (
        CENTRE.replace("0", "7", 1),
        in_labels("unknown_category", "line 1: class id 7, expected one of the 1"),
    ),
    "a bad row beside a good one": (
        f"x\n{CENTRE}",
        alone("labels/bad.txt", "malformed", "line 1", boxes=[HALF]),
    ),
    "DOS line ends": (f"{CENTRE}\r\n", kept(HALF)),
    "UTF-8 mark": (f"\ufeff{CENTRE}", kept(HALF)),
    "UTF-16": (CENTRE.encode("utf-16"), kept(HALF)),
    "Latin-1": (b"\xe9 0.5 0.5 0.5 0.5", in_labels("malformed", "line 1: .* not UTF-8")),
}
YAML = "train: images\nnames: [face]\n"
LAUGHS = "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 30))
LINES = {
    "absolute": "/etc/passwd",
    "..": "../../bad.png",
    "a zero byte": "bad.png\0",
    "a drive": "C:/bad.png",
}


def yolo_cases():
    sound = {"labels/good.txt": CENTRE, "data.yaml": YAML}
    cases = [
        Case("yolo", name, sound | {"labels/bad.txt": row}, good=(HALF,), **verdict)
        for name, (row, verdict) in ROWS.items()
    ]
    bad_yamls = {
        "nc infinite": ("train: images\nnc: .inf\n", "names or nc"),
        "a name of infinity": ("train: images\nnames: {.inf: face}\n", "names or nc"),
        "merges without end": (f"{YAML}a0: &a0 {{k: v}}\n{LAUGHS}", "aliases"),
        "a Python object": (f"{YAML}x: !!python/object/apply:os.abort []", "constructor"),
        "a number that is none": (f'{YAML}x: !!int ""', "not a readable YAML"),
        "a truth that is none": (f'{YAML}x: !!bool "x"', "not a readable YAML"),
        "a time that is none": (f'{YAML}x: !!timestamp "x"', "not a readable YAML"),
        "a name of half a character": (
            f"{YAML.replace('face', chr(34) + chr(92) + 'ud800' + chr(34))}",
            "half a character|invalid Unicode",
        ),
        "brackets": (f"{YAML}x: {'[' * 1000}", "not a readable YAML"),
        "a tab": ("train: images\nnames:\n\t- face\n", "not a readable YAML: .*line 3, column 1"),
        "Latin-1": (YAML.encode() + b"# \xe9\n", "byte .* of x/data.yaml is not UTF-8"),
        "train ..": ("train: ../../other\nnames: [face]\n", "neither a folder|leaves"),
        "train absolute": ("train: /etc\nnames: [face]\n", "leaves the raw directory"),
    }
    for name, (text, says) in bad_yamls.items():
        files = {"labels/good.txt": CENTRE, "labels/bad.txt": CENTRE, "data.yaml": YAML}
        files |= {"x/data.yaml": text}
        reasons = {"train ..": "missing_folder", "train absolute": "outside_raw_dir"}
        verdict = alone("x/data.yaml", reasons.get(name, "malformed"), says, boxes=[HALF])
        cases.append(Case("yolo", f"a second yaml: {name}", files, good=(HALF,), **verdict))
    lost_labels = {f"labels/{name}.txt": CENTRE for name in ("bad", "lost")}
    says = r"expected an image at images/lost\.\*"
    verdict = alone("labels/lost.txt", "missing_image", says, boxes=[HALF])
    files = sound | lost_labels | {"labels/notes.txt": "x"}
    cases.append(Case("yolo", "labels of no image", files, good=(HALF,), **verdict))
    for name, line in LINES.items():
        files = {
            "labels/good.txt": CENTRE,
            "labels/bad.txt": CENTRE,
            "list.txt": f"{line}\nimages/good.png\n",
        }
        files["data.yaml"] = "train: list.txt\nnames: [face]\n"
        reason = "malformed" if "\0" in line else "outside_raw_dir"
        verdict = alone("list.txt", reason, "line 1", notes={"unlisted_images": 1})
        if line.endswith("bad.png"):
            # A path of another machine; only one image ends like it.
            verdict = kept(HALF)
        cases.append(Case("yolo", f"a list with {name}", files, good=(HALF,), **verdict))
    return cases


# --- WIDER FACE: x y w h and attributes.

WIDER = "wider_face_train_bbx_gt.txt"
FACES = {
    "sound": ("bad.png\n1\n4 4 10 10 0 0 0 0 0 0\n", kept(TEN)),
    "no faces": ("bad.png\n0\n0 0 0 0 0 0 0 0 0 0\n", kept()),
    "NaN": ("bad.png\n1\n4 nan 10 10 0 0 0 0 0 0\n", dropped("not_finite")),
    "invalid": ("bad.png\n1\n4 4 10 10 0 0 0 1 0 0\n", dropped("invalid")),
    "zero size": ("bad.png\n1\n4 4 0 0 0 0 0 0 0 0\n", dropped("zero_size")),
    "only a box": ("bad.png\n1\n4 4 10 10\n", lost(WIDER, "malformed", "expected 10 numbers")),
    "DOS line ends": ("bad.png\r\n1\r\n4 4 10 10 0 0 0 0 0 0\r\n", kept(TEN)),
    "a program's number": ("bad.png\n1\n4 4 1_0 10 0 0 0 0 0 0\n", lost(WIDER, "malformed", "1_0")),
    "other digits": (
        "bad.png\n1\n4 4 \u0661\u0660 10 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "x y w h"),
    ),
    "count of NaN": (
        "bad.png\nnan\n4 4 10 10 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "count of nan"),
    ),
    "count infinite": (
        "bad.png\ninf\n4 4 10 10 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "count of inf"),
    ),
    "count negative": (
        "bad.png\n-1\n4 4 10 10 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "count of -1"),
    ),
    "count too large": (
        "bad.png\n9\n4 4 10 10 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "count of 9, but 1"),
    ),
    "count too small": (
        "bad.png\n1\n4 4 9 9 0 0 0 0 0 0\n5 5 9 9 0 0 0 0 0 0\n",
        lost(WIDER, "malformed", "but 2 rows"),
    ),
    "no count": ("bad.png\n4 4 10 10 0 0 0 0 0 0\n", lost(WIDER, "malformed", "no count")),
    "a row of words": (
        "bad.png\n1\na b c d\n",
        lost(WIDER, "malformed", "line 6: expected 10 numbers"),
    ),
    "a damaged name": (
        "bad.pn\n1\n4 4 10 10 0 0 0 0 0 0\n",
        alone(WIDER, "malformed", "line 4: expected the name", notes={"unlisted_images": 1}),
    ),
    "..": (
        "../gone.png\n1\n4 4 10 10 0 0 0 0 0 0\n",
        alone(WIDER, "outside_raw_dir", "line 4", notes={"unlisted_images": 1}),
    ),
    "absolute": (
        "/etc/gone.png\n1\n4 4 10 10 0 0 0 0 0 0\n",
        alone(WIDER, "outside_raw_dir", "line 4", notes={"unlisted_images": 1}),
    ),
}


def wider_cases():
    sound = "good.png\n1\n4 4 16 16 0 0 0 0 0 0\n"
    return [
        Case("wider", name, {WIDER: sound + text}, **verdict)
        for name, (text, verdict) in FACES.items()
    ]


# --- CSV.

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
UNLISTED = {"notes": {"unlisted_images": 1}}
CELLS = {
    "sound": ("bad.png,24,24,face,4,4,14,14\n", kept(TEN)),
    "nothing": ("bad.png,24,24,,,,,\n", kept()),
    "NaN": ("bad.png,24,24,face,nan,4,14,14\n", dropped("not_finite")),
    "a program's number": (
        "bad.png,24,24,face,1_0,4,14,14\n", lost("a.csv", "malformed", "1_0")),
    "other digits": (
        "bad.png,24,24,face,\u0664,4,14,14\n", lost("a.csv", "malformed", "four numbers")),
    "x2 < x1": ("bad.png,24,24,face,14,4,4,14\n", dropped("inverted")),
    "bare decimal comma": (
        "bad.png,24,24,face,4,5,4,14,14\n", lost("a.csv", "malformed", "8 cells, found 9")),
    "a cell of nothing": ("bad.png,24,24,face,4,4,14,14,\n", kept(TEN)),
    "edge at the width": ("bad.png,24,24,face,4,4,24,24\n", kept([4, 4, 24, 24])),
    "1-based edge": ("bad.png,24,24,face,4,4,25,25\n", clipped([4, 4, 24, 24])),
    "sizes for corners": ("bad.png,24,24,face,14,14,10,10\n", dropped("inverted")),
    "size transposed": (
        "bad.png,24,48,face,4,4,14,14\n",
        {"rejected": (("bad.png", "size_mismatch"),), "says": r"\(48, 24\)"},
    ),
    "two sizes": (
        "bad.png,24,24,face,4,4,14,14\nbad.png,48,48,face,4,4,14,14\n",
        {"rejected": (("bad.png", "conflicting_sizes"),)},
    ),
    "decimal comma": (
        'bad.png,24,24,face,"4,5",4,14,14\n',
        lost("a.csv", "malformed", "line 3: .*four numbers"),
    ),
    "a cell missing": (
        "bad.png,24,24,face,4,4,14\n",
        lost("a.csv", "malformed", "expected 8 cells, found 7"),
    ),
    "class missing": ("bad.png,24,24,,4,4,14,14\n", lost("a.csv", "malformed", "a class and four")),
    "a quote without end": ('"bad.png,24,24,face,4,4,14,14\n', alone(
        "a.csv", "malformed", "line 3", **UNLISTED)),
    "a cell of 200,000 letters": (f'bad.png,24,24,"{"x" * 200_000}",4,4,14,14\n', alone(
        "a.csv", "malformed", "line 3: .*field larger", **UNLISTED)),
    "..": ("../bad.png,24,24,face,4,4,14,14\n", kept(TEN)),
    "absolute": ("/etc/bad.png,24,24,face,4,4,14,14\n", kept(TEN)),
    "a drive": ("D:\\bad.png,24,24,face,4,4,14,14\n", kept(TEN)),
}  # fmt: skip


def csv_cases():
    # The bad line stands between good ones, so that what it swallows is seen.
    good = "good.png,24,24,face,{},{},{},{}\n"
    first, last = good.format(4, 4, 20, 20), good.format(1, 1, 9, 9)
    cases = [
        Case(
            "csv",
            name,
            {"a.csv": HEADER + first + line + last},
            **verdict,
            good=([4, 4, 20, 20], [1, 1, 9, 9]),
        )
        for name, (line, verdict) in CELLS.items()
    ]
    sound = HEADER + first + CELLS["sound"][0]
    odd = sound.encode("utf-16") + b"x"
    lost = alone("a.csv", "malformed", "line 4: .*is not UTF-8", boxes=[TEN])
    cases.append(Case("csv", "UTF-16 and a byte", {"a.csv": odd}, **lost))
    joined = f"{sound}\ufeff{HEADER}"
    cases.append(Case("csv", "put together of two", {"a.csv": joined}, **kept(TEN)))
    for name, text in {
        "UTF-16": sound.encode("utf-16"),
        "DOS": sound.replace("\n", "\r\n"),
    }.items():
        cases.append(Case("csv", name, {"a.csv": text}, **kept(TEN)))
    return cases + csv_first_line_cases()


def csv_first_line_cases():
    """What stands where the dialect is looked for."""
    rows = "good.png,4,4,20,20,face\nbad.png,4,4,14,14,face\n"
    first = {
        "a comment": (
            "# exported\n",
            {"rejected": (("a.csv", "malformed"),), "says": "line 1: expected 6"},
        ),
        "a header": ("path,x1,y1,x2,y2,class\n", {}),
        "no corners": (
            "bad.png,x,y,z,w,face\n",
            {"rejected": (("a.csv", "malformed"),), "says": "line 1: .*four"},
        ),
    }
    cases = []
    for name, (line, verdict) in first.items():
        cases.append(Case("csv", f"first {name}", {"a.csv": line + rows}, **kept(TEN) | verdict))
    text = "# exported\n" + HEADER + "good.png,24,24,face,4,4,20,20\nbad.png,24,24,face,4,4,14,14\n"
    verdict = alone("a.csv", "malformed", "line 1", boxes=[TEN])
    cases.append(Case("csv", "a comment before the header", {"a.csv": text}, **verdict))
    files = {"a.csv": HEADER + "good.png,24,24,face,4,4,20,20\nbad.png,24,24,face,4,4,14,14\n"}
    files["b.csv"] = "filename,class,xmin,xmin,ymin,xmax,ymax\nbad.png,face,4,5,4,14,14\n"
    says = "line 1: two columns are called xmin"
    verdict = alone("b.csv", "malformed", says, boxes=[TEN])
    cases.append(Case("csv", "a second file with a column twice", files, **verdict))
    return cases


# --- 300-W: landmarks alone, counted from 1.

PTS = "version: 1\nn_points: 2\n{\n6 6\n16 16\n}\n"
NOT_ALL = "version: 1\nn_points: 3\n{{\n6 6\n{}\n16 16\n}}\n"
CUT = lost("bad.pts", "malformed", "bad.pts: expected")
FACE_POINTS = {
    "sound": (PTS, {"points": GOOD_POINTS}),
    "edge at the width": (PTS.replace("16 16", "25 25"), {"points": [[5, 5, 2], [24, 24, 2]]}),
    "not labelled": (NOT_ALL.format("-1 -1"), {"points": [[5, 5, 2], [0, 0, 0], [15, 15, 2]]}),
    "outside": (PTS.replace("16 16", "60 16"), {"points": [[5, 5, 2], [59, 15, 2]]}),
    "NaN": (PTS.replace("16 16", "nan 16"), dropped("no_extent")),
    "one of three NaN": (
        NOT_ALL.format("nan 16"),
        {
            "points": [[5, 5, 2], [0, 0, 0], [15, 15, 2]],
            "repairs": {"unlabelled_points": 1},
        },
    ),
    "none labelled": (
        PTS.replace("6 6\n16 16", "-1 -1\n0 0"),
        lost("bad.pts", "no_points", "none of its 2"),
    ),
    "1e308": (PTS.replace("16 16", "1e308 16"), dropped("no_extent")),
    "3e38": (PTS.replace("16 16", "3e38 16"), dropped("no_extent")),
    "no extent": (PTS.replace("16 16", "6 6"), dropped("no_extent")),
    "one too few": (PTS.replace("16 16\n", ""), CUT),
    "one too many": (PTS.replace("16 16", "16 16\n17 17"), CUT),
    "a word": (PTS.replace("16 16", "16 x"), CUT),
    "decimal comma": (PTS.replace("16 16", "16,5 16,5"), CUT),
    "cut short": (PTS[:-10], CUT),
    "empty": ("", CUT),
    "a count of 5000 digits": (PTS.replace(": 2", ": " + "9" * 5000), CUT),
    "a negative count": (PTS.replace(": 2", ": -2"), CUT),
    "300,000 empty lines": ("\n" * 300_000, CUT),
    "100,000 beginnings": ("n_points: 1 {\n" * 100_000, CUT),
    "DOS line ends": (PTS.replace("\n", "\r\n"), {"points": GOOD_POINTS}),
    "UTF-8 mark": ("\ufeff" + PTS, {"points": GOOD_POINTS}),
    "no points": ("version: 1\nn_points: 0\n{\n}\n", CUT),
    "more than any face has": (
        PTS + " " * (64 << 20),
        lost("bad.pts", "too_large", "expected at most"),
    ),
}


def pts_cases():
    cases = []
    for name, (text, verdict) in FACE_POINTS.items():
        good, points = PTS, GOOD_POINTS
        if "n_points: 3" in text:
            # Faces with different numbers of points could not be in one file.
            good, points = NOT_ALL.format("11 6"), [[5, 5, 2], [10, 5, 2], [15, 15, 2]]
        files = {"good.pts": good, "bad.pts": text}
        cases.append(Case("pts", name, files, good=(points,), **verdict))
    return cases


# --- Pascal VOC: counted from 1, the last pixel included.


def voc(name="bad", box=(5, 5, 14, 14), size=(24, 24), title="face", more=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    label = f"<name>{title}</name>" if title else ""
    return (
        f"<annotation><filename>{name}.png</filename>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object>{label}{more}<bndbox>{corners}</bndbox></object></annotation>"
    )


ENTITY = "<!DOCTYPE a [{}]><annotation><filename>&x;</filename></annotation>"
NO_XML = lost("bad.xml", "malformed", "not a readable XML")
NO_OBJECT = lost("bad.xml", "malformed", "object 1: expected a name")
ELSEWHERE = lost("bad.xml", "malformed", "expected each bndbox in an object of annotation")
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox>"
OBJECTS = {
    "sound": (voc(), kept(TEN)),
    "all of the image": (voc(box=(1, 1, 24, 24)), kept(WHOLE)),
    "counted from 0": (voc(box=(0, 0, 24, 24)), kept(WHOLE) | {"good": ([5, 5, 20, 20],)}),
    "NaN": (voc(box=("nan", 5, 14, 14)), dropped("not_finite")),
    "x2 < x1": (voc(box=(14, 5, 5, 14)), dropped("inverted")),
    "difficult": (voc(more="<difficult>1</difficult>"), dropped("difficult")),
    "size 0": (voc(size=(0, 0)), kept(TEN)),
    "size transposed": (
        voc(size=(24, 48)),
        {"rejected": (("bad.png", "size_mismatch"),), "says": r"\(48, 24\)"},
    ),
    "no name": (voc(title=""), NO_OBJECT),
    "objects in a list": (
        voc().replace("<object>", "<objects><object>").replace("</object>", "</object></objects>"),
        ELSEWHERE,
    ),
    "objects in capitals": (
        voc().replace("<object>", "<Object>").replace("</object>", "</Object>"),
        ELSEWHERE,
    ),
    "a part of a person": (voc(more="<part><name>head</name><bndbox/></part>"), kept(TEN)),
    "a corner missing": (voc(box=("", 5, 14, 14)), NO_OBJECT),
    "two boxes": (voc(more=BOX), NO_OBJECT),
    "a name of another file": (voc("../../other"), kept(TEN)),
    "UTF-16": ('<?xml version="1.0" encoding="utf-16"?>' + voc(), kept(TEN)),
    "billion laughs": (ENTITY.format('<!ENTITY a "ha"><!ENTITY x "&a;&a;">'), NO_XML),
    "external entity": (ENTITY.format('<!ENTITY x SYSTEM "file:///etc/passwd">'), NO_XML),
    "cut short": (voc()[:-20], NO_XML),
    "empty": ("", NO_XML),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?>' + voc(), NO_XML),
}


def voc_cases():
    cases = []
    for name, (text, verdict) in OBJECTS.items():
        content = text.encode("utf-16") if name == "UTF-16" else text
        files = {"good.xml": voc("good", (5, 5, 20, 20)), "bad.xml": content}
        cases.append(Case("voc", name, files, **verdict))
    return cases
