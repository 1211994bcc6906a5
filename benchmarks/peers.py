"""Latency and accuracy beside anomalib: from a decoded camera image to score and map, one frame, one thread, in turns.

All get the same images (those of the test set, uint8 BGR, each at its own size), the same resize to 256x256 and, but
for EfficientAd, the same backbone with the same weights. Anomalib's models run as anomalib ships them: exported with
`to_openvino` and `to_torch` and called through its `OpenVINOInferencer` and `TorchInferencer`; OpenVINO computes in
FP32 for all. It needs the environment that `peers_training.py` describes, with `openvino` and `onnxruntime` in it:

    python -m venv anomalib-env
    anomalib-env/bin/pip install 'anomalib[openvino]==2.7.0' -e '.[export,openvino]' matplotlib
    OMP_NUM_THREADS=1 anomalib-env/bin/python benchmarks/peers.py --bundle part.bundle --data magnetic_tile \\
        --weights mobilenet_v2_imagenet.pth

What the time does not depend on is not trained: PatchCore's memory is filled with patches of the training images
chosen at random (its size is what costs time, and is stated), SuperSimpleNet's head and EfficientAd's networks are
untrained. PaDiM is trained here, and evaluated. AUROC is what `peers_training.py` measured with anomalib's greedy
coreset and training (`--training`, several files may be named; the last that has a method counts), else null:
EfficientAd trains for hours. `--rejoin` reads those files again and measures nothing.

`ratio` is the time over this project's fastest row of the same precision as all peers, FP32, median over the rounds.
Written to `results/peers.json` and `results/peers.svg`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from machine import RESULTS, interleaved_ms, machine, summary, write_result
from peers_figures import BARE, OURS, WRITTEN, draw, join, table

from simplenet_edge.bundle import Bundle
from simplenet_edge.data.layouts import Dataset, load_dataset
from simplenet_edge.data.reading import read_frames, split_good
from simplenet_edge.engines import open_engine
from simplenet_edge.imaging.decode import read_image
from simplenet_edge.imaging.preprocess import preprocess
from simplenet_edge.model.backbone import Backbone, load_weights_file
from simplenet_edge.model.simplenet import SimpleNet
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.spec import Frames
from simplenet_edge.training.config import TrainConfig

MEMORIES = (6235, 935)
"""Patches in PatchCore's memory: 1 % and 0.15 % of the training images'."""
REFERENCE = (f"{OURS}, onnxruntime fp32", f"{OURS}, openvino fp32")
ONE_FRAME = {"dynamic_shapes": None, "opset_version": 18}
"""A fixed batch of one: with anomalib's free batch PaDiM comes out fixed to two."""
OPENVINO = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1"}

Call = Callable[[Frames], object]


def our_calls(bundle: Bundle, stack: ExitStack) -> dict[str, Call]:
    """FP32 in both runtimes, INT8 in OpenVINO if the bundle has it, through the runtime's own `Detector`."""
    pairs = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "int8")]
    pairs = [pair for pair in pairs if pair[1] in bundle.manifest.precisions]
    engines = {pair: stack.enter_context(open_engine(bundle, *pair, threads=1)) for pair in pairs}
    return {f"{OURS}, {name} {precision}": Detector(e).inspect for (name, precision), e in engines.items()}


def written_calls(model: SimpleNet) -> dict[str, Call]:
    """The network as the paper's code runs it, not folded, and the bare backbone, each in three runtimes."""
    from fusion import BareBackbone, onnxruntime_call, openvino_call

    from simplenet_edge.export.cost import choose_forms
    from simplenet_edge.export.deployed_model import DeployedSimpleNet
    from simplenet_edge.export.to_onnx import to_onnx

    spec = model.input_spec
    bare = BareBackbone(DeployedSimpleNet(model, choose_forms(model)), spec.size_hw)
    calls: dict[str, Call] = {}
    for name, module in ((WRITTEN, model), (BARE, bare)):
        graph = to_onnx(module, spec)
        for runtime, make in (("onnxruntime", onnxruntime_call), ("openvino", openvino_call)):
            frame = np.zeros((1, *spec.size_hw, 3), np.uint8)  # the call's own input, filled anew for each image
            run = make(graph, frame, 1)

            def through_graph(image: Frames, frame: Frames = frame, run: Callable[[], object] = run) -> object:
                frame[0] = preprocess(image, spec)
                return run()

            calls[f"{name}, {runtime} fp32"] = through_graph

        def eager(image: Frames, module: torch.nn.Module = module) -> object:
            with torch.inference_mode():
                score, anomaly_map = module(torch.from_numpy(preprocess(image, spec))[None])
                return score.numpy(), anomaly_map.numpy()

        calls[f"{name}, torch fp32"] = eager
    return calls


def padim(network: torch.nn.Module, reference: SimpleNet, frames: Frames) -> Any:
    """Anomalib's PaDiM with its Gaussians fitted to all training images."""
    from anomalib.models import Padim
    from peer_models import PADIM_FEATURES, embed

    padim = Padim(network, list(reference.config.layers), pre_trained=False, n_features=PADIM_FEATURES)
    embed(padim.model, reference, frames)
    padim.model.fit()
    return padim


def patchcores(network: torch.nn.Module, reference: SimpleNet, frames: Frames) -> dict[str, Any]:
    """Anomalib's PatchCore with memories of both sizes, filled at random."""
    from anomalib.models import Patchcore
    from peer_models import embed

    layers = list(reference.config.layers)
    models = {f"patchcore, {size} patches": Patchcore(network, layers, pre_trained=False) for size in MEMORIES}
    first = next(iter(models.values())).model
    embed(first, reference, frames)
    patches = torch.vstack(first.embedding_store)
    first.embedding_store.clear()
    order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
    for model, size in zip(models.values(), MEMORIES, strict=True):
        model.model.memory_bank = patches[order[:size]].clone()
    return models


def efficient_ad() -> Any:
    """Anomalib's EfficientAd, small, its statistics set so that all of its arithmetic runs."""
    from anomalib.models import EfficientAd

    model = EfficientAd()
    model.model.mean_std["std"].data.fill_(1.0)
    for name, value in (("qa_st", 0.0), ("qb_st", 1.0), ("qa_ae", 0.0), ("qb_ae", 1.0)):
        model.model.quantiles[name].data.fill_(value)
    return model


def peer_calls(models: dict[str, Any], reference: SimpleNet, folder: Path, image: Frames) -> dict[str, Call]:
    """Each model in anomalib's two inferencers. They get RGB frames that are resized already, as this project resizes.

    Raises AssertionError where the two disagree about `image`.
    """
    from anomalib.deploy import OpenVINOInferencer, TorchInferencer

    def rgb(image: Frames) -> Frames:
        return np.ascontiguousarray(preprocess(image, reference.input_spec)[:, :, ::-1])

    os.environ["TRUST_REMOTE_CODE"] = "1"  # the files are those that this process has just written
    calls: dict[str, Call] = {}
    for name, model in models.items():
        for level in ("image", "pixel"):  # so that its normalisation computes with numbers
            for field, value in (("_{}_threshold", 0.5), ("{}_min", 0.0), ("{}_max", 1.0)):
                getattr(model.post_processor, field.format(level)).fill_(value)
        root = folder / name.replace(", ", "-").replace(" ", "-")
        model.eval()
        exported = model.to_openvino(root, input_size=reference.input_spec.size_hw, onnx_kwargs=ONE_FRAME)
        compiled = OpenVINOInferencer(exported, "CPU", OPENVINO)
        eager = TorchInferencer(model.to_torch(root), "cpu")

        def in_openvino(image: Frames, compiled: Any = compiled) -> Any:
            return compiled.predict(rgb(image))

        def in_torch(image: Frames, eager: Any = eager) -> Any:
            with torch.inference_mode():  # the inferencer itself records for gradients
                return eager.predict(rgb(image))

        np.testing.assert_allclose(
            np.ravel(in_openvino(image).pred_score), in_torch(image).pred_score.numpy().ravel(), rtol=0.02, atol=1e-3
        )
        calls |= {f"{name}, openvino fp32": in_openvino, f"{name}, torch fp32": in_torch}
    return calls


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Build everything, then time it in turns."""
    from anomalib.models import Supersimplenet
    from peer_models import PADIM_FEATURES, Peer
    from peers_training import BACKBONE, pretrained_backbone
    from peers_training import measure as accuracy

    torch.manual_seed(0)
    torch.set_num_threads(1)
    bundle, dataset = Bundle(options.bundle), load_dataset(options.data)
    config, spec = bundle.manifest.model, bundle.manifest.input
    if (config.backbone, spec.size_hw) != (BACKBONE, (256, 256)):
        raise SystemExit(f"expected a bundle of {BACKBONE} at 256x256, found {config.backbone} at {spec.size_hw}")
    extractor = Backbone(config.backbone, config.layers)
    load_weights_file(extractor, options.weights)
    reference = SimpleNet(config, spec, extractor).eval()
    network = pretrained_backbone(options.weights, reference)
    split = split_good(dataset.train, TrainConfig().calibration_share, seed=0)
    frames = np.stack([read.frame for read in read_frames(split.train[: options.images], reference.input_spec)])
    images = camera_images(dataset, options.rounds)
    models = {"padim": padim(network, reference, frames), **patchcores(network, reference, frames)}
    models["supersimplenet"] = Supersimplenet(backbone=network, layers=list(reference.config.layers))
    models["efficientad"] = efficient_ad()
    result: dict[str, Any] = {
        "machine": machine("anomalib", "torch", "torchvision", "onnxruntime", "openvino", "numpy", "opencv-python"),
        "load_before": os.getloadavg()[0],
        "threads": 1,
        "rounds": options.rounds,
        "data": {"name": dataset.name, "train": len(frames), "images_timed": len(images), "input": [256, 256]},
        "backbone": {"name": BACKBONE, "layers": list(reference.config.layers)},
        "notes": {
            "patchcore": f"memory of {' and '.join(map(str, MEMORIES))} patches chosen at random, for the time only",
            "padim": f"{PADIM_FEATURES} of the embedding's entries, trained in this run",
            "efficientad": "its own networks, size S, untrained",
            "int8": "in the bundle" if "int8" in bundle.manifest.precisions else "left out: the bundle has none",
        },
        "bundle": {"image_auroc": {p: r.metrics["image_auroc"] for p, r in bundle.manifest.precisions.items()}},
    }
    if options.images is None:
        result["padim"] = accuracy(Peer(models["padim"].model, reference), dataset, split, reference)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        stack.callback(os.chdir, Path.cwd())
        os.chdir(folder)  # the OpenVINO inferencer puts its cache into the working directory
        calls = our_calls(bundle, stack) | written_calls(reference)
        calls |= peer_calls(models, reference, folder, images[0])
        turns: dict[str, Iterator[Frames]] = {name: itertools.cycle(images) for name in calls}
        times = interleaved_ms(
            {name: lambda name=name, call=call: call(next(turns[name])) for name, call in calls.items()}, options.rounds
        )
    reference_name = min(REFERENCE, key=lambda name: statistics.median(times[name]))
    return result | {
        "reference": reference_name,
        "load_after": os.getloadavg()[0],
        "rows": summary(times, reference_name),
    }


def camera_images(dataset: Dataset, count: int) -> list[Frames]:
    """Test images at their own size, spread over the whole set, at most `count`."""
    step = max(1, len(dataset.test) // count)
    return [read_image(sample.path) for sample in dataset.test[::step][:count]]


def main() -> None:
    """Measure, join, print, write `peers.json` and `peers.svg`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--training", type=Path, nargs="*", default=[RESULTS / "peers_training.json"])
    parser.add_argument("--rejoin", action="store_true", help="measure nothing, read --training again")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--images", type=int, default=None, help="at most so many training images, for a quick try")
    parser.add_argument("--name", default="peers", help="name of the JSON and SVG file")
    options = parser.parse_args()
    if options.rejoin:
        result = json.loads((RESULTS / f"{options.name}.json").read_text(encoding="utf-8"))
    elif None in (options.bundle, options.data, options.weights):
        parser.error("expected --bundle, --data and --weights, or --rejoin")
    else:
        result = measure(options)
    join(result, options.training)
    print(table(result))
    print(json.dumps(result["verdict"], indent=2))
    print(write_result(options.name, result))
    draw(result, RESULTS / f"{options.name}.svg")


if __name__ == "__main__":
    main()
