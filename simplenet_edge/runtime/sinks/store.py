"""Pictures kept for learning: what the camera gave of the frames that the next model can learn most from."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import cv2

from simplenet_edge.errors import ConfigError
from simplenet_edge.runtime.detector import Detection
from simplenet_edge.runtime.records import FrameResult
from simplenet_edge.runtime.sinks.kept_files import KeptFiles, PictureSink, stem

__all__ = ["PictureStore", "Why", "kept_name"]

Why = Literal["ng", "invalid", "borderline", "sample"]
"""Why a picture is kept; the first that applies of INVALID, NG, an OK near the threshold, one OK of many."""

_FOLDERS: dict[Why, str] = {"invalid": "invalid", "sample": "ok", "borderline": "borderline", "ng": "ng"}


class PictureStore(PictureSink):
    """Keeps the pixels that were inspected as PNG, uint8 `(H, W, 3)` BGR, and beside each its record as JSON.

    The record is `FrameResult.to_dict()` and `why`. The files are called as `kept_files.stem` says, by the part's id or
    else the frame's name, after the camera; they lie in `folder/ng`, `/invalid`, `/borderline` and `/ok`. A frame
    without a picture is not kept.

    Kept are all NG, all INVALID, the OK frames whose score is closer to the threshold than `margin` of the way from the
    median of good scores to it, and of the other ones the share `ok_share`, drawn by `seed`, the camera and the frame's
    number alone: scores have no part in it. Without a `seed` each run draws anew.

    `quota_bytes`, `min_free_bytes`, `source_folders` and what is deleted first are as in `KeptFiles`; kinds that have
    equally many lose INVALID first, then OK, borderline, NG.
    """

    def __init__(
        self,
        folder: Path,
        source_folders: Collection[Path] = (),
        *,
        ok_share: float = 0.01,
        margin: float = 0.1,
        seed: int | None = None,
        quota_bytes: int | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        if not (0 <= ok_share <= 1 and 0 <= margin <= 1):
            raise ConfigError(f"ok_share and margin are shares from 0 to 1, not {ok_share} and {margin}")
        files = KeptFiles(
            folder,
            "picture",
            source_folders,
            kinds=tuple(_FOLDERS.values()),
            has_records=True,
            quota_bytes=quota_bytes,
            min_free_bytes=min_free_bytes,
        )
        super().__init__(f"pictures in {folder}", files)
        self._ok_share, self._margin = ok_share, margin
        self._seed = secrets.randbits(64) if seed is None else seed

    def wants(self, result: FrameResult) -> bool:
        """Whether the frame is kept, so that no other takes a place in the queue."""
        return self._why(result) is not None

    def write(self, result: FrameResult) -> None:
        """Write the picture and the record of a frame that is kept."""
        why, image = self._why(result), result.record.picture
        if why is None or image is None:
            return
        # Without a level OpenCV packs fastest: no search for repeats, as small as level 1 in half the time.
        encoded, png = cv2.imencode(".png", image)
        assert encoded
        record = json.dumps({**result.to_dict(), "why": why}, indent=2, allow_nan=False) + "\n"
        folder, _, name = kept_name(result, why).partition("/")
        self._files.write(folder, name, {".json": record.encode(), ".png": png.tobytes()})

    def _why(self, result: FrameResult) -> Why | None:
        if result.record.picture is None:
            return None
        if result.verdict == "INVALID" or result.detection is None:
            return "invalid"
        if result.verdict == "NG":
            return "ng"
        if _is_borderline(result.detection, self._margin):
            return "borderline"
        return "sample" if self._is_drawn(result) else None

    def _is_drawn(self, result: FrameResult) -> bool:
        """Whether an OK frame is one of the random share; the same answer whenever asked."""
        record = result.record
        drawn = hashlib.blake2b(f"{self._seed} {record.frame_id} {record.camera}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") < self._ok_share * 2**64


def kept_name(result: FrameResult, why: Why) -> str:
    """Where the picture of a result lies in the folder, without its ending: `ng/20261128T...`."""
    about = result.record
    name = "-".join(filter(None, (about.camera, about.part.id or about.name)))
    return f"{_FOLDERS[why]}/{stem(result, name)}"


def _is_borderline(detection: Detection, margin: float) -> bool:
    """Whether the score of an OK frame is close below the threshold; the same for scores of any scale and offset.

    Where a person has set the threshold at or below the median of good scores, none is.
    """
    return detection.threshold - detection.score < margin * (detection.threshold - detection.normal_level)
