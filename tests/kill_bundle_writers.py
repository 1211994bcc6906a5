"""Kill a writer of bundles before each of its steps in turn, and count what is at the path then. Prints JSON."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from simplenet_edge.bundle import Bundle, write_bundle
from tests.bundles import tiny_files, tiny_manifest
from tests.faults import killed_at

found: dict[str, Counter[str]] = {}
files = tiny_files()
with tempfile.TemporaryDirectory() as folder:
    for kind in ("tiny", "tiny.zip"):
        found[kind] = Counter()
        path, step = Path(folder, kind), 0
        while True:
            write_bundle(path, tiny_manifest(name="old"), files, overwrite=True)
            if not killed_at(step, partial(write_bundle, path, tiny_manifest(name="new"), files, overwrite=True)):
                break
            found[kind][Bundle(path).manifest.name] += 1
            step += 1
print(json.dumps(found))  # noqa: T201
