"""What any server of the protocol must do for a bundle: asked through Triton's own client."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from simplenet_edge.bundle import Bundle
from simplenet_edge.comparison import map_scale
from simplenet_edge.spec import Frames, Prediction
from tests.waiting import SOON_S


def client_of(url: str) -> triton.InferenceServerClient:
    """A client of one thread."""
    return triton.InferenceServerClient(
        url.removeprefix("http://").rstrip("/"), connection_timeout=SOON_S, network_timeout=SOON_S
    )


def infer(
    client: triton.InferenceServerClient,
    model: str,
    frames: Frames,
    *,
    binary: bool = True,
    outputs: tuple[str, ...] = ("score", "map"),
    **options: Any,
) -> triton.InferResult:
    tensor = triton.InferInput("frames", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames, binary_data=binary)
    asked = [triton.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    return client.infer(model, [tensor], outputs=asked, **options)


def require_bundle(url: str, model: str, bundle: Bundle) -> None:
    """See that a server gives what a bundle says of its golden frames, alone and in batches, to many at once."""
    frames, golden = bundle.golden()
    tolerance = bundle.record().tolerance * map_scale(golden)

    def require(result: triton.InferResult, rows: slice) -> None:
        for name, expected in zip(("score", "map"), Prediction(golden.score[rows], golden.map[rows]), strict=True):
            found = result.as_numpy(name)
            assert found.dtype == np.float32
            assert len(found) == len(expected)
            np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=tolerance)

    client = client_of(url)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    about = client.get_model_metadata(model)
    height, width = bundle.frame_hw
    assert about["inputs"] == [{"name": "frames", "datatype": "UINT8", "shape": [-1, height, width, 3]}]
    assert [(one["name"], one["datatype"]) for one in about["outputs"]] == [("score", "FP32"), ("map", "FP32")]
    for binary in (True, False):
        require(infer(client, model, frames, binary=binary), slice(None))
        require(infer(client, model, frames[1:2], binary=binary), slice(1, 2))
    only = infer(client, model, frames, outputs=("score",))
    assert only.get_output("map") is None

    for model_name, wrong in ((model, frames[:, 1:]), (model, np.repeat(frames, 9, axis=0)), ("absent", frames)):
        with pytest.raises(InferenceServerException):
            infer(client, model_name, wrong)

    failures: list[BaseException] = []

    def ask(row: int) -> None:
        try:
            client = client_of(url)
            for _ in range(5):
                require(infer(client, model, frames[row : row + 1], request_id=str(row)), slice(row, row + 1))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number % len(frames),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
