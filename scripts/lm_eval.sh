#!/usr/bin/env bash
# Run lm-eval's local-completions and local-chat-completions on the bundled model's own tasks
# (examples/lm_eval/tiny.yaml) against `make serve`, and its scores against our own check.
#
#   scripts/lm_eval.sh                             # starts and ends a server
#   URL=http://127.0.0.1:8000 scripts/lm_eval.sh   # asks one that runs
#
# lm-eval lives in build/lm-eval; .venv is not touched. Without torch: it only asks a server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=build/lm-eval
requirements=(lm-eval[api]==0.4.13 transformers==5.23.0) # transformers: the tokenizer, for token ids
model=${MODEL:-examples/models/tiny-diffusion}
per_task=${PER_TASK:-10}
bin=${VENV:-.venv}/bin
results=$venv/results
log=$venv/serve.log

prepare() {
  if [ "$(cat "$venv/stamp" 2>/dev/null)" = "${requirements[*]}" ]; then return; fi
  echo "Setting up $venv: 0.7 GB"
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

evaluate() { # lm-eval's name of the client, its route
  HF_HUB_OFFLINE=1 HF_HOME=$venv/cache OPENAI_API_KEY=none "$venv/bin/lm-eval" run --model "$1" \
    --model_args "model=$(basename "$model"),base_url=$URL/v1/$2,tokenizer=$model,tokenizer_backend=huggingface,num_concurrent=4,max_retries=1" \
    --tasks tiny --include_path examples/lm_eval --apply_chat_template \
    --output_path "$results/$1" --log_samples
}

mkdir -p build
prepare
"$bin/python" -m benchmarks.tiny.harness write "$venv/tiny.jsonl" --per-task "$per_task"
rm -rf "$results"
if [ -z "${URL:-}" ]; then serve; fi
evaluate local-completions completions
evaluate local-chat-completions chat/completions
"$bin/python" -m benchmarks.tiny.harness compare "$results" "$URL" --per-task "$per_task"
