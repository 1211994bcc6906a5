"""The tiny bundle, and folders of parts to inspect with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from tests.bundles import even_frames, with_spot


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with good parts 1, 2 and 10, a part 3 with a spot, a file 4 that is no image, and a note."""
    folder = tmp_path / "parts"
    (folder / "late").mkdir(parents=True)
    good = even_frames(4)
    for name, image in (
        ("part1.png", good[0]),
        ("part2.png", good[1]),
        ("part3.png", with_spot(good)[2]),
        ("late/part10.png", good[3]),
    ):
        assert cv2.imwrite(str(folder / name), image)
    (folder / "part4.jpg").write_bytes(b"not an image")
    (folder / "note.txt").write_text("not a part")
    return folder
