"""Names of classes: which folders and labels mean good parts and which defective ones, in every layout alike."""

from __future__ import annotations

import re

__all__ = ["is_bad_name", "is_good_name"]

_GOOD = frozenset(
    [
        "accept",
        "accepted",
        "conforming",
        "defectfree",
        "faultfree",
        "good",
        "gut",
        "io",
        "nodefect",
        "nodefects",
        "nominal",
        "nondefective",
        "normal",
        "ok",
        "okay",
        "pass",
        "passed",
    ]
)
_BAD = frozenset(
    [
        "abnormal",
        "anomalous",
        "anomalies",
        "anomaly",
        "bad",
        "defect",
        "defective",
        "defects",
        "fail",
        "failed",
        "faulty",
        "ko",
        "ng",
        "nio",
        "nogood",
        "nok",
        "notgood",
        "notok",
        "reject",
        "rejected",
        "rejects",
        "schlecht",
    ]
)
_FILLERS = frozenset(["class", "image", "images", "part", "parts", "sample", "samples"])


def is_good_name(name: str) -> bool:
    """Whether a folder or a label of this name means good parts: `good`, `OK`, `Normal`, `i.O.`, `good_parts`, ..."""
    return _plain(name) in _GOOD


def is_bad_name(name: str) -> bool:
    """Whether it means defective parts of no particular class: `NG`, `defect`, `n.i.O.`, ..."""
    return _plain(name) in _BAD


def _plain(name: str) -> str:
    return "".join(word for word in re.split(r"[\W_]+", name.casefold()) if word not in _FILLERS)
