"""Which images show the same part: each form of `--group`, its errors, and the split that follows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simplenet_edge.data.facts import gather_facts
from simplenet_edge.data.groups import absolute_group, check_group, joined, known_labels, labels_by_name, part_labels
from simplenet_edge.data.reading import split_good
from simplenet_edge.data.samples import Sample
from simplenet_edge.errors import ConfigError, DataError
from tests.data.test_reading import good_samples


def named(*names: str) -> list[Sample]:
    return [Sample(Path("/somewhere") / name, name=name) for name in names]


def listed(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "parts.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# --- by name


@pytest.mark.parametrize(
    ("group", "names", "labels"),
    [
        ("none", ["train/good/a.png", "train/good/b.png"], ["train/good/a.png", "train/good/b.png"]),
        (r"part(\d+)_", ["train/good/part7_0.png", "train/good/part7_1.png", "x/part8_0.png"], ["7", "7", "8"]),
        (r"good/([^/]+)/", ["train/good/a/1.png", "train/good/b/1.png"], ["a", "b"]),  # the whole path is looked at
        (r"^(?:train|test)/good/(.)", ["train/good/x1.png", "test/good/x2.png"], ["x", "x"]),
        (r"()", ["a.png", "b.png"], ["", ""]),
        ("folder", ["train/good/p1/a.png", "test/good/p1/b.png", "good/p2/a.png"], ["p1", "p1", "p2"]),
        ("folder", ["train/good/a.png", "train/good/b.png", "train/good/p/a.png"], ["", "", "p"]),
        ("folder", ["train/OK/lot 1/p1/a.png", "train/OK/lot 2/p1/a.png"], ["lot 1/p1", "lot 2/p1"]),
    ],
)
def test_parts_by_name(group: str, names: list[str], labels: list[str]) -> None:
    assert labels_by_name(named(*names), group) == labels


def test_auto_says_nothing_of_names() -> None:
    assert labels_by_name(named("a.png"), "auto") is None


def test_a_defective_image_is_of_the_part_of_its_folder() -> None:
    scratched = Sample(Path("a.png"), "scratch", name="test/scratch/p1/a.png")
    assert known_labels([scratched, *named("test/good/a.png")], "folder") == {"test/scratch/p1/a.png": "p1"}


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("folders", "expected auto, none, folder, .*found 0 groups"),  # a slip of the pen is no pattern
        ("", "found 0 groups"),
        (r"(a)(b)", "found 2 groups"),
        (r"part(\d+", "no regular expression"),
        (r"(*)", "no regular expression"),
        (r"(a{99999999999999999999})", "no regular expression"),
    ],
)
def test_what_can_be_no_group_is_refused(group: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_group(group)


@pytest.mark.parametrize(
    "pattern",
    [r"part(\d+)", r"(part\d+)|cover"],  # the second is found, but gives no part
)
def test_images_that_a_pattern_does_not_match_are_named(pattern: str) -> None:
    samples = named("part1.png", *(f"cover{i}.png" for i in range(5)))
    with pytest.raises(ConfigError, match=r"not in 5 of 6, cover0.png, cover1.png, cover2.png and 2 more; widen it"):
        labels_by_name(samples, pattern)


# --- by a list


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("image,part\ntrain/good/a.png,1\ntrain/good/b.png,1\ntrain/good/c.png,2\n", ""),
        ("Path;Group\r\ntrain\\good\\a.png;1\r\ntrain\\good\\b.png;1\r\ntrain\\good\\c.png;2\r\n", ""),
        ("serial\tfile\n1\ta.png\n1\tb.png\n2\tc.png\n", ":serial"),
        ("\ufeffname, part ,other\na.png, 1 ,x\nelsewhere/b.png,1,x\n./train/good/c.png,2,x\nmore.png,3,x\n", ":part"),
        ("image,part,lot\na.png,,1\na.png,1,1\nb.png,1,2\nc.png,2,2\n", ""),  # a row without a part says nothing
    ],
)
def test_parts_by_a_list(text: str, column: str, tmp_path: Path) -> None:
    samples = named("train/good/a.png", "train/good/b.png", "train/good/c.png")
    assert labels_by_name(samples, listed(tmp_path, text) + column) == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("image,part\na.png,1\n", "", r"none for 2 of 3, y/a\.png, z/b\.png; add"),  # two are called a.png
        ("image,part\nx/a.png,1\ny/a.png,1\n", "", r"none for 1 of 3, z/b\.png"),
        ("image,part\nx/a.png,1\ny/a.png,1\nk/b.png,1\nl/b.png,1\n", "", r"none for 1 of 3, z/b\.png"),
        ("image,part\nx/a.png,1\nx/a.png,2\n", "", r"line 3: expected one part for x/a\.png, found 1 and 2"),
        ("picture,part\na.png,1\n", "", "column image or path or name or file, found picture, part"),
        ("image,serial\na.png,1\n", "", "column part or group, found image, serial; name the column"),
        ("image,part\na.png,1\n", ":serial", "column serial, found image, part"),
        ("", "", "found none"),
        (b"image,part\n\xff\xfe,1\n", "", "can't be read as CSV in UTF-8"),
        ("image,part\n" + "a" * 200_000 + ",1\n", "", "can't be read as CSV"),
    ],
)
def test_lists_that_do_not_say_it(text: str | bytes, column: str, words: str, tmp_path: Path) -> None:
    samples = named("x/a.png", "y/a.png", "z/b.png")
    if "none for 2 of 3" in words:
        samples = [*named("y/a.png", "z/b.png"), Sample(Path("/x/a.png"), name="a.png")]
    with pytest.raises(DataError, match=words):
        labels_by_name(samples, listed(tmp_path, text) + column)


@pytest.mark.parametrize("made", ["nothing", "folder"])
def test_a_list_that_is_no_file(made: str, tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    if made == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=r"parts\.csv: expected a CSV file"):
        labels_by_name(named("a.png"), str(path))


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(DataError, match=r"\.csv: (expected a CSV file|can't be read)"):
        labels_by_name(named("a.png"), "x" * 5000 + ".csv")


def test_a_list_is_remembered_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_group("parts.csv:serial") == f"{tmp_path}/parts.csv:serial"
    assert absolute_group("parts.CSV") == f"{tmp_path}/parts.CSV"
    assert absolute_group(r"part(\d+)") == r"part(\d+)"


# --- copies, and the split


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), max_size=12))
def test_joined_labels_are_the_same_where_either_is(pairs: list[tuple[str, str]]) -> None:
    labels, others = [one for one, _ in pairs], [two for _, two in pairs]
    found = joined(labels, others)
    reach = {
        i: {j for j, pair in enumerate(pairs) if pair[0] == labels[i] or pair[1] == others[i]}
        for i in range(len(pairs))
    }
    for i in reach:
        connected = {i}
        while (more := set().union(*(reach[j] for j in connected))) > connected:
            connected = more
        assert {j for j in range(len(pairs)) if found[j] == found[i]} == connected


@pytest.mark.parametrize("group", ["none", "auto", r"(\d+)\.png"])
def test_copies_show_one_part_whatever_is_said(group: str, tmp_path: Path) -> None:
    labels, _ = part_labels(gather_facts(good_samples(tmp_path, [0, 1, 0, 2, 0])), group)
    assert [label == labels[0] for label in labels] == [True, False, True, False, True]
    assert len(set(labels)) == 3


@given(
    parts=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=14),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 3),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_part_is_on_both_sides(parts: list[str], share: float, seed: int, tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(len(parts)))
    if len(set(parts)) < 2:
        with pytest.raises(DataError, match=f"at least 2 good parts.* found {len(parts)} of one part"):
            split_good(samples, share, seed, parts=parts)
        return
    split = split_good(samples, share, seed, parts=parts)
    part_of = dict(zip((sample.name for sample in samples), parts, strict=True))
    train, calibration = ({part_of[sample.name] for sample in side} for side in (split.train, split.calibration))
    assert train
    assert calibration
    assert train.isdisjoint(calibration)
    assert len(split.train) + len(split.calibration) == len(samples)
    assert len(calibration) <= max(round(share * len(set(parts))), 1)


def test_copies_of_two_parts_make_them_one_in_the_split(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, [0, 1, 1, 2, 3, 4])
    for seed in range(6):
        split = split_good(samples, 0.3, seed, parts=["a", "a", "b", "b", "c", "d"])
        assert len({sample in split.calibration for sample in samples[:4]}) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_half_of_the_parts_go_to_calibration_where_that_is_asked(size: int, tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(10 * size))
    split = split_good(samples, 0.5, parts=[str(i // size) for i in range(10 * size)])
    assert len(split.calibration) == 5 * size


def test_images_of_their_own_are_split_as_without_parts(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(30))
    for seed in range(4):
        assert split_good(samples, 0.3, seed, parts=[str(i) for i in range(30)]) == split_good(samples, 0.3, seed)


def test_the_split_does_not_depend_on_labels(tmp_path: Path) -> None:
    samples = good_samples(tmp_path, range(20))
    by_number = split_good(samples, 0.3, parts=[str(i // 2) for i in range(20)])
    assert split_good(samples, 0.3, parts=[f"x{97 - i // 2}" for i in range(20)]) == by_number


def test_options_need_nothing_heavy() -> None:
    code = "import sys, simplenet_edge.data.groups; sys.exit('numpy' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
