# `make book` and `make test` are all a reader needs; `make help` lists the rest.
# Each target first brings .venv up to date by itself: see tools/setup.sh.

.DEFAULT_GOAL := help
.PHONY: help book zip pdf test test-numerics test-oldest audit faults lab notebooks bench bench-peers
.PHONY: figures screenshots experiments verify lint lock vendor clean setup check html peers-speed peers-tasks

PY := .venv/bin/python
# The peers' environment sees the packages of .venv; ours lies here.
PEERS_PY := PYTHONPATH=. .venv-peers/bin/python
BOOK := deep-q-learning-for-recommender-systems
MATHJAX := 3.2.2
UV := 0.13.9
PIP_AUDIT := 2.10.1
# Who tells of vulnerabilities: make audit SERVICE=osv where a mirror of PyPI has no advisories.
SERVICE := pypi
# Chapters to re-execute: make notebooks NOTEBOOKS="00_quickstart 02_shop_as_mdp". Empty: all.
NOTEBOOKS :=
# Some of the numeric variants: make test-numerics VARIANTS="default avx". Empty: all.
VARIANTS :=
# Studies to run: make experiments STUDIES="shop epsilon". Empty: all.
STUDIES :=
# Which tenth of the rows make verify makes: make verify DRAW=7. Or all of them: make verify ALL=1.
DRAW := 0
ALL :=
# What to compare with other libraries: make bench-peers PEERS=speed. Empty: speed and tasks.
PEERS :=
# Files to plant faults in, by a word of their paths: make faults FILES="targets replay". Empty: all.
FILES :=

# TensorFlow's start-up messages carry times and process ids, which no stored output may hold.
export TF_CPP_MIN_LOG_LEVEL := 3
export PYTHONHASHSEED := 0
# Notebooks draw inline; a backend from the reader's shell must not change that.
unexport MPLBACKEND

# What follows two #s is for readers, what follows #k for keepers.
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-19s %s\n", $$1, $$2}'
	@echo; echo "For keepers"
	@sed -n 's/^\([a-z-]*\):.*#k \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-19s %s\n", $$1, $$2}'

book: html ## Build the book from the stored outputs, warnings as errors
	@echo "The book is ready: file://$(CURDIR)/_build/html/index.html"

zip: html #k Pack the book into one file, to unpack anywhere and open from disk
	@rm -rf _build/$(BOOK) _build/$(BOOK).zip
	@cp -r _build/html _build/$(BOOK)
	@$(PY) -m zipfile -c _build/$(BOOK).zip _build/$(BOOK)
	@rm -r _build/$(BOOK)
	@echo "_build/$(BOOK).zip holds the book: unpack it and open index.html."

pdf: html #k Print the book into one PDF (needs Chromium)
	@$(PY) tools/pdf.py _build/$(BOOK).pdf

test: export TQDM_DISABLE := 1
test: setup ## Check everything: format, lint, types, book, tests, every notebook cell
	@$(PY) tools/check.py

test-numerics: setup #k Every notebook cell again as other processors compute (some: NOTEBOOKS=, VARIANTS=)
	@$(PY) tools/numerics.py --notebooks $(NOTEBOOKS) --variants $(VARIANTS)

# Left out: what needs the built book, a browser, or the notebooks' kernel.
test-oldest: export TQDM_DISABLE := 1
test-oldest: setup #k Unit tests with the lowest versions that requirements.txt allows, on Python 3.11
	@$(PY) -m pip install --disable-pip-version-check --quiet uv==$(UV)
	@$(PY) -m uv venv --quiet --clear --python 3.11 .venv-oldest
	@$(PY) -m uv pip install --python .venv-oldest --resolution lowest-direct --requirement requirements.txt
	@$(PY) -m uv pip install --python .venv-oldest --quiet --no-deps --no-build-isolation --editable .
	@.venv-oldest/bin/python -m pytest tests/package

audit: setup #k Known vulnerabilities of the versions in requirements.lock
	@$(PY) -m pip install --disable-pip-version-check --quiet uv==$(UV)
	@$(PY) -m uv tool run --quiet --from pip-audit==$(PIP_AUDIT) pip-audit --strict --disable-pip \
		--requirement requirements.lock --vulnerability-service $(SERVICE)

lab: setup ## Open the notebooks in JupyterLab
	@echo "JupyterLab opens in your browser; Ctrl+C here ends it."
	@$(PY) -m jupyterlab notebooks

notebooks: export TQDM_DISABLE := 1
notebooks: setup ## Run all notebooks again and store their outputs (or some: NOTEBOOKS="00_quickstart")
	@$(PY) tools/notebooks.py $(NOTEBOOKS)

.PHONY: colab
colab: setup ## Write each chapter as one notebook that needs no other file, into _build/colab
	@$(PY) tools/colab.py

figures: setup #k Show every figure as colour-blind eyes, grey print and a phone do, in _build/figures
	@$(PY) tools/figures.py

screenshots: html #k Take the README's pictures of the book again (needs Chromium)
	@$(PY) tools/screenshots.py

bench: setup ## Measure simulator, encoding, acting, updating, training beside NumPy's floor (3 min)
	@$(PY) benchmarks/bench.py
	@echo "Benchmarks done."

bench-peers: setup #k Compare with other DQNs, in an environment of their own (or PEERS=speed, PEERS=tasks)
	@PY=$(PY) sh benchmarks/setup_peers.sh
	@set -e; for part in $(or $(PEERS),speed tasks); do $(MAKE) --no-print-directory peers-$$part; done
	@echo "Compared with the peers."

experiments: setup #k Make the long studies' rows again (hours; STUDIES=; Ctrl+C stops, again goes on)
	@$(PY) -m dqnrec_lite.studies make $(STUDIES)
	@$(PY) tools/hero.py
	@echo "dqnrec_lite/studies/rows and book/_static/hero.png are made anew."

verify: setup ## Make a drawn tenth of the studies' rows again and compare (another: DRAW=1; all: ALL=1)
	@$(PY) -m dqnrec_lite.studies verify --draw $(DRAW) $(if $(ALL),--all) $(STUDIES)
	@echo "The stored rows hold."

faults: export TQDM_DISABLE := 1
faults: setup #k Plant chosen faults in the package and see that the tests notice (half an hour)
	@$(PY) tools/faults.py $(FILES)

lint: check #k Check format, lint and types only
	@echo "Passed: format, lint and types."

lock: setup #k Renew requirements.lock from requirements.txt (newest versions within the ranges)
	@$(PY) -m pip install --disable-pip-version-check --quiet uv==$(UV)
	@$(PY) -m uv pip compile requirements.txt --output-file requirements.lock --quiet --upgrade \
		--universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock"
	@echo "requirements.lock is renewed; the next make target installs it."

vendor: #k Fetch the stored copy of MathJax again (needs npm)
	@command -v npm >/dev/null || { echo "npm is missing. Debian, Ubuntu:  sudo apt install npm"; exit 1; }
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
		echo "Fetching mathjax@$(MATHJAX) from the npm registry"; \
		(cd "$$folder" && npm pack --silent mathjax@$(MATHJAX) >/dev/null && tar xzf mathjax-*.tgz); \
		mkdir -p book/_static/vendor/mathjax; \
		cp "$$folder/package/LICENSE" "$$folder/package/es5/tex-svg-full.js" book/_static/vendor/mathjax/
	@echo "book/_static/vendor/mathjax holds MathJax $(MATHJAX)."

clean: ## Remove everything that make has made, .venv too
	@rm -rf _build .venv .venv-oldest .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +
	@echo "Clean: what make had made is gone."

# Steps that the targets above share ------------------------------------------------------------

setup:
	@sh tools/setup.sh

check: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy dqnrec_lite
	@.venv/bin/lint-imports --no-logo --no-cache
	@$(PY) tools/notebooks.py --check

peers-speed:
	@$(PEERS_PY) benchmarks/peers_speed.py

peers-tasks:
	@$(PEERS_PY) benchmarks/peers_torch.py
	@$(PEERS_PY) benchmarks/peers_sb3.py dqnrec_lite/studies/rows/peers_sb3.jsonl

# Sphinx warns about a page only when it reads it: after a failure all pages must be read again.
html: setup
	@$(PY) .venv/bin/jupyter-book build . -W -n --keep-going $(FRESH) || { rm -rf _build/.doctrees; exit 1; }
