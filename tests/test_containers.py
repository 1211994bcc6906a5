"""The container images and compose files: what can be checked without a container engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from simplenet_edge.cli import app
from tests.bundles import write_tiny_bundle
from tests.test_lean import INSPECT
from tests.trees import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONTAINERS = ROOT / "containers"
COMPOSE = sorted(CONTAINERS.glob("*.compose.yaml"))
HADOLINT = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
# What slim.sh takes away.
REMOVED = (
    "pip", "setuptools", "pkg_resources", "numpy.f2py", "numpy.distutils",
    "onnxruntime.tools", "onnxruntime.transformers", "onnxruntime.quantization", "onnxruntime.datasets",
)  # fmt: skip


@pytest.mark.skipif(HADOLINT is None, reason="hadolint has no package for this machine")
@pytest.mark.parametrize("name", ["runtime", "jetson"])
def test_the_dockerfiles_have_no_findings(name: str) -> None:
    done = subprocess.run([str(HADOLINT), str(CONTAINERS / f"{name}.Dockerfile")], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_a_service_is_confined_and_its_command_is_one_of_ours(file: Path) -> None:
    services: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "always"
        name, *arguments = service["command"]
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments)  # an option that it doesn't have raises


def test_the_runtime_needs_nothing_that_the_image_leaves_out(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.zip")
    code = INSPECT.format(missing=REMOVED, engine="onnxruntime", tolerance=None)
    subprocess.run([sys.executable, "-c", code, str(bundle.path), "test://?frames=1"], check=True, capture_output=True)


def test_the_build_context_has_all_that_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = project["tool"]["setuptools"]
    needed = [project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml", "containers"]
    needed += [*tools["package-dir"].values(), *(file for files in tools["data-files"].values() for file in files)]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == set(needed)
