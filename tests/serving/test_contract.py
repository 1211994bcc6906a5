"""One test for two servers: ours, and a real Triton with the repository that we write for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.onnxruntime import OnnxRuntimeEngine
from simplenet_edge.serving.server import ModelServer
from simplenet_edge.serving.triton_repository import write_model
from simplenet_edge.spec import OperatingPoint
from tests.bundles import even_frames, write_tiny_bundle
from tests.serving.clients import client_of, infer, require_bundle
from tests.serving.triton_server import TritonServer


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    point = OperatingPoint(20.0, 0.05, 40, True)
    return write_tiny_bundle(tmp_path_factory.mktemp("newer") / "tiny", operating_point=point)


@pytest.fixture(scope="module", params=["ours", "triton"])
def url(
    request: pytest.FixtureRequest, bundle: Bundle, newer: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Two versions of a model `part`, and one of `tiny`."""
    models = [("part", bundle), ("part", newer), ("tiny", bundle)]
    if request.param == "ours":
        with (
            OnnxRuntimeEngine(bundle, threads=1) as first,
            OnnxRuntimeEngine(newer, threads=1) as second,
            OnnxRuntimeEngine(bundle, threads=1) as other,
            ModelServer([("part", first), ("part", second), ("tiny", other)], port=0) as server,
        ):
            yield server.url
        return
    repository = tmp_path_factory.mktemp("triton") / "repository"
    for name, one in models:
        write_model(one, repository, name=name)
    triton = TritonServer(repository, repository.parent)
    triton.start()
    yield triton.url
    triton.kill()


def test_golden_frames_score_as_in_verify(url: str, bundle: Bundle) -> None:
    require_bundle(url, "tiny", bundle)


def test_versions(url: str, newer: Bundle) -> None:
    require_bundle(url, "part", newer)
    client = client_of(url)
    assert client.get_model_metadata("part")["versions"] == ["1", "2"]
    for version, answered in (("", "2"), ("1", "1"), ("2", "2")):
        assert client.is_model_ready("part", version)
        found = infer(client, "part", even_frames(1), model_version=version)
        assert found.get_response()["model_version"] == answered
    found = {(one["name"], one["version"]) for one in client.get_model_repository_index()}
    assert found == {("part", "1"), ("part", "2"), ("tiny", "1")}
