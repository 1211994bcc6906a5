"""The codec, against Triton's own client: what that writes is read, and what is written that reads."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from simplenet_edge.serving.protocol import InferRequest, Output, Refused, encode_response, json_limit, read_request
from simplenet_edge.spec import Prediction

HW, MOST = (4, 6), 3

frames_of_clients = st.integers(1, MOST).flatmap(lambda n: arrays.arrays(np.uint8, (n, *HW, 3)))
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
predictions = st.integers(1, MOST).flatmap(
    lambda n: st.tuples(
        arrays.arrays(np.float32, (n,), elements=floats), arrays.arrays(np.float32, (n, *HW), elements=floats)
    )
)
wanted = st.lists(st.builds(Output, st.sampled_from(["score", "map"]), st.booleans()), unique_by=lambda o: o.name)


def written(
    frames: np.ndarray[Any, Any], outputs: list[Output], binary: bool, request_id: str
) -> tuple[bytes, str | None]:
    """A request as Triton's client writes it: the body, and the header that says how long its JSON is."""
    tensor = triton.InferInput("frames", list(frames.shape), "UINT8")
    tensor.set_data_from_numpy(frames, binary_data=binary)
    asked = [triton.InferRequestedOutput(one.name, binary_data=one.is_binary) for one in outputs]
    body, length = triton.InferenceServerClient.generate_request_body([tensor], asked or None, request_id)
    return bytes(body if isinstance(body, bytes) else body.encode()), None if length is None else str(length)


@given(frames_of_clients, wanted, st.booleans(), st.text(max_size=5))
def test_what_the_client_writes_is_read(
    frames: np.ndarray[Any, Any], outputs: list[Output], binary: bool, request_id: str
) -> None:
    asked = read_request(*written(frames, outputs, binary, request_id), HW, MOST)
    np.testing.assert_array_equal(asked.frames, frames)
    assert asked.outputs == (tuple(outputs) or (Output("score", True), Output("map", True)))
    assert (asked.id or "") == request_id


@given(predictions, wanted.filter(bool), st.none() | st.text(max_size=5))
def test_what_is_written_the_client_reads(
    prediction: tuple[Any, Any], outputs: list[Output], request_id: str | None
) -> None:
    asked = InferRequest(request_id, np.zeros((1, *HW, 3), np.uint8), tuple(outputs))
    pieces, length = encode_response(asked, Prediction(*prediction), "part", "2", {"threshold": 1.5})
    result = triton.InferenceServerClient.parse_response_body(b"".join(pieces), header_length=length)
    for name, expected in zip(("score", "map"), prediction, strict=True):
        if name in [one.name for one in outputs]:
            np.testing.assert_array_equal(result.as_numpy(name), expected)
        else:
            assert result.get_output(name) is None
    about = result.get_response()
    assert (about["model_name"], about["model_version"], about.get("id")) == ("part", "2", request_id)
    assert about["parameters"] == {"threshold": 1.5}


def test_frames_are_a_view_of_the_body() -> None:
    body, length = written(np.zeros((2, *HW, 3), np.uint8), [], True, "")
    frames = read_request(body, length, HW, MOST).frames
    assert np.shares_memory(frames, np.frombuffer(body, np.uint8))


GOOD: dict[str, Any] = {"name": "frames", "datatype": "UINT8", "shape": [1, *HW, 3], "data": [7] * 72}
NESTED = np.full((1, *HW, 3), 7).tolist()


def test_data_may_be_nested() -> None:
    body = json.dumps({"inputs": [GOOD | {"data": NESTED}]}).encode()
    assert (read_request(body, None, HW, MOST).frames == 7).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": [MOST + 1, *HW, 3]}, "B from 1 to 3"),
        ({"shape": [0, *HW, 3]}, "B from 1 to 3"),
        ({"shape": [-1, *HW, 3]}, "B from 1 to 3"),
        ({"shape": [2**62, 2**62, 2**62, 3]}, "of the shape"),
        ({"shape": [10**4000, *HW, 3]}, "B from 1 to 3"),
        ({"shape": [1, *HW]}, "of the shape"),
        ({"shape": [1, HW[1], HW[0], 3]}, "of the shape"),
        ({"shape": [True, *HW, 3]}, "of the shape"),
        ({"shape": [1.0, *HW, 3]}, "of the shape"),
        ({"shape": None}, "of the shape"),
        ({"shape": "1463"}, "of the shape"),
        ({"datatype": "FP32"}, "as UINT8, found 'FP32'"),
        ({"datatype": ["UINT8"]}, "as UINT8"),
        ({"name": "image"}, "one input, frames, found 'image'"),
        ({"name": ["frames"]}, "the name of each of inputs as text"),
        ({"data": [7] * 71}, "72 whole numbers"),
        ({"data": [7] * 73}, "72 whole numbers"),
        ({"data": [256] + [7] * 71}, "from 0 to 255"),
        ({"data": [-1] + [7] * 71}, "from 0 to 255"),
        ({"data": [7.5] + [7] * 71}, "whole numbers"),
        ({"data": [True] * 72}, "whole numbers"),
        ({"data": ["7"] * 72}, "whole numbers"),
        ({"data": [None] * 72}, "whole numbers"),
        ({"data": [[]] * 72}, "other lists"),
        ({"data": NESTED[0]}, "other lists"),
        ({"data": [[[[7, 7, 7]] * 6] * 3 + [[[7, 7]] * 6]]}, "other lists"),
        ({"data": []}, "whole numbers"),
        ({"data": {}}, "whole numbers"),
        ({"data": None}, "whole numbers"),
        ({"data": 10**4000}, "whole numbers"),
        ({"parameters": []}, "as a JSON object"),
        ({"parameters": {"binary_data_size": 72}}, "found both"),
        ({"parameters": {"shared_memory_region": "x"}}, "not offered"),
    ],
)
def test_inputs_that_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused, match=text) as caught:
        read_request(json.dumps({"inputs": [GOOD | change]}).encode(), None, HW, MOST)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "the request as a JSON object"),
        ({}, "inputs as a list"),
        ({"inputs": {}}, "inputs as a list"),
        ({"inputs": []}, "one input, frames, found none"),
        ({"inputs": [7]}, "each of inputs as a JSON object"),
        ({"inputs": [GOOD, GOOD]}, "'frames' twice"),
        ({"inputs": [GOOD, GOOD | {"name": "\ud800"}]}, r"found 'frames', '\\ud800'"),
        ({"inputs": [GOOD], "id": 7}, "id as text"),
        ({"inputs": [GOOD], "parameters": 7}, "as a JSON object"),
        ({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, "as true or false"),
        ({"inputs": [GOOD], "outputs": 7}, "outputs as a list"),
        ({"inputs": [GOOD], "outputs": [{"name": "label"}]}, "outputs score or map, found 'label'"),
        ({"inputs": [GOOD], "outputs": [{"name": "map"}, {"name": "map"}]}, "'map' twice"),
        ({"inputs": [GOOD], "outputs": [{"name": "map", "parameters": {"binary_data": "yes"}}]}, "true or false"),
        ({"inputs": [GOOD], "outputs": [{"name": "map", "parameters": {"classification": 1}}]}, "not offered"),
    ],
)
def test_requests_that_are_refused(values: Any, text: str) -> None:
    with pytest.raises(Refused, match=text):
        read_request(json.dumps(values).encode(), None, HW, MOST)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"[" * 60_000, "expected JSON"),
        (b'{"a":' * 12_000, "expected JSON"),
        (b"\xff\xfe", "UTF-8"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"inputs": NaN}', "NaN is no number"),
        (b'{"inputs": -Infinity}', "is no number"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "expected JSON|inputs as a list"),
    ],
)
def test_bodies_that_are_no_json(body: bytes, text: str) -> None:
    with pytest.raises(Refused, match=text):
        read_request(body, None, HW, MOST)


@pytest.mark.parametrize("length", ["", "-1", "0", "x", "1e2", "99999", "9" * 5000, "²", " 1", "+1"])
def test_lengths_that_lie(length: str) -> None:
    body, _ = written(np.zeros((1, *HW, 3), np.uint8), [], True, "")
    with pytest.raises(Refused, match="the length of the JSON"):
        read_request(body, length, HW, MOST)


@pytest.mark.parametrize("size", [-1, 0, 71, 73, 2**70, 72.0, True, "72", None])
def test_binary_sizes_that_lie(size: Any) -> None:
    head = json.dumps({"inputs": [{**GOOD, "parameters": {"binary_data_size": size}}]}).replace(
        ', "data": ' + str([7] * 72), ""
    )
    assert 'data"' not in head
    with pytest.raises(Refused, match=r"bytes after the JSON|no binary_data_size"):
        read_request(head.encode() + bytes(72), str(len(head)), HW, MOST)


@pytest.mark.parametrize("n_bytes", [0, 71, 73])
def test_bytes_that_are_too_few_or_too_many(n_bytes: int) -> None:
    body, length = written(np.zeros((1, *HW, 3), np.uint8), [], True, "")
    with pytest.raises(Refused, match=f"72 bytes after the JSON, .* found {n_bytes} and"):
        read_request(body[: int(str(length))] + bytes(n_bytes), length, HW, MOST)


def test_json_that_is_too_long() -> None:
    limit = json_limit(HW, MOST)
    body = json.dumps({"inputs": [GOOD], "id": "x" * limit}).encode()
    with pytest.raises(Refused, match="binary tensor") as caught:
        read_request(body, None, HW, MOST)
    assert caught.value.status == 413
    assert json_limit((4000, 4000), 8) < 17 * 2**20


@given(st.binary(max_size=200), st.none() | st.text(max_size=5))
def test_whatever_comes_is_read_or_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(Refused):
        read_request(body, length, HW, MOST)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, "parameters"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), json_values)
def test_whatever_stands_in_a_field_is_read_or_refused(key: str, value: Any) -> None:
    body = json.dumps({"inputs": [GOOD | {key: value}]}, allow_nan=False).encode()
    with suppress(Refused):
        assert read_request(body, None, HW, MOST).frames.shape == (1, *HW, 3)
