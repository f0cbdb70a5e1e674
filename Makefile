# The Rich Regime. `make` lists the targets; the two that matter to a reader are
# `make reproduce` and `make test`. Each sets up its own environment in .venv.

PYTHON ?= python3
PORT ?= 8000
CHAPTER ?=
# Not from the environment, where such names mean something else.
NAME :=
TITLE :=
PAPER :=
SEEDS :=
PERTURB :=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BOOK := $(PY) -m richregime

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.PHONY: help reproduce test paper html pdf serve clean lock lint format unit nbval browser execute bench map rates chapter address stability

help:
	@echo "The Rich Regime: what you can run"
	@echo
	@echo "  make reproduce   run every chapter from scratch, compare its verdicts with the"
	@echo "                   committed ones, build the site, print the scoreboard"
	@echo "  make test        lint, types, unit tests, doctests, and every chapter's outputs"
	@echo
	@echo "  make paper       run what is missing of a chapter's paper tier (CHAPTER=3;"
	@echo "                   MINUTES=... to stop in time; more: $(PY) -m richregime run --help)"
	@echo "  make html        render the site from the stored outputs into _build/html"
	@echo "  make pdf         the same as one PDF in _build/pdf (needs Chromium or Chrome)"
	@echo "  make serve       show that site at http://localhost:$(PORT) (PORT=...)"
	@echo "  make clean       remove what builds and tests create (the environment stays)"
	@echo
	@echo "  make unit, nbval, lint, browser    one part of make test"
	@echo "  make format      let ruff rewrite the code in the house style"
	@echo "  make execute     authors: re-execute the chapters in place from their .md files,"
	@echo "                   write results/claims.json (CHAPTER=01-... for one)"
	@echo "  make chapter     authors: begin a chapter from the template (NAME=08-my-paper;"
	@echo "                   TITLE=\"...\" PAPER=key-in-references.bib; see library/tutorial.md)"
	@echo "  make stability   authors: run chapters with other seeds, and with starts moved by"
	@echo "                   rounding; writes results/stability.json (CHAPTER=01-... for one;"
	@echo "                   SEEDS=2 further sets, PERTURB=3 times; SEEDS=0 PERTURB=3 as CI does)"
	@echo "  make map         authors: write what the map of parametrizations takes from the library"
	@echo "  make rates       authors: simulate how often verdicts err, for the page on verdicts"
	@echo "  make address     authors: say where the book is published, or move it with"
	@echo "                   URL=https://github.com/OWNER/REPOSITORY (SITE=https://... if elsewhere)"
	@echo "  make lock        authors: compile pyproject.toml into requirements.lock"
	@echo "  make bench       speed against this machine's matrix product and PyTorch (see"
	@echo "                   benchmarks/); writes library/speed.md (AGAIN=1 to begin anew)"
	@echo
	@echo "The environment is made on first use from $(PYTHON) (PYTHON=... for another; 3.11 to 3.13)."

# The stamp holds a digest of the two files that define the environment. A newer
# time stamp alone (a fresh checkout, a switched branch) installs nothing.
ifneq ($(shell cat $(VENV)/.folder 2>/dev/null),$(CURDIR))
$(STAMP): elsewhere
endif
.PHONY: elsewhere

$(STAMP): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/install

reproduce: $(STAMP)
	@$(BOOK) reproduce

test: $(STAMP)
	@$(PY) tests/run.py

paper: $(STAMP)
	@test -n "$(CHAPTER)" || { echo "Which chapter? make paper CHAPTER=3, say."; exit 2; }
	@$(PY) -m richregime run $(CHAPTER) --tier paper $(if $(MINUTES),--minutes $(MINUTES))

html: $(STAMP)
	@$(BOOK) html

pdf: $(STAMP)
	@$(BOOK) pdf

serve: $(STAMP)
	@test -f _build/html/index.html || $(BOOK) html
	@echo "http://localhost:$(PORT)  (Ctrl-C to stop)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean:
	rm -rf _build .cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -prune -exec rm -rf {} +

lint: $(STAMP)
	@$(PY) tests/run.py lint imports format types

format: $(STAMP)
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

unit: $(STAMP)
	@$(PY) tests/run.py unit doctest

nbval: $(STAMP)
	@$(PY) tests/run.py nbval verdicts

browser: $(STAMP)
	@$(PY) tests/run.py html browser

execute: $(STAMP)
	@$(BOOK) execute $(CHAPTER)

stability: $(STAMP)
	@$(BOOK) stability $(CHAPTER) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PERTURB),--perturb $(PERTURB))

bench: $(STAMP)
	@$(PY) benchmarks/run.py $(if $(AGAIN),--again)

chapter: $(STAMP)
	@test -n "$(NAME)" || { echo "Which name? make chapter NAME=08-my-paper, say."; exit 2; }
	@$(BOOK) new "$(NAME)" $(if $(TITLE),--title "$(TITLE)") $(if $(PAPER),--paper "$(PAPER)")

map: $(STAMP)
	@$(BOOK) map

rates: $(STAMP)
	@$(BOOK) rates

address: $(STAMP)
	@$(BOOK) address $(if $(URL),'$(URL)') $(if $(SITE),--site '$(SITE)') $(if $(CHECK),--check)

# Binder gets the same versions, of fewer packages: no tests, no site. UPGRADE=1 takes the
# newest versions allowed instead of keeping those that are locked.
COMPILE := $(VENV)/bin/uv pip compile --universal --generate-hashes --python-version 3.11 \
  --custom-compile-command "make lock" --quiet

lock: $(STAMP)
	$(COMPILE) pyproject.toml --extra book --extra test $(if $(UPGRADE),--upgrade) \
	  -o requirements.lock
	printf 'editables\nhatchling\n' | $(COMPILE) pyproject.toml - --no-annotate \
	  --constraint requirements.lock $(if $(UPGRADE),--upgrade) -o binder/requirements.txt
