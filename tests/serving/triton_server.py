"""A real Triton server. The one on the package registry has the Python backend alone, through which it runs our graph.

`scripts/triton_server.sh` makes the environment that it lives in.
"""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.servers import ServerProcess, free_port

_MODEL = """
import sys

sys.path.insert(0, {site!r})  # Triton's Python looks nowhere else

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        path = "/".join([args["model_repository"], args["model_version"], "model.onnx"])
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(backend.get_input_tensor_by_name(one, "frames").as_numpy()) for one in requests]

    def answer(self, frames):
        found = self.session.run(["score", "map"], {{"frames": frames}})
        return backend.InferenceResponse([backend.Tensor(name, one) for name, one in zip(("score", "map"), found)])
"""


class TritonServer(ServerProcess):
    """Serves a repository of `simplenet-edge triton`, whose backend it changes to Python and nothing else.

    Skips the test where there is no Triton.
    """

    def __init__(self, repository: Path, scratch: Path) -> None:
        site = _site_packages()
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        triton, backends = site / "pytriton" / "tritonserver", scratch / "backends"
        shutil.copytree(triton / "backends", backends)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copy2(triton / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
        for config in repository.glob("*/config.pbtxt"):
            text = config.read_text()
            changed = text.replace('"onnxruntime"', '"python"').replace('"model.onnx"', '"model.py"')
            assert changed != text
            config.write_text(changed)
            for version_folder in config.parent.glob("[0-9]*"):
                (version_folder / "model.py").write_text(_MODEL.format(site=str(site)))
        super().__init__(
            [
                "env",
                f"LD_LIBRARY_PATH={site / 'nvidia_pytriton.libs'}",
                triton / "bin" / "tritonserver",
                f"--model-repository={repository}",
                f"--backend-directory={backends}",
                "--http-address=127.0.0.1",
                f"--http-port={port}",
                "--allow-grpc=false",
                "--allow-metrics=false",
            ]
        )

    @property
    def url(self) -> str:
        return self._url

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/v2/health/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


def _site_packages() -> Path:
    """Of the environment that has Triton, inside that of the tests."""
    for environment in (Path(sys.prefix), Path(__file__).parents[2] / ".venv"):
        for ready in environment.glob("triton/lib/python3*/site-packages/pytriton/tritonserver/bin/tritonserver"):
            return ready.parents[3]
    pytest.skip("there is no Triton server; run: sh scripts/triton_server.sh python3 .venv/triton")
