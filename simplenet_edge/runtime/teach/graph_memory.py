"""What a serialised ONNX graph was taught, read and filled in place: no ONNX package, no other byte changed.

In and out: the bytes of a graph whose tensors are named as `simplenet_edge.contract` says. A protobuf message is a row
of fields, each a number, a length and as many bytes; a message that is appended to another is merged into it
(protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from simplenet_edge.contract import COORDINATES, FAR, LESSON_PRODUCTS, LESSON_SQUARES, MEMORY_FLOOR
from simplenet_edge.errors import BundleError

__all__ = ["GraphMemory", "Rows", "with_coordinates"]

Rows = npt.NDArray[np.float32]
"""Patches as the memory sees them, float32 `(N, d)`."""

# Fields of onnx.proto, which keep their numbers for ever.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_OUTPUT = 5, 12
_TENSOR_NAME, _TENSOR_RAW_DATA = 8, 9
_VALUE_NAME = 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class GraphMemory:
    """What a graph was taught, and the room that is left. Raises BundleError for a graph that can't be taught."""

    def __init__(self, graph: bytes) -> None:
        self._graph = graph
        self._places = _raw_data(graph, (LESSON_PRODUCTS, LESSON_SQUARES, MEMORY_FLOOR))
        floor, squares, products = (
            np.frombuffer(graph[slice(*self._places[name])], np.float32)
            for name in (MEMORY_FLOOR, LESSON_SQUARES, LESSON_PRODUCTS)
        )
        if floor.size != 1 or squares.size == 0 or products.size == 0 or products.size % squares.size:
            raise BundleError(f"{products.size} numbers are no memory of {squares.size} patches; export again")
        self.floor = float(floor[0])
        """The least distance that counts."""
        self._products, self._squares = products.reshape(-1, squares.size), squares
        self.size = int(np.count_nonzero(squares < np.float32(FAR**2)))
        """Patches that it was taught."""
        self.dim = len(self._products)
        """Numbers of a patch."""
        self.spare = squares.size - self.size
        """Patches that it has room for."""

    def with_patches(self, rows: Rows) -> bytes:
        """The graph that was taught `rows` `(N, d)` as well; N is at most `spare`."""
        assert len(rows) <= self.spare
        taken = slice(self.size, self.size + len(rows))
        products, squares = self._products.copy(), self._squares.copy()
        products[:, taken] = -2 * rows.T
        squares[taken] = np.square(rows, dtype=np.float64).sum(axis=1)
        changed = bytearray(self._graph)
        for name, values in ((LESSON_PRODUCTS, products), (LESSON_SQUARES, squares)):
            changed[slice(*self._places[name])] = values.tobytes()
        return bytes(changed)


def with_coordinates(graph: bytes) -> bytes:
    """The graph with the patches as the memory sees them for a third output."""
    output = _field(_GRAPH_OUTPUT, _field(_VALUE_NAME, COORDINATES.encode()))
    return graph + _field(_MODEL_GRAPH, output)


def _raw_data(graph: bytes, names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Where the bytes of the named constants start and end."""
    found = {}
    try:
        for start, end in _parts(graph, 0, len(graph), _MODEL_GRAPH):
            for tensor in _parts(graph, start, end, _GRAPH_INITIALIZER):
                for name in _parts(graph, *tensor, _TENSOR_NAME):
                    text = graph[slice(*name)].decode()
                    if text in names:
                        found[text] = next(_parts(graph, *tensor, _TENSOR_RAW_DATA))
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise BundleError("the graph is not one that this version can teach; export again") from error
    if len(found) < len(names):
        raise BundleError(
            "the graph has no memory that can be taught: the model was trained without one, or exported by an older "
            "version; export again"
        )
    return found


def _parts(data: bytes, start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Start and end of the fields of a number in the message between `start` and `end`. Raises IndexError."""
    while start < end:
        key, start = _varint(data, start)
        kind = key & 7
        if kind == _VARINT:
            _, start = _varint(data, start)
        elif kind in (_FIXED32, _FIXED64):
            start += 4 if kind == _FIXED32 else 8
        elif kind == _BYTES:
            size, start = _varint(data, start)
            if start + size > end:
                raise IndexError(start)
            if key >> 3 == number:
                yield start, start + size
            start += size
        else:
            raise IndexError(start)


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return value, start


def _field(number: int, content: bytes) -> bytes:
    size, length = bytearray(), len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | _BYTES, *size, length]) + content
