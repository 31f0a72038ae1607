"""CSV tables as tools and people write them: columns by name, or a refusal that says why."""

import pytest

from processing.core.annotations import Flag
from processing.core.errors import SourceError, SourceNotFoundError
from processing.sources import read_sources
from tests.raw_files import boxes_of, points_of, reasons_of, splits_of, write_raw

BOX = {"a.jpg": [("cat", [10, 20, 40, 60])]}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}],
    "categories": [{"id": 1, "name": "cat"}],
}


def read(tmp_path, text, path="boxes.csv", images=("a.jpg", "b.jpg"), files=None):
    return read_sources(write_raw(tmp_path, {path: text} | (files or {}), images))


def refusal(tmp_path, text, **more):
    with pytest.raises(SourceError) as error:
        read(tmp_path, text, **more)
    assert not isinstance(error.value, SourceNotFoundError)
    return str(error.value)


# --- Names of columns.


@pytest.mark.parametrize(
    "table",
    [
        "image_name,classID,xmin,ymin,xmax,ymax\na.jpg, cat, 10, 20, 40, 60",
        '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",10.0,20.0,40.0,60.0,"cat"',
        "image,x,y,width,height,label\na.jpg,10,20,30,40,cat",
        "label,height,width,y,x,image\ncat,40,30,20,10,a.jpg",
        "path,left,top,right,bottom,category\na.jpg,10,20,40,60,cat",
        "frame,left,top,width,height,class\na.jpg,10,20,30,40,cat",
        "Image ID,X Min,X Max,Y Min,Y Max,Class Name\na.jpg,10,40,20,60,cat",
        "ImageID,XMin,XMax,YMin,YMax,LabelName\na.jpg,10,40,20,60,cat",
        "file_name,x_center,y_center,w,h,label\na.jpg,25,40,30,40,cat",
        "filename,cx,cy,width,height,class\na.jpg,25,40,30,40,cat",
        "filename,bbox_x1,bbox_y1,bbox_x2,bbox_y2,class\na.jpg,10,20,40,60,cat",
        "file,x0,y0,x1,y1,class\na.jpg,10,20,40,60,cat",
        "img,x1,y1,w,h,class\na.jpg,10,20,30,40,cat",
        "img_path,xtl,ytl,xbr,ybr,label\na.jpg,10,20,40,60,cat",
        "name,xmin,ymin,xmax,ymax,label\na.jpg,10,20,40,60,cat",
        "image,xmin,ymin,xmax,ymax,name\na.jpg,10,20,40,60,cat",
        "image,x,y,xmax,ymax,name\na.jpg,10,20,40,60,cat",
        "path,x1,y1,x2,y2,class\na.jpg,10,20,40,60,cat",
        "#filename,xmin,ymin,xmax,ymax,class\na.jpg,10,20,40,60,cat",
        ",filename,class,xmin,ymin,xmax,ymax\n0,a.jpg,cat,10,20,40,60",
        "photo file,xmin,ymin,xmax,ymax,class\na.jpg,10,20,40,60,cat",
        "image_id,file_name,xmin,ymin,xmax,ymax,class\n17,a.jpg,10,20,40,60,cat",
        "image,class_id,xmin,ymin,xmax,ymax,class\na.jpg,3,10,20,40,60,cat",
        "image,class,xmin,ymin,xmax,ymax,label\na.jpg,3,10,20,40,60,cat",
        "image_id,xmin,ymin,xmax,ymax,class\na,10,20,40,60,cat",
        "sep=,\nimage,xmin,ymin,xmax,ymax,class\na.jpg,10,20,40,60,cat",
        "filename;class;xmin;ymin;xmax;ymax\na.jpg;cat;10;20;40;60",
        "filename\tclass\txmin\tymin\txmax\tymax\na.jpg\tcat\t10\t20\t40\t60",
        "filename;class;xmin;ymin;xmax;ymax\na.jpg;cat;10,0;20,0;40,0;60,0",
        'filename, class, xmin, ymin, xmax, ymax\n"a.jpg", "cat", 10, 20, 40, 60',
        "filename,class,xmin,ymin,xmax,ymax,,\na.jpg,cat,10,20,40,60,,",
        "a.jpg,10,20,40,60,cat",
        "a.jpg,cat,10,20,40,60",
        "a.jpg;10;20;40;60;cat",
        "a.jpg\tcat\t10\t20\t40\t60",
    ],
)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_columns_are_known_by_name(tmp_path, table, start):
    reading = read(tmp_path, f"{start}{table}\n")
    assert boxes_of(reading) == BOX
    assert reading.rejections == []
    assert reading.table.declared_sizes.tolist() == [[0, 0]]
    assert set(reading.note_counts) == {"unlisted_images"}


@pytest.mark.parametrize(
    "table",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,200,100,cat,10,20,40,60",
        "image,x,y,w,h,width,height,label\na.jpg,10,20,30,40,200,100,cat",
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "cat,10,20,30,40,a.jpg,200,100",
        "Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId;Path\n200;100;10;20;40;60;cat;a.jpg",
    ],
)
def test_the_size_of_the_image_is_told_from_that_of_the_box(tmp_path, table):
    reading = read(tmp_path, f"{table}\n")
    assert boxes_of(reading) == BOX
    assert reading.table.declared_sizes.tolist() == [[100, 200]]


def test_sizes_that_repeat_the_corners_are_not_those_of_the_image(tmp_path):
    rows = "a.jpg,10,20,40,60,30,40\na.jpg,0,0,5,9,5,9\n"
    reading = read(tmp_path, f"image,x1,y1,x2,y2,width,height\n{rows}")
    assert boxes_of(reading)["a.jpg"] == [("object", [10, 20, 40, 60]), ("object", [0, 0, 5, 9])]
    assert reading.table.declared_sizes.tolist() == [[0, 0]]


def test_numbers_of_classes_are_no_names(tmp_path):
    rows = "a.jpg, 1, 35, 21, 44, 90\nb.jpg, 1, 35, 21, 44, 90\n"
    reading = read(tmp_path, f"image_name,classID,xmin,ymin,xmax,ymax\n{rows}")
    assert boxes_of(reading)["a.jpg"] == [("1", [35, 21, 44, 90])]
    assert not reading.table.annotation_sets[0].has_names


def test_a_table_without_a_class_has_the_category_object(tmp_path):
    reading = read(tmp_path, "image,xmin,ymin,xmax,ymax\na.jpg,1,2,3,4\nb.jpg,,,,\n")
    assert boxes_of(reading) == {"a.jpg": [("object", [1, 2, 3, 4])], "b.jpg": []}


@pytest.mark.parametrize(
    ("column", "value", "flag"),
    [
        ("iscrowd", "1", Flag.CROWD),
        ("Difficult", "true", Flag.DIFFICULT),
        ("ignore", "1", Flag.IGNORED),
        ("iscrowd", "0", Flag.NONE),
    ],
)
def test_flags_are_columns(tmp_path, column, value, flag):
    reading = read(tmp_path, f"image,xmin,ymin,xmax,ymax,{column}\na.jpg,1,2,3,4,{value}\n")
    assert reading.table.flags.tolist() == [flag]


@pytest.mark.parametrize("column", ["split", "Set", "subset", "usage"])
def test_a_column_gives_the_split_of_each_row(tmp_path, column):
    rows = "a.jpg,1,2,3,4,Training\nb.jpg,1,2,3,4,valid\nc.jpg,1,2,3,4,test\nd.jpg,1,2,3,4,x\n"
    text = f"image,xmin,ymin,xmax,ymax,{column}\n{rows}"
    reading = read(tmp_path, text, "train.csv", [f"{name}.jpg" for name in "abcd"])
    assert list(splits_of(reading).values()) == ["train", "val", "test", None]


def test_a_column_with_other_words_leaves_the_split_to_the_file(tmp_path):
    files = {"val.csv": "image,xmin,ymin,xmax,ymax,set\nb.jpg,1,2,3,4,B\n"}
    text = "image,xmin,ymin,xmax,ymax,set\na.jpg,1,2,3,4,A\n"
    assert list(splits_of(read(tmp_path, text, "train.csv", files=files)).values()) == [
        "train",
        "val",
    ]


def test_a_header_that_comes_twice_is_no_row(tmp_path):
    header = "image,xmin,ymin,xmax,ymax,label\n"
    reading = read(tmp_path, f"{header}a.jpg,10,20,40,60,cat\n{header}b.jpg,1,2,3,4,cat\n")
    assert list(boxes_of(reading)) == ["a.jpg", "b.jpg"]
    assert reading.rejections == []


def test_files_joined_with_another_header_are_refused(tmp_path):
    joined = (
        "image,xmin,ymin,xmax,ymax,label\na.jpg,1,2,3,4,cat\nimage,x,y,w,h,label\nb.jpg,1,2,3,4,c"
    )
    assert "line 3: a second header" in refusal(tmp_path, joined)


def test_a_comment_is_no_image(tmp_path):
    text = "# exported\nimage,xmin,ymin,xmax,ymax,label\na.jpg,10,20,40,60,cat\n"
    reading = read(tmp_path, text)
    assert boxes_of(reading) == BOX
    assert reasons_of(reading) == [("boxes.csv", "malformed")]


# --- Refusals.


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a.jpg,1,35,21,44,90\nb.jpg,1,35,21,44,90", "the second and the last cell are both"),
        ("a.jpg,1,2,3,4,cat\nb.jpg,dog,1,2,3,4", "the second cell of some rows and the last"),
        ("image,a,b,c,d,label\na.jpg,1,2,3,4,cat", "the columns image,a,b,c,d,label hold neither"),
        ("foo,a,b,c,d,e\na.jpg,1,2,3,4,cat", "the columns foo,a,b,c,d,e hold neither"),
        ("foo,a,b,c,d,e\na,1,2,3,4,cat\nb.jpg,1,2,3,4,cat\nc,1,2,3,4,cat", "unknown columns foo"),
        ("a.jpg,200,100,cat,1,2,3,4", "rows of 8 cells without a header; expected path,x1"),
        ("a.jpg,1,2,3,4,5,6,7,8,9,10", "rows of 11 cells without a header"),
        ("image,label\na.jpg,cat", "labels of images are for classification"),
        ("image,x,y,w,h,score\na.jpg,1,2,3,4,0.5", "line 2: score is 0.5: predictions are no"),
        ("image,x,y,w,h,Confidence\na.jpg,1,2,3,4,1\nb.jpg,1,2,3,4,.9", "line 3: Confidence is"),
        ("image,x,y,w,h,label\n", "line 1: only a header (image,x,y,w,h,label), and no rows"),
        ("image,x1,y1,x2,y2,xmin,ymin,xmax,ymax\na.jpg,1,2,3,4,1,2,3,4", "two boxes are named"),
        ("image,x,y,w,h,x\na.jpg,1,2,3,4,5", "two columns are called x"),
        ('image,bbox\na.jpg,"[1, 2, 3, 4]"', "one column holds all four numbers of a box"),
        ("f;xmin;ymin;xmax;ymax\na.jpg;1.250,5;1;3;4", "expected four numbers"),
        ("image;xmin;ymin;xmax;ymax\na.jpg;1,250;1;3;4\nb.jpg;1.5;1;3;4", "a decimal comma and"),
        (
            "#filename,file_size,region_count,region_shape_attributes,region_attributes\n"
            'a.jpg,9,1,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}",{}',
            "a table of the VGG Image Annotator: export the project as JSON",
        ),
    ],
)
def test_a_table_that_is_not_clear_is_refused(tmp_path, table, message):
    assert message in refusal(tmp_path, f"{table}\n")


def test_a_table_without_boxes_next_to_annotations_is_only_noted(tmp_path):
    files = {
        "coco.json": COCO,
        "boxes.csv": "image,a,b,c,d\na.jpg,1,2,3,4\n",
        "size.csv": "image,taken_at\na.jpg,noon\n",
        "empty.csv": "image,x,y,w,h\n",
    }
    reading = read(tmp_path, "image,label\na.jpg,cat\n", "labels.csv", ["a.jpg"], files)
    assert boxes_of(reading) == BOX
    assert reading.rejections == []
    assert [(note.kind, note.path) for note in reading.notes] == [
        ("no_boxes", "boxes.csv"),
        ("no_boxes", "empty.csv"),
        ("no_boxes", "labels.csv"),
    ]


def test_a_row_with_other_cells_is_malformed(tmp_path):
    header = "image,xmin,ymin,xmax,ymax,label,note\n"
    reading = read(tmp_path, f"{header}a.jpg,10,20,40,60,cat,x\nb.jpg,10,20,40,60,cat\n")
    assert boxes_of(reading) == BOX
    assert reasons_of(reading) == [("boxes.csv", "malformed"), ("b.jpg", "no_usable_annotation")]


def test_a_table_that_names_no_image_is_not_found(tmp_path):
    files = {
        "results.csv": "epoch,train/box_loss,metrics/mAP50\n0,1.5,0.1\n",
        "layout.csv": "name,x,y,width,height\ntitle,1,2,3,4\n",
    }
    reading = read(tmp_path, "a.jpg,10,20,40,60,cat\n", files=files)
    assert reading.rejections == []
    assert set(reading.note_counts) == {"unlisted_images"}


def test_a_caption_is_no_annotation(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"boxes\.csv begins with 'file_name,text'"):
        read(tmp_path, "file_name,text\na.jpg,a cat\n")


NUMBERED = "image,xmin,ymin,xmax,ymax,class_id\n"


@pytest.mark.parametrize(
    "paths", [("train_labels.csv", "val_labels.csv"), ("set/train/_a.csv", "set/valid/_a.csv")]
)
def test_files_of_one_data_set_share_the_numbers_of_their_classes(tmp_path, paths):
    files = {
        path: f"{NUMBERED}{name},10,20,40,60,1\n" for path, name in zip(paths, "ab", strict=True)
    }
    images = [
        f"{path[: path.rfind('/') + 1]}{name}.jpg" for path, name in zip(paths, "ab", strict=True)
    ]
    reading = read_sources(write_raw(tmp_path, files, images))
    assert reading.table.category_names == ("1",)
    assert list(splits_of(reading).values()) == ["train", "val"]


def test_two_data_sets_that_number_their_classes_are_not_merged(tmp_path):
    files = {
        "cats/x.csv": f"{NUMBERED}a.jpg,10,20,40,60,1\n",
        "cars/x.csv": f"{NUMBERED}b.jpg,1,2,3,4,1\n",
    }
    with pytest.raises(SourceError, match="only number their classes"):
        read_sources(write_raw(tmp_path, files, ["cats/a.jpg", "cars/b.jpg"]))


# --- One column of four numbers.


@pytest.mark.parametrize(
    "table",
    [
        'image_id,width,height,bbox,source\na,200,100,"[10.0, 20.0, 30.0, 40.0]",x',
        'image,bbox,label\na.jpg,"[10, 20, 30, 40]",object\na.jpg,"[10, 20, 5, 5]",object',
        'image,width,height,bbox\na.jpg,200,100,"(10, 20, 40, 60)"\na.jpg,200,100,"170 80 200 99"',
    ],
)
def test_four_numbers_in_one_cell_are_read_if_the_rows_show_their_meaning(tmp_path, table):
    reading = read(tmp_path, f"{table}\n", images=["a.jpg"])
    assert boxes_of(reading)["a.jpg"][0] == ("object", [10, 20, 40, 60])
    assert reading.rejections == []


# --- OpenImages.

OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside\n"
    "000026e7ee790996,xclick,/m/07j7r,1,0.071875,0.1453125,0.20625,0.39166668,0,1,1,0,0\n"
    "000062a39995e348,xclick,/m/015p6,1,0.20620842,0.849224,0.15463917,1,0,0,0,0,0\n"
)
IDS = ["train/000026e7ee790996.jpg", "train/000062a39995e348.jpg"]


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_openimages_has_fractions_codes_and_groups(tmp_path, header):
    files = {"class-descriptions-boxable.csv": f"{header}/m/015p6,Bird\n/m/07j7r,Tree\n"}
    files["train-images-boxable-with-rotation.csv"] = "ImageID,Subset\n000026e7ee790996,train\n"
    files["train-annotations-human-imagelabels.csv"] = (
        "ImageID,Source,LabelName,Confidence\n000026e7ee790996,verification,/m/015p6,0\n"
    )
    reading = read(tmp_path, OPEN_IMAGES, "train-annotations-bbox.csv", IDS, files)
    assert boxes_of(reading) == {
        IDS[0]: [("Tree", [0.072, 0.206, 0.145, 0.392])],
        IDS[1]: [("Bird", [0.206, 0.155, 0.849, 1])],
    }
    assert reading.table.normalized.all()
    assert reading.table.flags.tolist() == [Flag.CROWD, Flag.NONE]
    assert reading.rejections == []
    assert [note.path for note in reading.notes] == ["train-annotations-human-imagelabels.csv"]


def test_openimages_without_descriptions_keeps_its_codes_and_refuses_pixels(tmp_path):
    rows = OPEN_IMAGES.replace("0.849224", "849")
    reading = read(tmp_path, rows, "oidv6-train-annotations-bbox.csv", IDS)
    assert boxes_of(reading) == {IDS[0]: [("/m/07j7r", [0.072, 0.206, 0.145, 0.392])]}
    assert reasons_of(reading) == [
        ("oidv6-train-annotations-bbox.csv", "malformed"),
        (IDS[1], "no_usable_annotation"),
    ]


# --- Landmarks.

FIRST = [[20, 30, 2], [27, 35, 2], [34, 40, 2]]


@pytest.mark.parametrize(
    "header",
    [
        ",0,1,2,3,4,5",
        "image,1,2,3,4,5,6",
        "file,x1,y1,x2,y2,x3,y3",
        "file,x_0,y_0,x_1,y_1,x_2,y_2",
        "NAME_ID,P1X,P1Y,P2X,P2Y,P3X,P3Y",
        "filename,lm_x_1,lm_y_1,lm_x_2,lm_y_2,lm_x_3,lm_y_3",
        "image_name,part_0_x,part_0_y,part_1_x,part_1_y,part_2_x,part_2_y",
        "image_name,0_x,0_y,1_x,1_y,2_x,2_y",
    ],
)
def test_numbered_columns_are_points(tmp_path, header):
    reading = read(tmp_path, f"{header}\na.jpg,20.0,30.0,27,35,34,40\n")
    assert points_of(reading) == {"a.jpg": [FIRST]}
    assert boxes_of(reading) == {"a.jpg": [("object", None)]}
    assert reading.table.keypoint_names == ()
    assert reading.rejections == []


def test_numbered_columns_of_two_files_find_their_folders(tmp_path):
    header = f",{','.join(map(str, range(6)))}\n"
    files = {"data/test_frames_keypoints.csv": f"{header}n0.jpg,1,2,3,4,5,6\n"}
    images = ["data/training/n0.jpg", "data/test/n0.jpg"]
    path = "data/training_frames_keypoints.csv"
    reading = read(tmp_path, f"{header}n0.jpg,20,30,27,35,34,40\n", path, images, files)
    assert points_of(reading) == {
        images[1]: [[[1, 2, 2], [3, 4, 2], [5, 6, 2]]],
        images[0]: [FIRST],
    }


@pytest.mark.parametrize("header", ["left_eye_center_x,left_eye_center_y,nose.x,nose.y,Image"])
def test_named_columns_are_points_with_names(tmp_path, header):
    reading = read(tmp_path, f"{header}\n1,2,3,4,a.jpg\n")
    assert points_of(reading) == {"a.jpg": [[[1, 2, 2], [3, 4, 2]]]}
    assert reading.table.keypoint_names == ("left_eye_center", "nose")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,xmin,ymin,xmax,ymax,x1,y1,x2,y2,x3,y3", "10,20,40,60,20,30,27,35,34,40"),
        (
            "image,x,y,w,h,eye_x,eye_y,nose_x,nose_y,mouth_x,mouth_y",
            "10,20,30,40,20,30,27,35,34,40",
        ),
        ("image,p1x,p1y,p2x,p2y,p3x,p3y,x1,y1,x2,y2", "20,30,27,35,34,40,10,20,40,60"),
    ],
)
def test_boxes_may_stand_next_to_points(tmp_path, header, row):
    reading = read(tmp_path, f"{header}\na.jpg,{row}\n")
    assert boxes_of(reading) == {"a.jpg": [("object", [10, 20, 40, 60])]}
    assert points_of(reading) == {"a.jpg": [FIRST]}


@pytest.mark.parametrize("missing", [",", "nan,NaN", "-1,-1", "-1.0,-1.0", ",5"])
def test_points_that_are_not_labelled_leave_the_others(tmp_path, missing):
    reading = read(tmp_path, f"image,x1,y1,x2,y2,x3,y3\na.jpg,20,30,{missing},34,40\n")
    assert points_of(reading) == {"a.jpg": [[[20, 30, 2], [0, 0, 0], [34, 40, 2]]]}
    assert reading.rejections == []


def test_a_row_without_any_labelled_point_is_no_annotation(tmp_path):
    rows = "a.jpg,,,,,,\nb.jpg,1,2,3,4,5,6\n"
    reading = read(tmp_path, f"image,x1,y1,x2,y2,x3,y3\n{rows}")
    assert list(points_of(reading)) == ["b.jpg"]
    assert reasons_of(reading) == [("boxes.csv", "malformed"), ("a.jpg", "no_usable_annotation")]


def test_a_box_whose_points_are_all_missing_keeps_the_box(tmp_path):
    header = "image,xmin,ymin,xmax,ymax,label,eye_x,eye_y,nose_x,nose_y\n"
    reading = read(tmp_path, f"{header}a.jpg,10,20,40,60,cat,,,,\n")
    assert boxes_of(reading) == BOX
    assert points_of(reading) == {"a.jpg": [[]]}


def test_visibilities_are_read_as_in_coco(tmp_path):
    header = "image,p0_x,p0_y,p0_v,p1_x,p1_y,p1_v\n"
    reading = read(tmp_path, f"{header}a.jpg,1,2,2,3,4,1\nb.jpg,1,2,0,3,4,2\n")
    assert points_of(reading) == {
        "a.jpg": [[[1, 2, 2], [3, 4, 1]]],
        "b.jpg": [[[0, 0, 0], [3, 4, 2]]],
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,p0_x,p0_y,p0_v\na.jpg,1,2,1", "visibilities are only 0 and 1"),
        (f"nose_x,nose_y,Image\n1,2,{'238 236 ' * 50}", "the column Image holds pixels"),
        (",0,1,2\na.jpg,1,2,3", "3 numbered columns: expected pairs"),
    ],
)
def test_points_that_are_not_clear_are_refused(tmp_path, table, message):
    assert message in refusal(tmp_path, f"{table}\n")


def test_a_pair_next_to_a_box_need_not_be_a_point(tmp_path):
    reading = read(tmp_path, "image,xmin,ymin,xmax,ymax,gps_x,gps_y\na.jpg,1,2,3,4,50,60\n")
    assert points_of(reading) == {"a.jpg": [[]]}


def test_tables_with_the_ending_of_their_tabs_are_read(tmp_path):
    table = "filename\tx1\ty1\tx2\ty2\tclass\na.jpg\t1\t2\t30\t40\tcat\n"
    reading = read(tmp_path, table, path="boxes.TSV")
    assert boxes_of(reading) == {"a.jpg": [("cat", [1, 2, 30, 40])]}


def test_rows_of_make_sense_need_no_header(tmp_path):
    reading = read(tmp_path, "cat,1,2,30,40,a.jpg,200,100\ndog,5,6,7,8,b.jpg,200,100\n")
    assert boxes_of(reading) == {
        "a.jpg": [("cat", [1, 2, 31, 42])],
        "b.jpg": [("dog", [5, 6, 12, 14])],
    }
    assert reading.table.declared_sizes.tolist() == [[100, 200]] * 2


def test_rows_of_sku_110k_need_no_header(tmp_path):
    reading = read(tmp_path, "a.jpg,1,2,30,40,object,200,100\n")
    assert boxes_of(reading) == {"a.jpg": [("object", [1, 2, 30, 40])]}
    assert reading.table.declared_sizes.tolist() == [[100, 200]]


@pytest.mark.parametrize("row", ["7,1,2,30,40,a.jpg,200,100", "a.jpg,1,2,30,40,7,200,100"])
def test_rows_with_a_number_for_the_class_are_not_taken_for_those_of_a_tool(tmp_path, row):
    with pytest.raises((SourceError, SourceNotFoundError)):
        read(tmp_path, f"{row}\n")
