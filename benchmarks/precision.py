"""What FP16 and INT8 are worth on a CPU: every precision of one folded graph in one interleaved run, and its size.

    python benchmarks/precision.py [--rounds 15] [--threads 2] [--model wide_resnet50_2 ...]

All take uint8 frames `(1, H, W, 3)` and give score and map. Weights are random and INT8 is calibrated on noise: neither
time nor size depends on them. `speedup` is over the FP32 graph in the same runtime, median over the rounds. CPUs
compute FP16 graphs in float32. For INT8 on a CPU, OpenVINO is the runtime to use: ONNX Runtime is slower with Q/DQ.
`int8 backbone` is INT8 with its head in float, for comparison: no precision of a bundle.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnx
import torch
from fusion import onnxruntime_call, openvino_call
from machine import interleaved_ms, machine, summary, write_result

from simplenet_edge.export.cost import choose_forms
from simplenet_edge.export.deployed_model import DeployedSimpleNet
from simplenet_edge.export.precision.fp16 import to_fp16
from simplenet_edge.export.precision.int8 import with_int8_weights
from simplenet_edge.export.to_onnx import to_onnx
from simplenet_edge.model.build import build_simplenet
from simplenet_edge.model.int8 import int8_model

MODELS = {"wide_resnet50_2": 288, "efficientnet_lite0": 256}
RUNTIMES = {"openvino": openvino_call, "onnxruntime": onnxruntime_call}


def graphs(backbone: str, frames: np.ndarray[Any, Any]) -> dict[str, onnx.ModelProto]:
    """The graph of each precision, as export writes it."""
    model = build_simplenet(backbone, random_weights=True, size_hw=frames.shape[1:3]).eval()
    fp32 = to_onnx(DeployedSimpleNet(model, choose_forms(model)), model.input_spec)
    images = model.normalize(torch.from_numpy(frames))
    rounded = int8_model(model, lambda: [images]).eval()
    model.backbone = rounded.backbone
    int8 = (to_onnx(DeployedSimpleNet(each, choose_forms(each)), model.input_spec) for each in (rounded, model))
    names = ("int8", "int8 backbone")
    return {
        "fp32": fp32,
        "fp16": to_fp16(fp32, {}).graph,
        **dict(zip(names, map(with_int8_weights, int8), strict=True)),
    }


def measure(backbone: str, side: int, rounds: int, threads: int) -> dict[str, Any]:
    """Every precision of one model in both runtimes, all in turn in each round."""
    frames = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    exported = graphs(backbone, frames)
    calls = {
        (runtime, name): make(graph, frames, threads)
        for runtime, make in RUNTIMES.items()
        for name, graph in exported.items()
    }
    times = interleaved_ms({f"{runtime} {name}": call for (runtime, name), call in calls.items()}, rounds)
    result: dict[str, Any] = {"input": [side, side], "bytes": {name: g.ByteSize() for name, g in exported.items()}}
    for runtime in RUNTIMES:
        rows = summary({name: times[f"{runtime} {name}"] for name in exported}, "fp32")
        for name, row in rows.items():
            pairs = zip(times[f"{runtime} fp32"], times[f"{runtime} {name}"], strict=True)
            row["speedup"] = round(float(np.median([a / b for a, b in pairs])), 3)
        result[runtime] = rows
    return result


def main() -> None:
    """Measure, print and keep `results/precision.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--name", default="precision", help="name of the JSON file")
    arguments = parser.parse_args()
    models = {}
    for backbone in arguments.model:
        models[backbone] = measure(backbone, MODELS[backbone], arguments.rounds, arguments.threads)
        for runtime in RUNTIMES:
            print(f"{backbone} {MODELS[backbone]}², {runtime}")
            for name, row in models[backbone][runtime].items():
                size = models[backbone]["bytes"][name] / 1e6
                print(f"  {name:13} {row['p50_ms']:9.2f} ms  {row['speedup']:.2f} x fp32  {size:7.1f} MB")
    versions = machine("onnxruntime", "openvino", "onnx")
    path = write_result(
        arguments.name,
        {"machine": versions, "threads": arguments.threads, "rounds": arguments.rounds, "models": models},
    )
    print(path)


if __name__ == "__main__":
    main()
