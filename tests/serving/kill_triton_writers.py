"""Kill a writer of Triton repositories before each of its steps in turn, and look at what is there. Prints JSON."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from simplenet_edge.serving.triton_repository import write_model
from simplenet_edge.spec import OperatingPoint
from tests.bundles import write_tiny_bundle
from tests.faults import killed_at


def files_of(version: Path) -> dict[str, bytes]:
    return {str(path.relative_to(version)): path.read_bytes() for path in version.rglob("*") if path.is_file()}


found: Counter[str] = Counter()
with tempfile.TemporaryDirectory() as scratch:
    place = Path(scratch)
    first = write_tiny_bundle(place / "first")
    second = write_tiny_bundle(place / "second", operating_point=OperatingPoint(20.0, 0.05, 40, True))
    whole = place / "whole"
    expected = {
        write_model(one, whole, name="part").name: files_of(whole / "part" / n)
        for one, n in ((first, "1"), (second, "2"))
    }
    step = 0
    while True:
        repository = place / str(step)
        write_model(first, repository, name="part")
        if not killed_at(step, partial(write_model, second, repository, name="part")):
            break
        model = repository / "part"
        assert [path.name for path in repository.iterdir()] == ["part"]
        versions = {path.name: files_of(path) for path in model.iterdir() if path.name.isdecimal()}
        assert versions == {number: expected[number] for number in versions}
        assert "1" in versions
        config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        assert config.parameters["bundle_id"].string_value in (first.id, second.id)
        found["new" if "2" in versions else "old"] += 1
        assert write_model(second, repository, name="part").name == "2"
        assert (model / "config.pbtxt").read_bytes() == (whole / "part" / "config.pbtxt").read_bytes()
        step += 1
print(json.dumps(found))  # noqa: T201
