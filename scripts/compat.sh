#!/usr/bin/env bash
# Ask another vLLM whether every contact is where it was, from its Python files alone.
#
#   scripts/compat.sh                   # vLLM 0.33.0
#   VERSION=0.34.0 scripts/compat.sh    # arguments go to pytest
#
# Its wheel lies in build/compat; .venv is not touched. The compiled parts of that wheel are for
# GPUs and stay packed: the version gets the label "+cpu", by which vLLM takes its CPU platform, and
# vLLM goes without what it cannot import. So nothing is served here; the probes and those unit
# tests run that touch vLLM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${VERSION:-0.33.0}
python=$PWD/${VENV:-.venv}/bin/python
root=$PWD/build/compat/vllm-$version

unpack() {
  if [ -f "$root/stamp" ]; then return; fi
  echo "  fetching vllm $version"
  local wheels=$PWD/build/compat/wheels
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$wheels" "vllm==$version"
  rm -rf "$root"
  "$python" - "$root" "$wheels/vllm-$version-"*.whl <<'PYTHON'
import sys, zipfile
from pathlib import Path

root, wheel = Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(wheel) as packed:
    for name in packed.namelist():
        if name.startswith("vllm/") and name.endswith((".py", ".json", ".jinja")):
            packed.extract(name, root)
        if name.endswith(".dist-info/METADATA"):
            folder = root / name.split("/")[0].replace(".dist-info", "+cpu.dist-info")
            folder.mkdir(parents=True)
            lines = packed.read(name).decode().splitlines()
            marked = [f"{line}+cpu" if line.startswith("Version: ") else line for line in lines]
            (folder / "METADATA").write_text("\n".join(marked) + "\n")
PYTHON
  # What 0.33 imports and 0.32 does not.
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$root" orjson
  touch "$root/stamp"
}

unpack
export PYTHONPATH=$root:$PWD${PYTHONPATH:+:$PYTHONPATH}
"$python" -m scripts.probe_contacts "$root/vllm" || true
grep -lE '\bvllm\.|"vllm"' tests/unit/*.py tests/unit/cpu_kernels/test_registry.py |
  xargs "$python" -m pytest -m 'not slow' --continue-on-collection-errors "$@"
