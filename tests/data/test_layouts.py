"""The loader decodes nothing, so an "image" here is a file that holds its own name."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from simplenet_edge.data.layouts import Dataset, Sample, load_dataset
from simplenet_edge.errors import ConfigError, DataError


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("/".join(path.parts[-3:]), encoding="utf-8")
    return path


def without(folder: Path, root: Path) -> Path:
    """`root`, after `folder` and all in it has been removed."""
    shutil.rmtree(folder)
    return root


def names(samples: Sequence[Sample]) -> list[str]:
    return [sample.name for sample in samples]


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    root = tmp_path / "bottle"
    for name in ("train/good/002", "train/good/000", "train/good/001", "test/good/000"):
        put(root / f"{name}.png")
    for name in ("test/scratch/001", "test/scratch/000", "test/dent/000"):
        put(root / f"{name}.png")
    put(root / "ground_truth/scratch/000_mask.png")
    put(root / "ground_truth/dent/000.png")
    return root


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    for number in range(30):
        put(tmp_path / f"ok/{number:03}.png")
    for name in ("scratch/a", "scratch/b", "dent/deep/a", "loose"):
        put(tmp_path / f"ng/{name}.png")
    put(tmp_path / "masks/scratch/a.png")
    put(tmp_path / "masks/dent/deep/a_mask.bmp")
    return tmp_path


VISA = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0002.JPG,
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,test,normal,candle/Data/Images/Normal/0003.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
"""


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    for line in VISA.splitlines()[1:]:
        image, mask = line.split(",")[3:]
        put(tmp_path / image)
        if mask:
            put(tmp_path / mask)
    csv = tmp_path / "split_csv" / "1cls.csv"
    csv.parent.mkdir()
    csv.write_text(VISA, encoding="utf-8")
    return csv


# --- MVTec AD


def test_mvtec_layout(mvtec: Path) -> None:
    dataset = load_dataset(mvtec)
    assert dataset.name == "bottle"
    assert names(dataset.train) == ["train/good/000.png", "train/good/001.png", "train/good/002.png"]
    assert all(sample.defect is None and sample.mask_path is None for sample in dataset.train)
    assert [(s.name, s.defect, s.mask_path) for s in dataset.test] == [
        ("test/dent/000.png", "dent", mvtec / "ground_truth/dent/000.png"),
        ("test/good/000.png", None, None),
        ("test/scratch/000.png", "scratch", mvtec / "ground_truth/scratch/000_mask.png"),
        ("test/scratch/001.png", "scratch", None),
    ]
    assert all(sample.path.is_file() for sample in (*dataset.train, *dataset.test))


def test_mvtec_without_test_and_masks(tmp_path: Path) -> None:
    put(tmp_path / "train/good/0.png")
    assert load_dataset(tmp_path) == Dataset(
        tmp_path.name, (Sample(tmp_path / "train/good/0.png", name="train/good/0.png"),), ()
    )


def test_files_that_are_no_images_are_passed_over(mvtec: Path) -> None:
    before = load_dataset(mvtec)
    for name in ("train/good/notes.txt", "train/good/._000.png", "test/good/Thumbs.db", "test/.cache/a.png"):
        put(mvtec / name)
    assert load_dataset(mvtec) == before


def test_blank_masks_of_good_parts_are_passed_over(mvtec: Path) -> None:
    before = load_dataset(mvtec)
    put(mvtec / "ground_truth/good/000_mask.png")
    assert load_dataset(mvtec) == before


def test_endings_in_capitals_and_nested_folders_count(tmp_path: Path) -> None:
    put(tmp_path / "train/good/b.PNG")
    put(tmp_path / "train/good/a/c.Jpeg")
    assert names(load_dataset(tmp_path).train) == ["train/good/a/c.Jpeg", "train/good/b.PNG"]


def test_links_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/0.png")
    put(tmp_path / "set/train/good/1.png")
    (tmp_path / "set/train/good/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set/train/good/up").symlink_to(tmp_path / "set/train/good", target_is_directory=True)
    assert names(load_dataset(tmp_path / "set").train) == ["train/good/1.png", "train/good/more/0.png"]


def test_root_of_images_is_a_folder_of_good_parts(tmp_path: Path) -> None:
    put(tmp_path / "b.png")
    put(tmp_path / "a.png")
    dataset = load_dataset(tmp_path)
    assert names(dataset.train) == ["good/a.png", "good/b.png"]
    assert dataset.test == ()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        # the root is not there, is a file, is empty
        (lambda root: root / "missing", ["missing", "no such folder"]),
        (lambda root: root / "train/good/000.png", ["000.png", "found a file"]),
        (lambda root: put(root / "empty/notes.txt").parent, ["empty", "found no image"]),
        # a parent folder of datasets
        (lambda root: root.parent, ["training needs images of good parts", "train/good", "name one of", "bottle"]),
        # only defective parts
        (
            lambda root: without(root / "train", root),
            ["training needs images of good parts", str(Path("train/good"))],
        ),
        (
            lambda root: put(without(root / "train/good", root) / "train/good/notes.txt").parents[2],
            ["train/good", "expected a folder of good parts"],
        ),
        # good and defective images in one heap
        (lambda root: put(without(root / "train", root) / "loose.png").parent, ["training needs images of good"]),
        # an image of no class
        (lambda root: put(root / "test/loose.png").parents[1], ["loose.png", "test/<defect class>"]),
        # masks without an image, or two of one
        (lambda root: put(root / "ground_truth/dent/007_mask.png").parents[2], ["007_mask.png", "no such image"]),
        (lambda root: put(root / "ground_truth/rust/000.png").parents[2], ["rust/000.png", "no such image"]),
        (lambda root: put(root / "ground_truth/dent/_mask.png").parents[2], ["_mask.png", "no such image"]),
        (lambda root: put(root / "ground_truth/dent/000_mask.png").parents[2], ["another mask"]),
        # a mask that two images could own
        (lambda root: put(root / "test/dent/000.bmp").parents[2], ["dent/000.bmp and dent/000.png"]),
        # a name that the file system refuses
        (lambda root: root / ("x" * 300), ["can't be read"]),
    ],
)
def test_what_is_wrong_with_a_root_is_said(spoil: Callable[[Path], Path], complaint: list[str], mvtec: Path) -> None:
    root = spoil(mvtec)
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    for part in complaint:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_without_test_images_are_refused(mvtec: Path) -> None:
    without(mvtec / "test", mvtec)
    with pytest.raises(DataError, match="no such image"):
        load_dataset(mvtec)


# --- plain folders


def test_plain_folders(plain: Path) -> None:
    dataset = load_dataset(good=plain / "ok", defect=plain / "ng", masks=plain / "masks")
    defective = [(s.name, s.defect, s.mask_path) for s in dataset.test if s.defect is not None]
    assert defective == [
        ("defect/dent/deep/a.png", "dent", plain / "masks/dent/deep/a_mask.bmp"),
        ("defect/loose.png", "defect", None),
        ("defect/scratch/a.png", "scratch", plain / "masks/scratch/a.png"),
        ("defect/scratch/b.png", "scratch", None),
    ]
    held_out = [sample for sample in dataset.test if sample.defect is None]
    assert 1 <= len(held_out) <= 12
    assert sorted(names(dataset.train) + names(held_out)) == [f"good/{number:03}.png" for number in range(30)]
    assert names(dataset.train) == sorted(names(dataset.train))


def test_good_alone_is_all_for_training(plain: Path) -> None:
    dataset = load_dataset(good=plain / "ok")
    assert len(dataset.train) == 30
    assert dataset.test == ()


def test_a_new_file_and_a_new_name_move_no_other(plain: Path) -> None:
    def sides() -> dict[bytes, str]:
        dataset = load_dataset(good=plain / "ok", defect=plain / "ng")
        good = [(s, "test") for s in dataset.test if s.defect is None] + [(s, "train") for s in dataset.train]
        return {sample.path.read_bytes(): side for sample, side in good}

    before = sides()
    for number in range(100, 120):
        put(plain / f"ok/{number}.png")
    (plain / "ok/000.png").rename(plain / "ok/zzz.png")
    after = sides()
    assert before.items() <= after.items()
    assert len(after) == 50


def test_copies_of_a_good_image_are_not_tested_on(plain: Path) -> None:
    for path in list((plain / "ok").iterdir()):
        (plain / "ok" / f"copy_of_{path.name}").write_bytes(path.read_bytes())
    dataset = load_dataset(good=plain / "ok", defect=plain / "ng")
    held_out = {s.path.read_bytes() for s in dataset.test if s.defect is None}
    assert held_out
    assert held_out.isdisjoint(s.path.read_bytes() for s in dataset.train)


@pytest.mark.parametrize(("n_good", "n_train"), [(1, 1), (2, 2), (3, 2)])
def test_few_good_images_stay_in_training(n_good: int, n_train: int, tmp_path: Path) -> None:
    for number in range(n_good):
        put(tmp_path / f"ok/{number}.png")
    put(tmp_path / "ng/a.png")
    dataset = load_dataset(good=tmp_path / "ok", defect=tmp_path / "ng")
    assert len(dataset.train) == n_train
    assert len(dataset.test) == n_good - n_train + 1


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"good": "missing"}, DataError, ["missing", "no such folder"]),
        ({"good": "ok", "defect": "missing"}, DataError, ["missing", "defective parts"]),
        ({"good": "ok", "defect": "ng", "masks": "missing"}, DataError, ["missing", "masks"]),
        ({"good": "ok", "defect": "ng", "masks": "stray"}, DataError, ["zzz.png", "no such image"]),
        ({"good": "ok", "defect": "mixed"}, DataError, ["a good part among the defective ones"]),
        ({"good": "ok", "masks": "masks"}, ConfigError, ["masks go with a defect folder"]),
        ({"good": "ok", "root": "."}, ConfigError, ["good doesn't go with root"]),
        ({"root": ".", "category": "x"}, ConfigError, ["root without csv doesn't go with category"]),
        ({"csv": "x.csv", "good": "ok"}, ConfigError, ["csv doesn't go with good"]),
        ({}, ConfigError, ["training needs images of good parts"]),
        ({"defect": "ng"}, ConfigError, ["training needs images of good parts", "ng has only defective ones"]),
        # one folder inside another: defective parts would be trained on
        ({"good": ".", "defect": "ng"}, ConfigError, ["must lie apart"]),
        ({"good": "ok", "defect": "ok"}, ConfigError, ["must lie apart"]),
        ({"good": "ok", "defect": "ng", "masks": "ng/scratch"}, ConfigError, ["must lie apart"]),
    ],
)
def test_what_is_wrong_with_plain_folders_is_said(
    options: dict[str, Any], error: type[Exception], complaint: list[str], plain: Path
) -> None:
    put(plain / "stray/zzz.png")
    put(plain / "mixed/good/0.png")
    paths = {key: plain / value if key != "category" else value for key, value in options.items()}
    with pytest.raises(error) as caught:
        load_dataset(**paths)
    for part in complaint:
        assert part in str(caught.value)


# --- VisA


@pytest.mark.parametrize("give_root", [False, True])
def test_visa_csv(give_root: bool, visa: Path) -> None:
    root = visa.parent.parent
    dataset = load_dataset(root if give_root else None, csv=visa, category="candle")
    assert dataset.name == "candle"
    assert names(dataset.train) == [f"candle/Data/Images/Normal/000{number}.JPG" for number in (1, 2)]
    assert [(s.name, s.defect, s.mask_path) for s in dataset.test] == [
        ("candle/Data/Images/Anomaly/000.JPG", "anomaly", root / "candle/Data/Masks/Anomaly/000.png"),
        ("candle/Data/Images/Anomaly/001.JPG", "anomaly", None),
        ("candle/Data/Images/Normal/0003.JPG", None, None),
    ]


def test_csv_of_one_object_needs_no_category_and_may_lie_beside_its_images(visa: Path) -> None:
    text = "".join(line for line in VISA.splitlines(keepends=True) if not line.startswith("pcb1"))
    beside = visa.parent.parent / "list.csv"
    beside.write_text(text, encoding="utf-8-sig")  # as spreadsheets save it
    assert len(load_dataset(csv=beside).train) == 2


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("object,split", "thing,split", ["1cls.csv", "found no object"]),
        (VISA, "", ["1cls.csv", "found no object, split, label, image, mask"]),
        (VISA, "object,split,label,image,mask\n", ["found none"]),
        (VISA, "object,split,label,image,mask\ncandle\n", ["line 2", "split train or test", "''"]),
        ("candle,", "torch,", ["category", "pcb1, torch", "found candle"]),
        ("candle,train", "candle,val", ["line 2", "'val'"]),
        ("test,anomaly", "test,1", ["line 5", "normal or anomaly", "'1'"]),
        ("test,anomaly", "train,anomaly", ["line 5", "expected good parts in train"]),
        ("candle,train", "candle,test", ["training needs images of good parts", "candle"]),
        ("Normal/0001", "Normal/7777", ["line 3", "7777.JPG"]),
        ("Masks/Anomaly/000", "Masks/Anomaly/777", ["line 5", "777.png"]),
        ("Normal/0003", "Normal/0002", ["found 2 of candle/Data/Images/Normal/0002.JPG"]),
        ("object", '"' + "o" * 200_000, ["is not CSV"]),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(old: str, new: str, complaint: list[str], visa: Path) -> None:
    visa.write_text(VISA.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_dataset(csv=visa, category="candle")
    for part in complaint:
        assert part in str(caught.value)


def test_csv_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: can't be read"):
        load_dataset(csv=tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("object,split,label,image,mask\nPrüfling".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        load_dataset(csv=tmp_path / "latin.csv")


# --- real data


def test_magnetic_tile(shared: Path) -> None:
    dataset = load_dataset(shared / "data" / "magnetic_tile")
    assert dataset.name == "magnetic_tile"
    assert (len(dataset.train), len(dataset.test)) == (761, 583)
    assert sum(sample.mask_path is not None for sample in dataset.test) == 392
    assert Counter(sample.defect for sample in dataset.test) == {
        None: 191,
        "blowhole": 115,
        "break": 85,
        "crack": 57,
        "fray": 32,
        "uneven": 103,
    }


# --- names of good parts, in every layout


GOOD_NAMES = ["Good", "GOOD", "ok", "OK", "Normal", "pass", "i.O.", "good_parts", "defect-free", "no_defect"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_parts_are_recognised_by_any_usual_name(name: str, mvtec: Path, visa: Path) -> None:
    before = load_dataset(mvtec)
    (mvtec / "train/good").rename(mvtec / "train" / name)
    (mvtec / "test/good").rename(mvtec / "test" / name)
    put(mvtec / "ground_truth" / name / "000_mask.png")
    found = load_dataset(mvtec)
    assert [(s.path.name, s.defect) for s in (*found.train, *found.test)] == [
        (s.path.name, s.defect)
        for s in (*before.train, *sorted(before.test, key=lambda s: s.name.replace("good", name)))
    ]
    assert [path.name for path in found.good_masks] == ["000_mask.png"]
    visa.write_text(VISA.replace("normal", name).replace("anomaly", "NG"), encoding="utf-8")
    assert [s.defect for s in load_dataset(csv=visa, category="candle").test] == ["anomaly", "anomaly", None]


@pytest.mark.parametrize("name", ["scratch", "ng", "not_ok", "n.i.O.", "no good", "goodness", "broken_ok_ring"])
def test_other_names_are_defect_classes(name: str, mvtec: Path) -> None:
    put(mvtec / "test" / name / "000.png")
    assert name in {sample.defect for sample in load_dataset(mvtec).test}


def test_train_test_and_ground_truth_in_any_case(mvtec: Path) -> None:
    before = load_dataset(mvtec)
    for old, new in (("train", "Train"), ("test", "TEST"), ("ground_truth", "Ground-Truth")):
        (mvtec / old).rename(mvtec / new)
    found = load_dataset(mvtec)
    assert [s.path.name for s in found.train] == [s.path.name for s in before.train]
    assert [(s.defect, s.mask_path is None) for s in found.test] == [
        (s.defect, s.mask_path is None) for s in before.test
    ]


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        ("test/OK/1.png", ["test: expected one folder of good parts, found OK and good"]),
        ("train/Normal/1.png", ["train: expected one folder of good parts, found Normal and good"]),
        ("Test/scratch/1.png", ["expected one folder test, found Test and test"]),
        ("test/line1/OK/1.png", ["a good part among the defective ones"]),
        ("train/good/NG/1.png", ["a folder NG of defective parts among the good ones"]),
    ],
)
def test_what_may_be_good_or_not_is_refused(stray: str, words: list[str], mvtec: Path) -> None:
    put(mvtec / stray)
    with pytest.raises(DataError) as caught:
        load_dataset(mvtec)
    for part in words:
        assert part in str(caught.value)


def test_good_names_hold_in_plain_folders_too(plain: Path) -> None:
    put(plain / "ng/Normal/0.png")
    with pytest.raises(DataError, match="a good part among the defective ones"):
        load_dataset(good=plain / "ok", defect=plain / "ng")
    put(plain / "ok/reject/0.png")
    with pytest.raises(DataError, match="a folder reject of defective parts among the good ones"):
        load_dataset(good=plain / "ok")


def test_folders_in_no_layout_are_answered_with_the_options_that_take_them(tmp_path: Path) -> None:
    put(tmp_path / "parts/OK/0.png")
    put(tmp_path / "parts/NG/0.png")
    with pytest.raises(DataError, match=r"pass --good .*parts/OK --defect .*parts/NG$"):
        load_dataset(tmp_path / "parts")
    put(tmp_path / "other/a/0.png")
    with pytest.raises(DataError, match=r"--good FOLDER, and --defect FOLDER"):
        load_dataset(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"--data.*--good.*--csv"):
        load_dataset()


# --- what is empty, and only to be tested


@pytest.mark.parametrize("folder", ["test", "ground_truth", "ground_truth/scratch", "test/hole"])
def test_empty_folders_are_taken_with_a_word(folder: str, mvtec: Path) -> None:
    shutil.rmtree(mvtec / folder, ignore_errors=True)
    if folder == "test":
        shutil.rmtree(mvtec / "ground_truth")
    (mvtec / folder).mkdir()
    dataset = load_dataset(mvtec)
    assert len(dataset.train) == 3
    assert bool(dataset.notes) == (folder in ("test", "ground_truth"))
    assert all(str(mvtec / folder) in note for note in dataset.notes)


def test_other_folders_in_train_are_named(mvtec: Path) -> None:
    put(mvtec / "train/scratch/0.png")
    (note,) = load_dataset(mvtec).notes
    assert "only good is used, not scratch" in note


def test_evaluation_needs_no_images_to_train_on(mvtec: Path, visa: Path) -> None:
    whole = load_dataset(mvtec)
    without(mvtec / "train", mvtec)
    assert load_dataset(mvtec, for_training=False).test == whole.test
    text = "\n".join(line for line in VISA.splitlines() if ",train," not in line)
    visa.write_text(text, encoding="utf-8")
    assert len(load_dataset(csv=visa, for_training=False).test) == 3
    without(mvtec / "test", mvtec)
    with pytest.raises(DataError, match="evaluation needs labelled test images"):
        load_dataset(mvtec, for_training=False)


# --- masks


@pytest.mark.parametrize(
    "name",
    ["000", "000_mask", "000_gt", "000_GT", "000_label", "000-mask", "000_seg", "000_ground_truth", "000/000", "000/x"],
)
@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_masks_under_the_names_of_public_datasets(name: str, ending: str, mvtec: Path) -> None:
    mask = put(mvtec / f"ground_truth/scratch/{name}{ending}")
    without(mvtec / "ground_truth/dent", mvtec)
    (mvtec / "ground_truth/scratch/000_mask.png").unlink(missing_ok=name != "000_mask" or ending != ".png")
    put(mask)
    sample = next(s for s in load_dataset(mvtec).test if s.name == "test/scratch/000.png")
    assert sample.mask_path == mask


def test_masks_in_a_folder_of_their_own_belong_together(mvtec: Path, plain: Path) -> None:
    (mvtec / "ground_truth/scratch/000_mask.png").unlink()
    masks = tuple(put(mvtec / f"ground_truth/scratch/000/{number}.png") for number in ("000", "001"))
    found = next(s for s in load_dataset(mvtec).test if s.name == "test/scratch/000.png")
    assert found.mask_paths == masks
    masks = tuple(put(plain / f"masks/dent/deep/a/{number}.png") for number in ("0", "1", "2"))
    (plain / "masks/dent/deep/a_mask.bmp").unlink()
    dataset = load_dataset(good=plain / "ok", defect=plain / "ng", masks=plain / "masks")
    assert next(s for s in dataset.test if s.defect == "dent").mask_paths == masks


def test_a_mask_beside_a_folder_of_masks_is_one_too_many(mvtec: Path) -> None:
    put(mvtec / "ground_truth/scratch/000/0.png")
    with pytest.raises(DataError, match="another mask"):
        load_dataset(mvtec)


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".webp"])
def test_masks_with_smeared_edges_are_taken_with_a_word(ending: str, mvtec: Path) -> None:
    mask = put(mvtec / f"ground_truth/scratch/001{ending}")
    dataset = load_dataset(mvtec)
    assert next(s for s in dataset.test if s.name == "test/scratch/001.png").mask_path == mask
    (note,) = dataset.notes
    assert f"scratch/001{ending}" in note
    assert "save masks as PNG" in note


# --- lists as spreadsheets and Windows write them


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("object,split", "Object, Split"),
        lambda text: text.replace("train,", "Train,"),
    ],
    ids=["semicolons", "tabs", "backslashes", "line ends", "column names", "splits"],
)
def test_a_csv_from_a_spreadsheet_is_the_same_dataset(edit: Callable[[str], str], visa: Path) -> None:
    expected = load_dataset(csv=visa, category="candle")
    visa.write_text(edit(VISA), encoding="utf-8", newline="")
    assert load_dataset(csv=visa, category="candle") == expected


def test_a_path_with_backslashes_that_is_not_there_is_explained(visa: Path) -> None:
    visa.write_text(VISA.replace("candle/Data/Images/Normal/0001", "C:\\Data\\Normal\\0001"), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: no file .*paths start at .*with / between folders"):
        load_dataset(csv=visa, category="candle")
