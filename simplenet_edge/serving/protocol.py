"""The bodies of KServe's Open Inference Protocol (v2), with Triton's binary tensors.

In: `frames` UINT8 (B, H, W, 3) BGR. Out, whichever were asked for: `score` FP32 (B,) and `map` FP32 (B, H, W). A tensor
stands in the JSON, flat or nested, or as raw little-endian bytes after it, in the order of the tensors; the header
`Inference-Header-Content-Length` then says how long the JSON is. Bytes are never copied: frames are a view of the body.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from simplenet_edge.contract import FRAMES, MAP, SCORE
from simplenet_edge.spec import Frames, Prediction

__all__ = ["HEADER_LENGTH", "InferRequest", "Output", "Refused", "encode_response", "json_limit", "read_request"]

HEADER_LENGTH = "inference-header-content-length"
_JSON_BYTES = 64 * 2**10  # beside the data of tensors
_BYTES_A_VALUE = 6  # of a pixel in JSON: "255, " and its share of the brackets
_MOST_DATA_BYTES = 16 * 2**20  # of tensors in JSON, which take many times as much when they are read
_MOST_DIGITS = 18


class Refused(Exception):
    """A request that is not served; `status` is the HTTP code that says so."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Output:
    """A tensor that the client wants: its name, and whether as bytes."""

    name: str
    is_binary: bool


@dataclass(frozen=True, eq=False)
class InferRequest:
    """Frames uint8 `(B, H, W, 3)` BGR, which are a view of the body, and what is wanted of them."""

    id: str | None
    frames: Frames
    outputs: tuple[Output, ...]


def json_limit(frame_hw: tuple[int, int], max_batch: int) -> int:
    """The most bytes that the JSON of a request may have."""
    values = max_batch * math.prod(frame_hw) * 3
    return min(values * _BYTES_A_VALUE, _MOST_DATA_BYTES) + _JSON_BYTES


def read_request(body: bytes, header_length: str | None, frame_hw: tuple[int, int], max_batch: int) -> InferRequest:
    """The request in a body; `header_length` is the text of the header of that name, None where there is none.

    Raises Refused.
    """
    length = len(body) if header_length is None else _header_length(header_length, len(body))
    if length > (most := json_limit(frame_hw, max_batch)):
        raise Refused(f"expected at most {most} bytes of JSON, found {length}; send the frames as a binary tensor", 413)
    values = _object(_parse(body[:length] if length < len(body) else body), "the request")
    binary = memoryview(body)[length:]
    request_id = values.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise Refused(f"expected id as text, found {reprlib.repr(request_id)}")
    frames = _frames(values.get("inputs"), binary, frame_hw, max_batch)
    return InferRequest(request_id, frames, _outputs(values))


def encode_response(
    request: InferRequest, prediction: Prediction, model: str, version: str, parameters: dict[str, Any]
) -> tuple[list[bytes | memoryview], int | None]:
    """The pieces of the body that answers a request, and how long its JSON is; None where there is nothing after it."""
    arrays = {SCORE: prediction.score, MAP: prediction.map}
    outputs: list[dict[str, Any]] = []
    pieces: list[bytes | memoryview] = [b""]
    for output in request.outputs:
        array = np.ascontiguousarray(arrays[output.name], "<f4")
        about: dict[str, Any] = {"name": output.name, "datatype": "FP32", "shape": list(array.shape)}
        if output.is_binary:
            about["parameters"] = {"binary_data_size": array.nbytes}
            pieces.append(array.data.cast("B"))
        else:
            about["data"] = array.ravel().tolist()
        outputs.append(about)
    values: dict[str, Any] = {"model_name": model, "model_version": version, "parameters": parameters}
    if request.id is not None:
        values["id"] = request.id
    pieces[0] = json.dumps({**values, "outputs": outputs}, allow_nan=False).encode()
    return pieces, len(pieces[0]) if len(pieces) > 1 else None


def _header_length(text: str, most: int) -> int:
    if re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) is None or not 0 < int(text) <= most:
        raise Refused(
            f"expected {HEADER_LENGTH} as the length of the JSON, from 1 to the {most} bytes of the body, found "
            f"{reprlib.repr(text)}"
        )
    return int(text)


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        hint = f"; where tensors follow as bytes, the header {HEADER_LENGTH} says how long the JSON is"
        raise Refused(f"expected JSON as UTF-8 text, found other bytes at {error.start}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"expected JSON, found what can't be read ({error})") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"expected {what} as a JSON object, found {reprlib.repr(value)}")
    return value


def _parameters(values: dict[str, Any], what: str) -> dict[str, Any]:
    found = _object(values.get("parameters", {}), f"the parameters of {what}")
    for name in ("shared_memory_region", "classification"):
        if name in found:
            raise Refused(f"{name} of {what} is not offered here; leave it out")
    return found


def _flag(values: dict[str, Any], name: str, default: bool) -> bool:
    found = values.get(name, default)
    if not isinstance(found, bool):
        raise Refused(f"expected {name} as true or false, found {reprlib.repr(found)}")
    return found


def _tensors(found: Any, what: str) -> list[dict[str, Any]]:
    """A list of objects with different names that are text."""
    if not isinstance(found, list):
        raise Refused(f"expected {what} as a list, found {reprlib.repr(found)}")
    tensors = [_object(one, f"each of {what}") for one in found]
    names = [one.get("name") for one in tensors]
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise Refused(f"expected the name of each of {what} as text, found {reprlib.repr(name)}")
        if name in names[:number]:
            raise Refused(f"expected each of {what} once, found {reprlib.repr(name)} twice")
    return tensors


def _frames(inputs: Any, binary: memoryview, frame_hw: tuple[int, int], max_batch: int) -> Frames:
    tensors = _tensors(inputs, "inputs")
    if [one["name"] for one in tensors] != [FRAMES]:
        found = ", ".join(reprlib.repr(one["name"]) for one in tensors[:4]) or "none"
        raise Refused(f"expected one input, {FRAMES}, found {found}")
    (tensor,) = tensors
    if tensor.get("datatype") != "UINT8":
        raise Refused(f"expected {FRAMES} as UINT8, found {reprlib.repr(tensor.get('datatype'))}; don't normalise")
    shape = _shape(tensor.get("shape"), frame_hw, max_batch)
    size = _parameters(tensor, FRAMES).get("binary_data_size")
    if size is None:
        if len(binary) > 0:
            raise Refused(f"expected nothing after the JSON, found {len(binary)} bytes that no binary_data_size names")
        return _from_json(tensor.get("data"), shape)
    if "data" in tensor:
        raise Refused(f"expected {FRAMES} as data or as bytes after the JSON, found both")
    if type(size) is not int or size != math.prod(shape) or size != len(binary):
        raise Refused(
            f"expected {math.prod(shape)} bytes after the JSON, as the shape {list(shape)} has, found "
            f"{len(binary)} and a binary_data_size of {reprlib.repr(size)}"
        )
    return np.frombuffer(binary, np.uint8).reshape(shape)


def _shape(found: Any, frame_hw: tuple[int, int], max_batch: int) -> tuple[int, ...]:
    frame = [*frame_hw, 3]
    is_whole = isinstance(found, list) and len(found) == 4 and all(type(size) is int for size in found)
    if not is_whole or found[1:] != frame or not 1 <= found[0] <= max_batch:
        raise Refused(
            f"expected {FRAMES} of the shape [B, {', '.join(map(str, frame))}] with B from 1 to {max_batch}, found "
            f"{reprlib.repr(found)}"
        )
    return tuple(found)


def _from_json(data: Any, shape: tuple[int, ...]) -> Frames:
    """Frames from a list of whole numbers, flat or nested as the shape is."""
    level = data if isinstance(data, list) else [data]
    if any(isinstance(one, list) for one in level[:1]):
        level = [data]
        for size in shape:
            if not all(isinstance(one, list) and len(one) == size for one in level):
                raise Refused(f"expected data flat, or nested as the shape {list(shape)}, found other lists")
            level = list(chain.from_iterable(level))
    if set(map(type, level)) != {int} or len(level) != math.prod(shape) or not 0 <= min(level) <= max(level) <= 255:
        raise Refused(
            f"expected data as {math.prod(shape)} whole numbers from 0 to 255, as the shape {list(shape)} has, found "
            f"{len(level)}: {reprlib.repr(data)}"
        )
    return np.frombuffer(bytes(level), np.uint8).reshape(shape)


def _outputs(values: dict[str, Any]) -> tuple[Output, ...]:
    all_binary = _flag(_parameters(values, "the request"), "binary_data_output", False)
    tensors = _tensors(values.get("outputs", []), "outputs")
    for one in tensors:
        if one["name"] not in (SCORE, MAP):
            raise Refused(f"expected outputs {SCORE} or {MAP}, found {reprlib.repr(one['name'])}")
    if not tensors:
        return (Output(SCORE, all_binary), Output(MAP, all_binary))
    return tuple(
        Output(one["name"], _flag(_parameters(one, one["name"]), "binary_data", all_binary)) for one in tensors
    )
