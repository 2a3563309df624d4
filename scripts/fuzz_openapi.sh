#!/usr/bin/env bash
# Run schemathesis on the server's own /openapi.json: what it says of itself against what it does.
#
#   scripts/fuzz_openapi.sh                             # starts and ends a server
#   URL=http://127.0.0.1:8000 scripts/fuzz_openapi.sh   # asks one that runs
#
# schemathesis lives in build/schemathesis; .venv is not touched. Internal errors alone count:
# vLLM's document leaves out most statuses that it answers with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=build/schemathesis
requirements=(schemathesis==4.32.5)
model=${MODEL:-examples/models/tiny-diffusion}
examples=${EXAMPLES:-30}
bin=${VENV:-.venv}/bin
log=$venv/serve.log
# The routes that clients use; the rest are vLLM's own for other kinds of models.
routes='^/(v1/(completions|chat/completions|responses|messages|models)|tokenize|detokenize|health|version)$'

prepare() {
  if [ "$(cat "$venv/stamp" 2>/dev/null)" = "${requirements[*]}" ]; then return; fi
  echo "Setting up $venv"
  "$bin/python" -m venv --clear "$venv"
  if [ -x "$bin/uv" ]; then
    "$bin/uv" pip install --quiet --python "$venv/bin/python" "${requirements[@]}"
  else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
  fi
  echo "${requirements[*]}" >"$venv/stamp"
}

serve() {
  local port
  port=$("$bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  URL=http://127.0.0.1:$port
  setsid make --no-print-directory serve PORT="$port" MODEL="$model" >"$log" 2>&1 &
  server=$!
  trap 'kill -TERM -- -$server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
  until "$bin/python" -c "import urllib.request; urllib.request.urlopen('$URL/health')" 2>/dev/null; do
    kill -0 $server 2>/dev/null || { tail -n 20 "$log" >&2; exit 1; }
    sleep 1
  done
}

mkdir -p build
prepare
if [ -z "${URL:-}" ]; then serve; fi
"$venv/bin/schemathesis" run "$URL/openapi.json" --include-path-regex "$routes" \
  --checks not_a_server_error --max-examples "$examples" --request-timeout 60 \
  --seed "${SEED:-1}" --generation-deterministic --report junit --report-dir "$venv/report"
"$bin/python" -c "import urllib.request; urllib.request.urlopen('$URL/health')"
