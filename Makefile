# Each target makes its own environment from a bare Python (3.10 or newer) and reuses it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LINKS_LOST := error: this checkout's symbolic links simplenet_edge/engines and simplenet_edge/export came out as text files; \
run: git config core.symlinks true && git checkout -- simplenet_edge, or: pip install .

.PHONY: demo test lint docs gpu-check clean

demo: $(READY)  ## the whole product on parts that it draws itself; WEIGHTS=file.pth uses those weights
	$(BIN)/simplenet-edge demo --output demo-output --overwrite $(if $(WEIGHTS),--weights $(WEIGHTS))

test: $(READY)  ## all tests
	$(BIN)/pytest

lint: $(READY)  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the documentation as a web site in site/; a warning is an error
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/mkdocs build --strict

gpu-check: $(READY)  ## all that has not run on a GPU, on a machine with one; a step that can't run says why
	$(BIN)/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) demo-output site build dist *.egg-info

$(READY): pyproject.toml scripts/opencv.sh scripts/test_servers.sh scripts/triton_server.sh
	@test -d simplenet_edge/engines && test -d simplenet_edge/export || { echo "$(LINKS_LOST)" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	sh scripts/opencv.sh $(BIN)/python
	sh scripts/test_servers.sh
	sh scripts/triton_server.sh $(BIN)/python $(VENV)/triton
	touch $@
