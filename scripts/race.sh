#!/usr/bin/env bash
# The bundled diffusion model and its autoregressive twin side by side, for the race on the page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=${HOST:-127.0.0.1} port=${PORT:-8000} twin_port=${TWIN_PORT:-8001} bin=${VENV:-.venv}/bin
memory=(--kv-cache-memory-bytes "${KV_CACHE_BYTES:-268435456}")
export VLLM_USE_AOT_COMPILE="${VLLM_USE_AOT_COMPILE:-0}"

"$bin/vllm" serve examples/models/tiny-ar --host "$host" --port "$twin_port" \
  --served-model-name tiny-ar --allowed-origins "[\"http://$host:$port\", \"http://localhost:$port\"]" "${memory[@]}" &
twin=$!
"$bin/vllm-diffusion" serve examples/models/tiny-diffusion --host "$host" --port "$port" \
  --served-model-name tiny-diffusion "${memory[@]}" &
model=$!
trap 'kill "$twin" "$model" 2>/dev/null; wait' EXIT
echo "  The page: http://$host:$port/#race   the twin's address there: http://$host:$twin_port"
wait -n "$twin" "$model"
