#!/usr/bin/env bash
# One model over several hosts, by Ray. Run it on every host:
#
#   serve_two_nodes.sh head  10.0.0.1 MODEL [vllm serve options]   # first, here
#   serve_two_nodes.sh join  10.0.0.2 10.0.0.1                     # then on each other host
#
# The second argument is this host's own address, as the other hosts reach it; the third of `join`
# is the head's. The server starts once NODES hosts (2) have joined; --tensor-parallel-size is NODES
# unless the options say otherwise.
#
# A host that has joined stays until it is stopped (Ctrl-C). The head ends with the server, and with
# its exit code, so a supervisor can start it again.
set -euo pipefail

die() { printf '%s\n' "$*" >&2; exit 2; }
[ $# -ge 3 ] || die "usage: $0 head ADDRESS MODEL [options] | join ADDRESS HEAD_ADDRESS"
role=$1 address=$2 target=$3
shift 3

port=${RAY_PORT:-6379}
nodes=${NODES:-2}
cpus=${RAY_CPUS:-1}              # on hosts without an accelerator a worker takes one
patience=${PATIENCE_SECONDS:-600}
object_store=${OBJECT_STORE_BYTES:-100000000}  # vLLM keeps next to nothing in it

# The device that has this address. torch and NCCL would take the one that the hostname resolves to,
# which on many systems is 127.0.1.1, and wait there for the others.
device=${DEVICE:-$(python3 - "$address" <<'PY'
import fcntl, socket, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for _, name in socket.if_nameindex():
        try:
            found = fcntl.ioctl(any_socket.fileno(), 0x8915, name.encode().ljust(256, b"\0"))
        except OSError:
            continue
        if socket.inet_ntoa(found[20:24]) == sys.argv[1]:
            print(name)
PY
)}
[ -n "$device" ] || die "no network device has the address $address; this host's own is needed"
export VLLM_HOST_IP=$address GLOO_SOCKET_IFNAME=$device NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$device}

# Ray's head asks for a token where it finds one, and hosts that join do not show theirs unless told
# to. So it is said on every host, and the file is the same on all of them.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
if [ "$RAY_AUTH_MODE" = token ]; then
  export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-${XDG_CONFIG_HOME:-$HOME/.config}/vllm-diffusion/ray-token}
  if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    [ "$role" = head ] || die "copy $RAY_AUTH_TOKEN_PATH from the head to this host first"
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
    echo "made $RAY_AUTH_TOKEN_PATH; copy it to the other hosts"
  fi
fi

# A host that does not answer is given up after some 5 s; Ray's own figures add up to half a minute.
export RAY_health_check_initial_delay_ms=${RAY_health_check_initial_delay_ms:-1000}
export RAY_health_check_period_ms=${RAY_health_check_period_ms:-1000}
export RAY_health_check_timeout_ms=${RAY_health_check_timeout_ms:-1000}
export RAY_health_check_failure_threshold=${RAY_health_check_failure_threshold:-4}

# Ray runs workers at niceness 15: whatever else a host does would come before the model.
export RAY_worker_niceness=${RAY_worker_niceness:-0}

start=(ray start --node-ip-address "$address" --num-cpus "$cpus" --disable-usage-stats
  --object-store-memory "$object_store" --block)

case $role in
  join) exec "${start[@]}" --address "$target:$port" ;;
  head) ;;
  *) die "the first argument is head or join, not $role" ;;
esac

"${start[@]}" --head --port "$port" --include-dashboard false &
raylet=$!
trap 'kill "$raylet" 2>/dev/null; wait "$raylet" 2>/dev/null || true' EXIT
export RAY_ADDRESS=$address:$port

python3 - "$nodes" "$patience" <<'PY'
import sys, time, ray

wanted, patience = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while True:
    try:
        ray.init(log_to_driver=False, logging_level="error")
        break
    except ConnectionError:
        if time.monotonic() > patience:
            raise
        time.sleep(1)
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > patience:
        sys.exit(f"{there} of {wanted} hosts have joined")
    time.sleep(1)
PY

# Says what differs between the hosts, and stops here if something does.
folder=()
if [ -d "$target" ]; then folder=(--model "$target"); fi
vllm-diffusion ray-check --address "$RAY_ADDRESS" "${folder[@]}" | grep -E '^differs|differences$'

case " $* " in
  *" --tensor-parallel-size"* | *" -tp "* | *" --pipeline-parallel-size"*) ;;
  *) set -- --tensor-parallel-size "$nodes" "$@" ;;
esac
status=0
vllm serve "$target" --distributed-executor-backend ray "$@" || status=$?
exit "$status"
