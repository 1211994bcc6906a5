"""How far the runtimes are from what this CPU can do at all: the deployed graph beside the machine's measured peaks.

    OMP_NUM_THREADS=1 python benchmarks/roofline.py [--rounds 60] [--model wide_resnet50_2 ...]

One frame, one thread, FP32. Operations and bytes are counted in the exported ONNX graph: two operations a
multiply-add of its convolutions and matrix products; the weights, and what each of those nodes reads and writes (the
element-wise nodes between them can be fused away, so they count nothing). The peaks are measured in the same rounds as
the graphs: float32 matrix products of some sizes in ONNX Runtime and in numpy (the fastest counts) and a copy of a
block larger than the cache. The best round of each call counts, since whatever else runs can only slow a call down;
the medians are kept beside it.

`floor` is the roofline's lower bound on the time, the larger of operations / peak and (weights + frame + outputs) /
bandwidth. `by layer` adds up the larger of both for each node, with its activations at memory speed; a cache can beat
it. Percentages are the floor over the measured time. Written to `results/roofline.json`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simplenet_edge  # noqa: F401 - first, since it turns ONNX Runtime's telemetry off

# isort: split
import numpy as np
import onnx
import onnxruntime
from fusion import onnxruntime_call, openvino_call
from machine import interleaved_ms, machine, summary, write_result

from simplenet_edge.export.cost import FLOAT_BYTES, choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.build import build_simplenet

MODELS = {"wide_resnet50_2": 288, "mobilenet_v2": 256}
PRODUCTS = (384, 768, 1024)
"""Rows and columns of the square matrices whose products give the peak."""
COPY_BYTES = 256 * 2**20
CALLS = {"onnxruntime": onnxruntime_call, "openvino": openvino_call}


@dataclass(frozen=True)
class NodeCost:
    """One convolution or matrix product for one frame; bytes are of float32 values."""

    flops: int
    weight_bytes: int
    activation_bytes: int


def node_costs(model: onnx.ModelProto) -> list[NodeCost]:
    """The cost of each convolution and matrix product. Raises ValueError for a shape that inference doesn't find."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = 1  # the batch
    graph = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = weights | {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    costs = []
    for node in graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        (out,) = node.output
        if any(name and 0 in shapes.get(name, (0,)) for name in (*node.input, out)):
            raise ValueError(f"{node.op_type} {node.name}: shape inference found no shapes for its tensors")
        count = {name: int(np.prod(shapes[name])) for name in (*node.input, out) if name}
        if node.op_type == "Conv":
            macs = count[out] * int(np.prod(shapes[node.input[1]][1:]))
        else:
            macs = count[out] * shapes[node.input[0]][-1]
        read = [name for name in node.input if name]
        costs.append(
            NodeCost(
                flops=2 * macs,
                weight_bytes=FLOAT_BYTES * sum(count[name] for name in read if name in weights),
                activation_bytes=FLOAT_BYTES * sum(count[name] for name in [*read, out] if name not in weights),
            )
        )
    return costs


def floors_ms(costs: list[NodeCost], ends_bytes: int, flops_per_ms: float, bytes_per_ms: float) -> tuple[float, float]:
    """The lower bound of the whole graph, and the sum over its nodes, in ms. `ends_bytes` are the frame and outputs."""
    flops = sum(cost.flops for cost in costs)
    least_bytes = sum(cost.weight_bytes for cost in costs) + ends_bytes
    by_layer = sum(
        max(cost.flops / flops_per_ms, (cost.weight_bytes + cost.activation_bytes) / bytes_per_ms) for cost in costs
    )
    return max(flops / flops_per_ms, least_bytes / bytes_per_ms), by_layer


def product_calls(side: int) -> dict[str, Callable[[], object]]:
    """A matrix product in ONNX Runtime and in numpy."""
    left, right = np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [value("a", onnx.TensorProto.FLOAT, [side, side])],
        [value("c", onnx.TensorProto.FLOAT, [side, side])],
        [onnx.numpy_helper.from_array(right, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    out = np.empty_like(left)
    return {
        f"product {side}, onnxruntime": lambda: session.run(None, {"a": left}),
        f"product {side}, numpy": lambda: np.matmul(left, right, out=out),
    }


def copy_call() -> Callable[[], object]:
    """A copy of a block into another, both touched before."""
    block = np.ones(COPY_BYTES // FLOAT_BYTES, np.float32)
    target = np.zeros_like(block)
    return lambda: np.copyto(target, block)


def measure(models: list[str], rounds: int) -> dict[str, Any]:
    """Peaks and graphs in the same rounds, and what they come to."""
    calls = {"copy": copy_call()}
    for side in PRODUCTS:
        calls |= product_calls(side)
    costs: dict[str, list[NodeCost]] = {}
    for backbone in models:
        side = MODELS[backbone]
        model = build_simplenet(backbone, random_weights=True, size_hw=(side, side)).eval()
        graph = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)
        costs[backbone] = node_costs(graph)
        frames = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        calls |= {f"{backbone}, {name}": make(graph, frames, 1) for name, make in CALLS.items()}
    times = interleaved_ms(calls, rounds)
    best = {name: min(values) for name, values in times.items()}
    flops_per_ms = max(
        2 * side**3 / best[f"product {side}, {name}"] for side in PRODUCTS for name in ("onnxruntime", "numpy")
    )
    bytes_per_ms = 2 * COPY_BYTES / best["copy"]
    return {
        "peak_gflops": round(flops_per_ms / 1e6, 1),
        "bandwidth_gb_s": round(bytes_per_ms / 1e6, 2),
        "times": summary(times, "copy"),
        "models": {
            backbone: model_row(backbone, nodes, best, flops_per_ms, bytes_per_ms) for backbone, nodes in costs.items()
        },
    }


def model_row(
    backbone: str, nodes: list[NodeCost], best_ms: dict[str, float], flops_per_ms: float, bytes_per_ms: float
) -> dict[str, Any]:
    """What one model costs, its floors, and how close each runtime comes."""
    side = MODELS[backbone]
    ends_bytes = side * side * 3 + FLOAT_BYTES * (side * side + 1)
    floor, by_layer = floors_ms(nodes, ends_bytes, flops_per_ms, bytes_per_ms)
    return {
        "input": [side, side],
        "gflop": round(sum(node.flops for node in nodes) / 1e9, 3),
        "weights_mb": round(sum(node.weight_bytes for node in nodes) / 1e6, 2),
        "activations_mb": round(sum(node.activation_bytes for node in nodes) / 1e6, 2),
        "floor_ms": round(floor, 2),
        "by_layer_ms": round(by_layer, 2),
        "runtimes": {
            name: {
                "best_ms": round(best_ms[f"{backbone}, {name}"], 2),
                "percent_of_floor": round(100 * floor / best_ms[f"{backbone}, {name}"], 1),
                "percent_of_by_layer": round(100 * by_layer / best_ms[f"{backbone}, {name}"], 1),
            }
            for name in CALLS
        },
    }


def table(result: dict[str, Any]) -> str:
    """One Markdown row a model."""
    lines = [
        f"Peak {result['peak_gflops']} GFLOP/s, copy {result['bandwidth_gb_s']} GB/s, one thread.\n",
        "| model | GFLOP | weights MB | activations MB | floor ms | by layer ms | onnxruntime ms (of floor, by layer) "
        "| openvino ms (of floor, by layer) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for backbone, row in result["models"].items():
        runtimes = [
            f"{r['best_ms']} ({r['percent_of_floor']}%, {r['percent_of_by_layer']}%)" for r in row["runtimes"].values()
        ]
        lines.append(
            f"| {backbone} {row['input'][0]}² | {row['gflop']} | {row['weights_mb']} | {row['activations_mb']} "
            f"| {row['floor_ms']} | {row['by_layer_ms']} | {' | '.join(runtimes)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print and keep `results/roofline.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--name", default="roofline", help="name of the JSON file")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1" or os.environ.get("OPENBLAS_NUM_THREADS", "1") != "1":
        parser.error("numpy must use one thread; run with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1")
    load = os.getloadavg()[0]
    result = {"machine": machine("onnxruntime", "openvino", "onnx", "numpy"), "threads": 1, "rounds": options.rounds}
    result |= {"load_before": load, **measure(options.model, options.rounds), "load_after": os.getloadavg()[0]}
    print(table(result))
    print(write_result(options.name, result))


if __name__ == "__main__":
    main()
