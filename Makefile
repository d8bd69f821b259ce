# make run     set up and serve the page on 127.0.0.1:7860
# make test    set up and run every test, on two workers (make test WORKERS=n: on n)
# make test-gpu  the acceptance suite on one NVIDIA GPU, under ten minutes; says so where there is none
# make test-engines  where runs execute, in full: a true Slurm and a true Ray; minutes
# make test-counts  a tiny checkpoint of every family through Unsloth's real loader: each part's bytes and the adapter's
#              parameters beside RankViz's, half an hour; writes the table in docs/method.md
# make fuzz    broken input for every reader, 10,000 new cases each (make test: 200, the same each time);
#              RANKVIZ_FUZZ_SEED=... repeats a run
# make mutants  change the code of core/lora, core/cost, verdict and store at 300 random places, one at a time, and count
#              the changes that tests notice; fails below 90 %; half an hour
# make lint    style and imports
# make assets  rebuild assets/ from the configs, the installed Unsloth and the dictionary
# make validate  predict the measured rows that ship; writes assets/validation.json
# make fidelity  fast curves beside independent runs, one to two hours; writes assets/fidelity.json
# make forecast  count the published rank studies, each left out in turn; writes assets/forecast.json
# make constraints  write the versions that the image installs anew: those that the tests have
# make truth   hold the memory formula against simulated training steps of the real code, 20 minutes on two quiet cores
#              (SEED=n: other settings); writes assets/truth.json
# make docs    write the generated parts of docs/ and README.md
# make golden  write the answers that refactorings must not move anew
# make attacks  what hostile visitors do to a shared page, replayed in full (make test: one or two of a kind)
# make exports  60 random exports, run as they are, beside what RankViz says of them: all equal, or it fails; writes
#              docs/method.md (SEED=n draws others)
# make load    fifty visitors for two minutes, alone and beside a run that the page trains: errors, p50 and p95, memory
#              and its growth; fails where what is to be reached on two idle cores is not
# make bench   print speed and size, as ratios where possible, into docs/bench.txt too (make bench page: only the page,
#              beside bare Gradio; make bench bounds: a runs folder of 12,050 runs, beside the bounds that hold for it)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: run test test-slow test-gpu test-engines mutants fuzz attacks load lint assets constraints docs golden validate fidelity forecast bench setup setup-test truth exports test-counts

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

$(VENV)/.installed: requirements.txt requirements-train.txt pyproject.toml hatch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-train.txt -e .
	$(BIN)/python -m pip check
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed requirements-test.txt requirements-trackio.txt requirements-ray.txt requirements-png.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip check
	command -v chromium || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; }
	touch $@

run: setup
	$(BIN)/python app.py

# One thread a worker; tests/conftest.py says which tests stay together, and in which order they come.
test: setup-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: setup-test
	$(BIN)/python -m pytest -m slow

test-gpu: setup
	$(BIN)/python -m tests.gpu

# The slow ones are the models that are no family's smallest.
test-counts: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/core/lora -m slow -n $(WORKERS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.counts

test-engines: setup-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "ray[default]"
	command -v slurmctld || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/jobs -m "slow or not slow" -n0 --ignore tests/jobs/test_true_ray.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/jobs/test_true_ray.py -m slow -n0  # Ray reads its token once a process

# These three write what they counted into docs/security.md; load only where all of it was reached.
fuzz: setup-test
	mkdir -p build && rm -f build/fuzz.jsonl
	RANKVIZ_FUZZ_SEED=$${RANKVIZ_FUZZ_SEED:-$$(date +%s)} RANKVIZ_FUZZ_CASES=10000 RANKVIZ_FUZZ_REPORT=build/fuzz.jsonl $(BIN)/python -m pytest tests/fuzz -n $(WORKERS) --timeout 3600
	$(BIN)/python -m docs.generate.withstood fuzz build/fuzz.jsonl

attacks: setup-test
	mkdir -p build && rm -f build/attacks.jsonl
	RANKVIZ_ATTACK_REPORT=build/attacks.jsonl $(BIN)/python -m pytest tests/attacks -m "slow or not slow" -n0
	$(BIN)/python -m docs.generate.withstood attacks build/attacks.jsonl

load: setup-test
	mkdir -p build && rm -f build/load.jsonl
	$(BIN)/python -m benchmarks.load --report build/load.jsonl
	$(BIN)/python -m docs.generate.withstood load build/load.jsonl

mutants: setup-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "cosmic-ray>=8.4,<9" "coverage>=7.6,<8"
	$(BIN)/python -m benchmarks.mutants --jobs $(WORKERS)

exports: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.exports 60 $(or $(SEED),24)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m docs.generate

golden: setup-test
	$(BIN)/python -m tests.golden.answers tests/golden/answers.jsonl.gz
	$(BIN)/python -m tests.golden.drawn tests/golden/drawn.jsonl.gz

# Of what the tests have, without the tools of the tests and the part of a version that names a build.
constraints: setup-test
	grep "^#" constraints.txt > build.txt
	$(BIN)/python -m pip freeze --exclude-editable | sed -n 's/^\([^ ]*==[^+ ]*\).*/\1/p' | grep -viE "^(pydantic|triton|pytest|playwright|axe|ruff|import-linter|grimp|execnet|setuptools|wheel)" >> build.txt
	mv build.txt constraints.txt

assets: setup
	$(BIN)/python -m tools.models
	$(BIN)/python -m tools.names
	$(BIN)/python -m tools.samples
	$(BIN)/python -m tools.asset_schema

validate: setup
	$(BIN)/python -m rankviz validate -o assets/validation.json --force
	$(BIN)/python -m docs.generate

truth: setup
	status=0; OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.truth $(if $(SEED),--seed $(SEED)) --jobs $(WORKERS) -o assets/truth.json || status=$$?; $(BIN)/python -m docs.generate; exit $$status

# The words after bench name benchmarks; as targets they do nothing.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
BENCHES := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
$(BENCHES): ;@:
endif

bench: setup-test
	$(BIN)/python -m benchmarks.main $(BENCHES) $(if $(BENCHES),,| tee docs/bench.txt)

fidelity: setup
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m docs.generate

forecast: setup
	$(BIN)/python -m tools.forecast
	$(BIN)/python -m docs.generate
