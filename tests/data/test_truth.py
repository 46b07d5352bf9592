import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfsight.core.errors import DataError, UsageError
from selfsight.data.masks import MaskFiles
from selfsight.data.opening import open_source
from selfsight.data.source import VOID, Source, Truth
from selfsight.measure.metrics.overlap import class_map, score_boxes, score_masks, score_segments
from selfsight.tasks.dense_head import extents_of

from pictures import encoded, photograph


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four images of 100 x 80 pixels, packed as 40 x 32 for a size of 30."""
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(4):
        (root / f"{number}.png").write_bytes(encoded(photograph(number, 80, 100)))
    return root


def opened(pictures: Path, truth: Path, **options: str) -> tuple[Source, Truth]:
    source = open_source(pictures, size=30, cache=pictures.parent / "cache", truth=truth, **options)
    return source, source.truth(np.arange(len(source)))


def test_csv(pictures: Path, tmp_path: Path):
    path = tmp_path / "about.csv"
    path.write_text("filename,label,licence,people,sharpness\n1.png,dog,CC0,0,0.5\n0.png,cat,by,1,\n3.png,dog,cc0,1,2\n")
    truth = opened(pictures, path)[1]
    assert truth.labels is not None
    assert truth.labels.tolist() == [0, 1, -1, 1]
    assert truth.classes == ("cat", "dog")
    assert truth.attributes["licence"].tolist() == ["by", "CC0", "", "cc0"]
    assert truth.attributes["sharpness"][1] == 0.5
    assert list(opened(pictures, path, where="licence=cc0,people=no")[0].names) == ["1.png"]
    assert list(opened(pictures, path, where="licence=cc0|by")[0].names) == ["0.png", "1.png", "3.png"]
    with pytest.raises(UsageError, match="licence"):
        opened(pictures, path, where="license=cc0")
    with pytest.raises(DataError, match="No image"):
        opened(pictures, path, where="licence=gpl")


def test_csv_with_numbered_classes(pictures: Path, tmp_path: Path):
    path = tmp_path / "index.csv"
    path.write_text("file,class_index,name\n0.png,2,tench\n1.png,0,shark\n2.png,2,tench\n3.png,0,shark\n")
    truth = opened(pictures, path)[1]
    assert truth.labels is not None
    assert truth.labels.tolist() == [1, 0, 1, 0]
    assert truth.classes == ("shark", "tench")


def test_coco(pictures: Path, tmp_path: Path):
    path = tmp_path / "instances.json"
    square = [10, 20, 60, 20, 60, 60, 10, 60]
    content = {
        "images": [{"id": 7, "file_name": "2.png", "height": 80, "width": 100}],
        "categories": [{"id": 5, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 2, "bbox": [10, 20, 50, 40], "segmentation": [square]},
            {
                "image_id": 7,
                "category_id": 5,
                "bbox": [0, 0, 5, 5],
                "iscrowd": 1,
                "segmentation": {"size": [80, 100], "counts": [0, 5, 75, 5, 7915]},
            },
        ],
    }
    path.write_text(json.dumps(content))
    source, truth = opened(pictures, path)
    assert source.shape == (32, 40)
    assert truth.boxes is not None
    assert truth.masks is not None
    assert truth.labels is not None
    np.testing.assert_allclose(truth.boxes[2], [[4, 8, 24, 24, 0], [0, 0, 2, 2, 1]], atol=1e-5)
    assert len(truth.boxes[0]) == 0
    assert truth.crowds is not None
    assert [crowd.tolist() for crowd in truth.crowds] == [[], [], [False, True], []]
    assert truth.labels.tolist() == [-1, -1, 0, -1]
    assert truth.attributes["people"].tolist() == [0, 0, 1, 0]
    mask = truth.masks[2]
    assert mask.shape == (32, 40)
    down, across = np.nonzero(mask == 1)
    assert (across.min(), across.max() + 1, down.min(), down.max() + 1) == (4, 24, 8, 24)
    assert (mask == 2).any()
    assert not truth.masks[0].any()


def test_voc(pictures: Path, tmp_path: Path):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    box = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>60</xmax><ymax>60</ymax></bndbox>"
    (folder / "1.xml").write_text(f"<annotation><filename>1.png</filename><object><name>dog</name>{box}</object></annotation>")
    truth = opened(pictures, folder)[1]
    assert truth.boxes is not None
    np.testing.assert_allclose(truth.boxes[1], [[4, 8, 24, 24, 0]], atol=1e-5)
    assert truth.classes == ("dog",)


def test_yolo(pictures: Path, tmp_path: Path):
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "3.txt").write_text("1 0.35 0.5 0.5 0.5\n0 0.1 0.1 0.1 0.1\n")
    truth = opened(pictures, folder)[1]
    assert truth.boxes is not None
    np.testing.assert_allclose(truth.boxes[3][0], [4, 8, 24, 24, 1], atol=1e-5)
    assert truth.classes == ("cat", "dog")


def test_masks(pictures: Path, tmp_path: Path):
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[20:60, 10:60] = 255
    Image.fromarray(mask).save(folder / "0_mask.png")
    indexed = Image.fromarray((mask // 51).astype(np.uint8)).convert("P")
    indexed.putpalette(list(range(48)))
    indexed.save(folder / "1.png")
    truth = opened(pictures, folder)[1]
    assert truth.masks is not None
    down, across = np.nonzero(truth.masks[0] == 1)
    assert (across.min(), across.max() + 1, down.min(), down.max() + 1) == (4, 24, 8, 24)
    assert set(np.unique(truth.masks[1])) == {0, 5}
    assert not truth.masks[2].any()


def read_mask(path: Path) -> np.ndarray:
    return MaskFiles([path])(0)


def saved_mask(folder: Path, name: str, values: np.ndarray, *, palette: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image = Image.frombytes("P", image.size, values.astype(np.uint8).tobytes())
        image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(folder / name)
    return folder / name


@pytest.mark.parametrize("palette", [True, False])
def test_classes_of_a_mask_are_told_apart_and_void_does_not_count(pictures: Path, tmp_path: Path, palette: bool):
    """As in PASCAL VOC: classes 7 and 15, and a border of 255, in palette images and in grey ones."""
    for row in range(4):
        values = np.zeros((80, 100))
        values[10:70, 10:90] = 255
        values[20:60, 20:80] = 15 if row % 2 else 7
        saved_mask(tmp_path / "masks", f"{row}.png", values, palette=palette)
    source, truth = opened(pictures, tmp_path / "masks")
    sizes = [tuple(int(side) for side in extent) for extent in extents_of(source)]
    maps = [class_map(truth, row, size) for row, size in enumerate(sizes)]
    assert [np.unique(each).tolist() for each in maps] == [[0, 7, VOID], [0, 15, VOID]] * 2
    right = score_segments(lambda row, size: np.where(maps[row] == VOID, 3, maps[row] // 7), source, 3, sizes)
    assert right is not None
    assert right.value == 1  # whatever is predicted at the border
    one_class = score_segments(lambda row, size: (maps[row] > 0).astype(int), source, 3, sizes)
    assert one_class is not None
    assert one_class.value == pytest.approx(0.5, abs=0.01)  # background 1, one class of two 1/2, the other 0
    saliency = score_masks(lambda row, size: (maps[row] % VOID > 0).astype(float), source, sizes)
    assert saliency is not None
    assert (saliency["iou"], saliency["accuracy"]) == (1, 1)
    boxes = score_boxes(lambda row: np.array([[8, 8, 32, 24]]), source)
    assert boxes is not None
    assert boxes.value == 1


def test_numbers_of_masks_are_kept_and_black_and_white_is_one_class(tmp_path: Path):
    edge = np.zeros((40, 40))
    edge[10:30, 10:30] = 255
    smooth = np.asarray(Image.fromarray(edge.astype(np.uint8)).resize((60, 60), Image.Resampling.BICUBIC))
    assert set(np.unique(read_mask(saved_mask(tmp_path, "smooth.png", smooth)))) == {0, 1}
    assert set(np.unique(read_mask(saved_mask(tmp_path, "lossy.jpg", edge)))) == {0, 1}
    assert set(np.unique(read_mask(saved_mask(tmp_path, "flags.png", edge, palette=True)))) == {0, 1}
    many = np.arange(1600).reshape(40, 40) // 60
    assert read_mask(saved_mask(tmp_path, "many.png", many)).tolist() == many.tolist()
    wide = (many * 40).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert read_mask(tmp_path / "wide.png").tolist() == wide.tolist()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(many)).astype(np.uint8)).save(tmp_path / "turned.png", exif=turned)
    assert read_mask(tmp_path / "turned.png").tolist() == many.tolist()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"broken.png cannot be read"):
        read_mask(tmp_path / "broken.png")


@pytest.mark.parametrize("number", [1, 20, 26, 90, 126, 128, 200, 254])
@pytest.mark.parametrize("palette", [True, False])
def test_a_class_beside_a_wide_border_of_void_is_kept(tmp_path: Path, number: int, palette: bool):
    values = np.zeros((64, 64))
    values[14:50, 14:50] = 255
    values[20:40, 20:40] = number
    assert np.unique(read_mask(saved_mask(tmp_path, "one.png", values, palette=palette))).tolist() == [0, number, VOID]


def test_thin_classes_beside_void_are_kept(tmp_path: Path):
    """Lines of two pixels: numbers up to 25 beside any amount of void, and others that are more frequent than void."""
    values = np.zeros((64, 64))
    values[4:24, 4:60] = 255
    values[40:42, 4:60] = 7
    assert np.unique(read_mask(saved_mask(tmp_path, "small.png", values))).tolist() == [0, 7, VOID]
    values = np.zeros((64, 64))
    values[10:12, 4:60] = values[40:42, 4:60] = 90
    values[50:52, 10:40] = 255
    assert np.unique(read_mask(saved_mask(tmp_path, "rare.png", values))).tolist() == [0, 90, VOID]


@pytest.mark.parametrize("palette", [True, False])
def test_a_mask_of_void_alone_is_void_if_others_have_numbers(tmp_path: Path, palette: bool):
    values = np.zeros((32, 32))
    values[8:24, 8:24] = 255
    void = saved_mask(tmp_path, "0.png", values, palette=palette)
    values[10:20, 10:20] = 90
    number = saved_mask(tmp_path, "1.png", values, palette=palette)
    masks = MaskFiles([void, number, None])
    assert [np.unique(masks(row)).tolist() for row in range(3)] == [[0, VOID], [0, 90, VOID], [0]]
    assert np.unique(MaskFiles([void, void])(0)).tolist() == [0, 1]


def test_colours_with_smooth_edges_are_one_class(tmp_path: Path):
    edge = np.zeros((40, 40, 3), dtype=np.uint8)
    edge[10:30, 10:30] = 255
    Image.fromarray(edge).resize((60, 60), Image.Resampling.BICUBIC).save(tmp_path / "rgb.png")
    found = read_mask(tmp_path / "rgb.png")
    assert np.unique(found).tolist() == [0, 1]
    assert 850 <= found.sum() <= 950
    edge[10:30, 10:30] = (0, 0, 200)
    edge[0, 0] = 255
    Image.fromarray(edge).save(tmp_path / "blue.png")
    assert read_mask(tmp_path / "blue.png").sum() == 401  # beside white, a dark colour is not background


def test_unmatched_annotations_are_rejected(pictures: Path, tmp_path: Path):
    path = tmp_path / "other.csv"
    path.write_text("file,label\nelse.png,1\n")
    with pytest.raises(DataError, match="mentions none of the 4"):
        opened(pictures, path)
    path.write_text("label\n1\n")
    with pytest.raises(DataError, match="column of files"):
        opened(pictures, path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        opened(pictures, tmp_path / "x.json")
    with pytest.raises(DataError, match="known format"):
        opened(pictures, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="own ground truth"):
        open_source("digits", truth=path)
