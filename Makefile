PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test clean

demo: $(STAMP)
	$(BIN)/python -m train experiment=demo
	$(BIN)/python -m train.demo

# Each worker has one core and one thread; what one process compiled, the others and those that tests start read.
test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile

# One environment for everything: the stamp is newer than what it was installed from.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .cache build *.egg-info

# Benchmarks print tables of ratios; they are never part of the tests. MILLIONS=16 is the whole event.
MILLIONS ?= 1
.PHONY: bench-batch
bench-batch: $(STAMP)
	$(BIN)/python tests/bench/bench_batch.py --millions $(MILLIONS) --minilm

# What each command costs beside its peers, cold, and as its input grows, and the same bits everywhere; COST are parts.
COST ?= peer cold bits growth
.PHONY: bench-cost
bench-cost: $(STAMP)
	$(BIN)/python tests/bench/bench_cost.py $(COST)

# Every command at ROWS exchanges, 4 and 16 times as many: one table of processor time, memory and cost an exchange.
ROWS ?= 50000
.PHONY: bench-growth
bench-growth: $(STAMP)
	$(BIN)/python tests/bench/bench_cost.py growth --rows $(ROWS)

# Campaigns among composed accounts; PARTS are some of those that the script names.
PARTS ?= population benign split event indicators scale
.PHONY: bench-campaigns
bench-campaigns: $(STAMP)
	$(BIN)/python tests/bench/bench_campaigns.py $(PARTS)
	$(BIN)/python tests/bench/bench_unseen.py
	$(BIN)/python tests/bench/bench_linking.py
	$(BIN)/python tests/bench/bench_addresses.py

# The capability map and drift against what is known, on a folder of real corpora.
CORPORA ?= ../shared/corpora
.PHONY: bench-map bench-drift
bench-map: $(STAMP)
	$(BIN)/python tests/bench/bench_map.py $(CORPORA)
bench-drift: $(STAMP)
	$(BIN)/python tests/bench/bench_drift.py $(CORPORA)

# Kinds of traffic that nothing learned from, in tests/bench/kinds: which campaigns are found, which benign kinds flagged.
.PHONY: bench-kinds
bench-kinds: $(STAMP)
	$(BIN)/python tests/bench/bench_kinds.py

# Static encoders beside MiniLM: speed, memory, and agreement on the held-out ones of a folder of real corpora.
.PHONY: bench-encoders
bench-encoders: $(STAMP)
	$(BIN)/python tests/bench/bench_encoders.py $(CORPORA)

# The README's pictures, from the traffic of `make demo`; needs Debian's package chromium.
.PHONY: pictures
pictures: $(STAMP)
	$(BIN)/python -m train.pictures

# The demo's sessions plain and disguised: repeated history, tool results, reminders, hidden characters, look-alikes.
.PHONY: bench-disguises
bench-disguises: $(STAMP)
	$(BIN)/python tests/bench/bench_disguises.py

# Importing requests that repeat their history, beside plain rows; and every format's cases changed at random.
REQUESTS ?= 1000000
CHANGES ?= 2000
.PHONY: bench-import fuzz-logs
bench-import: $(STAMP)
	$(BIN)/python tests/bench/bench_import.py --requests $(REQUESTS)
fuzz-logs: $(STAMP)
	$(BIN)/python tests/bench/fuzz_logs.py -n $(CHANGES)

# Bundles, indicators, archives and checkpoints changed in ways that know their structure: FILES of each kind.
FILES ?= 1000
.PHONY: fuzz-files
fuzz-files: $(STAMP)
	$(BIN)/python -W ignore tests/bench/fuzz_files.py --out .cache/fuzz -n $(FILES)

.PHONY: bench-report
bench-report: $(STAMP)
	$(BIN)/python tests/bench/bench_report.py

# Verdicts in process and over HTTP beside the bare encoder; OBSERVED is how many exchanges memory is measured with.
OBSERVED ?= 1000000
.PHONY: bench-serve
bench-serve: $(STAMP)
	$(BIN)/python tests/bench/bench_serve.py --exchanges $(OBSERVED)

# schemathesis on all phases, without and with keys, EXAMPLES for each operation; then CASES bodies of anything.
CASES ?= 20000
EXAMPLES ?= 100
.PHONY: fuzz-serve
fuzz-serve: $(STAMP)
	$(BIN)/python -W ignore tests/bench/fuzz_serve.py --cases $(CASES) --examples $(EXAMPLES)

# The service under attack: answers, memory, and how soon it is healthy meanwhile; then what kills of batches and of the
# live service lose; then 64 clients over capacity for a minute.
.PHONY: bench-attacks bench-kills bench-crowd bench-canaries
bench-attacks: $(STAMP)
	$(BIN)/python tests/bench/bench_attacks.py
bench-kills: $(STAMP)
	$(BIN)/python tests/bench/bench_kills.py
bench-crowd: $(STAMP)
	$(BIN)/python tests/bench/bench_serve.py --crowd

# Failures of the service and of batches with a canary as their prompt, which is then looked for everywhere.
bench-canaries: $(STAMP)
	$(BIN)/python tests/bench/bench_canaries.py

# A day of growing sessions in one process, by a clock that is moved: SESSIONS new ones.
SESSIONS ?= 1000000
.PHONY: bench-long-run
bench-long-run: $(STAMP)
	$(BIN)/python tests/bench/bench_long_run.py --sessions $(SESSIONS)

# Known vulnerabilities of what constraints.txt pins.
.PHONY: audit
audit: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[audit]'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

# Whether reasons hold: ranges, sums, sentences, and what removing the prompts they name does to a score.
.PHONY: bench-reasons
bench-reasons: $(STAMP)
	$(BIN)/python tests/bench/bench_reasons.py

# The analyst's page with 100,000 sessions in its queue; needs Debian's package chromium.
.PHONY: bench-page
bench-page: $(STAMP)
	$(BIN)/python tests/bench/bench_page.py

# A wheel and a source distribution of what is committed, in DIST; the same commit gives the same wheel to the byte.
# `sbom` adds sbom.json: every package of an empty environment that the wheel is installed in.
DIST ?= dist
SHIP := .cache/ship
SHIP_STAMP := $(SHIP)/.installed
.PHONY: wheel sbom bench-wheel
$(SHIP_STAMP): constraints.txt
	$(PYTHON) -m venv --clear $(SHIP)
	$(SHIP)/bin/python -m pip install --quiet --constraint constraints.txt build setuptools cyclonedx-bom
	touch $(SHIP_STAMP)
wheel: $(SHIP_STAMP)
	rm -rf $(DIST) build/wheel
	mkdir -p build/wheel
	git -c tar.umask=0022 archive HEAD | tar --extract --same-permissions --directory build/wheel
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(SHIP)/bin/python -m build --no-isolation --outdir $(DIST) build/wheel >build/wheel.log 2>&1 || { cat build/wheel.log; exit 1; }
	rm -r build/wheel
sbom: wheel
	$(PYTHON) -m venv --clear build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt $(DIST)/*.whl
	$(SHIP)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --output-file $(DIST)/sbom.json build/empty/bin/python

# Two wheels compared; then seconds and MiB from an empty environment to verdicts of an OpenAI log.
bench-wheel: $(SHIP_STAMP)
	$(BIN)/python tests/bench/bench_wheel.py

# 200 requests through each plug-in with the clients' own libraries, which have an environment of their own.
PLUG := .cache/plug
.PHONY: bench-plug
$(PLUG)/.installed:
	$(PYTHON) -m venv --clear $(PLUG)
	$(PLUG)/bin/python -m pip install --quiet litellm opentelemetry-sdk opentelemetry-exporter-otlp-proto-http standardwebhooks
	touch $(PLUG)/.installed
bench-plug: $(STAMP) $(PLUG)/.installed
	$(BIN)/python tests/bench/bench_plug.py --clients $(PLUG)/bin/python
