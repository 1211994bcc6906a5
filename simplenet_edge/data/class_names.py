"""Names of classes: which folders and labels mean good parts and which defective ones, in every layout alike."""

from __future__ import annotations

import re

__all__ = ["is_bad_name", "is_good_name"]

_GOOD = re.compile(
    "accept(ed)?|conforming|(defect|fault)free|good|gut|io|no(n)?defect(s|ive)?|nominal|normal|ok(ay)?|pass(ed)?"
)
_BAD = re.compile(
    "abnormal|anomal(y|ies|ous)|bad|defect(s|ive)?|fail(ed)?|faulty|ko|nio|ng|nok|no(t)?(good|ok)|reject(s|ed)?|"
    "schlecht"
)
_FILLERS = frozenset({"class", "image", "images", "part", "parts", "sample", "samples"})


def is_good_name(name: str) -> bool:
    """Whether a folder or a label of this name means good parts: `good`, `OK`, `Normal`, `i.O.`, `good_parts`, ..."""
    return _GOOD.fullmatch(_plain(name)) is not None


def is_bad_name(name: str) -> bool:
    """Whether it means defective parts of no particular class: `NG`, `defect`, `n.i.O.`, ..."""
    return _BAD.fullmatch(_plain(name)) is not None


def _plain(name: str) -> str:
    return "".join(word for word in re.split(r"[\W_]+", name.casefold()) if word not in _FILLERS)
