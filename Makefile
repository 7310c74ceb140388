# `make demo` and `make test` need only Python 3.11+, git and make: they create .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: demo test soak lint types format bench bench-sweep results bench-large docs clean

demo: $(VENV)/installed  ## teacher, cache, students and report on the built-in task, offline
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 dvc repro  # sums, and so scores, depend on the number of threads
	@echo "Open data/report/report.html"

test: $(VENV)/installed  ## the tests, with fewer trials where a test is a series of them, without the longest
	pytest -n 3 --dist loadfile --no-loadscope-reorder  # a third uses what two leave idle

soak: $(VENV)/installed  ## the same tests with their full counts, printed
	PKD_SOAK=1 pytest -v --timeout 3600 --junitxml=.soak.xml
	@grep -o '<property [^>]*>' .soak.xml | sed 's/.*name="\(.*\)" value="\(.*\)".*/\1: \2/' | grep -v '^hypothesis'

lint: $(VENV)/installed
	ruff check .
	ruff format --check .

types: $(VENV)/installed
	mypy

format: $(VENV)/installed
	ruff check --fix .
	ruff format .

bench: $(VENV)/installed  ## the benchmark suite, and docs/benchmarks.md made of it
	python -m benchmarks --device cpu --out docs/benchmarks/cpu.json

bench-sweep: $(VENV)/installed  ## twelve students one by one and in a sweep: most of an hour
	python -m benchmarks --device cpu --only sweep --out docs/benchmarks/cpu-sweep.json

# for example: make results GLUE=../glue INIT=path/to/encoder
results: $(VENV)/installed  ## docs/results.md; with GLUE and INIT also the runs that are missing
	python -m benchmarks.results $(if $(GLUE),--glue $(GLUE) --init $(INIT)) $(if $(RECORDS),--records $(RECORDS))

bench-large: $(VENV)/installed  ## peak memory of building, verifying and reading a cache of 2 GB
	python -m benchmarks.large_cache

docs: $(VENV)/installed  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "Open site/index.html, or run: mkdocs serve"

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# the S3 libraries come with moto in one call: apart, pip moves boto back and forth
# torch first and exactly: any looser requirement draws in gigabytes of CUDA packages
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,s3]'
	touch $@
