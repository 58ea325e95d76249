# Everything sets itself up: a machine with Python 3.11.5 or newer and make is enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT ?= demo

SYSTEM_PACKAGES := chromium postgresql prometheus

.PHONY: help install tools demo test test-cluster test-images bench bench-gpu golden lint format docs constraints locks confseq fuzz fuzz-inputs audit sbom sign clean

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make the virtual environment

# torch goes first and alone: what follows must not replace a CPU build by a GPU one.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.3'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# What tests use beyond Python. Without it they are skipped and say so.
tools: ## Install Chromium, PostgreSQL and promtool where apt-get is and may
	@missing=$$(for name in $(SYSTEM_PACKAGES); do \
	    dpkg-query --show --showformat='$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive \
	    apt-get install --quiet=2 --yes --no-install-recommends $$missing >/dev/null || echo "not installed:" $$missing; fi

demo: $(INSTALLED) ## Run the whole loop on a generated shop (about twelve minutes on two cores)
	$(BIN)/taoemb demo --out $(OUT)

test: export OMP_NUM_THREADS = 1
test: export OMP_WAIT_POLICY = PASSIVE
test: $(INSTALLED) tools lint ## Lint, then run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 15 -m 'not images'

test-images: $(INSTALLED) ## Install each image's packages into a fresh environment and start what it runs
	$(BIN)/python -m pytest tests/images

bench: $(INSTALLED) ## Measure everything anew on this machine and write docs/results.md (keep it quiet meanwhile)
	$(BIN)/python -m benchmarks.run

bench-gpu: $(INSTALLED) ## Measure training, embedding and exact Top-K on this machine's GPU (under ten minutes)
	$(BIN)/python -m benchmarks.speed.gpu

golden: $(INSTALLED) ## Write the chart's renders that tests compare with, and manifests/
	$(BIN)/python -m tests.helm.write_golden
	$(BIN)/python scripts/manifests.py

test-cluster: $(INSTALLED) ## Test rollout and chart on the API server of KUBECONFIG or KUBEBUILDER_ASSETS
	$(BIN)/python -m pytest -m cluster -rs tests/rollout tests/helm

lint: $(INSTALLED)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy taoemb

fuzz: $(INSTALLED) ## Send 10,000 fuzzed requests to the search gateway (some ten minutes)
	$(BIN)/python -m pytest -s tests/serving/test_gateway_fuzz.py --fuzz-requests 10000

fuzz-inputs: $(INSTALLED) ## Draw 100,000 examples for each fuzz test of importers and of the judge's answers (hours on two cores)
	$(BIN)/python -m pytest -n 2 tests -k awkward_fuzz --fuzz-examples 100000 --timeout 21600

audit: $(INSTALLED) ## Ask for known vulnerabilities of all that the images install (needs the network; else it says so)
	@$(BIN)/python scripts/audit.py || [ $$? = 3 ]

SBOM ?= sbom
sbom: $(INSTALLED) ## Write what each image is made of, as CycloneDX
	$(BIN)/python scripts/audit.py --sbom $(SBOM)

# IMAGES are names by digest; COSIGN_KEY is a key that cosign knows (a file, or a KMS address). Without it cosign signs keyless.
sign: sbom ## Sign IMAGES (serving judge trainer, by digest) with cosign, their SBOMs with them
	@command -v cosign >/dev/null || { echo "install cosign: https://docs.sigstore.dev"; exit 2; }
	@[ -n "$(IMAGES)" ] || { echo "IMAGES: name them by digest, e.g. ghcr.io/taoemb/serving@sha256:…"; exit 2; }
	for image in $(IMAGES); do name=$${image%@*}; name=$${name##*/}; \
	    cosign sign --yes $(if $(COSIGN_KEY),--key $(COSIGN_KEY)) $$image && \
	    cosign attest --yes $(if $(COSIGN_KEY),--key $(COSIGN_KEY)) --type cyclonedx --predicate $(SBOM)/$$name.cdx.json $$image \
	    || exit 1; done

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

constraints: ## Write constraints.txt from the environment as it is
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v '^-e ' > constraints.txt

locks: $(INSTALLED) ## Write the images' locks from pyproject.toml and constraints.txt
	$(BIN)/python scripts/image_locks.py

confseq: ## Compute the tests' reference values with the confseq package (needs g++ and Boost's headers)
	$(PYTHON) -m venv .confseq
	.confseq/bin/python -m pip install --quiet 'numpy<2' scipy pandas matplotlib multiprocess pytest \
	    scikit-build 'cmake<4' ninja 'pybind11<3' 'setuptools<81' wheel
	.confseq/bin/python -m pip install --quiet --no-build-isolation --no-deps --no-binary confseq confseq==0.0.11
	.confseq/bin/python scripts/confseq_reference.py

clean: ## Remove what the targets above made
	rm -rf $(VENV) .confseq $(OUT) .pytest_cache .ruff_cache .mypy_cache .hypothesis
