"""``python -m tests.cluster.keeper NAME ADDRESS [PEER_PID PEER_ADDRESS]`` keeps namespaces.

Says "ready" and lives until its input ends, so it does not outlive the tests.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from pyroute2 import IPRoute

from tests.cluster import link
from tests.cluster.host import ADDRESSES, DEVICE
from tests.cluster.namespaces import LIBC, NEW_MOUNTS, NEW_NAME, NEW_NETWORK, checked

RAY_FILES = Path("/tmp/ray")
"""Ray's own default: each host has its own, as hosts have."""
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18


def mount_memory(path: str, size: str) -> None:
    checked(LIBC.mount(b"tmpfs", path.encode(), b"tmpfs", 0, f"size={size}".encode()), path)


def put(path: str, text: str) -> None:
    """Let this host find a text in the place of a file."""
    with NamedTemporaryFile("w") as other:
        other.write(text)
        other.flush()
        checked(LIBC.mount(other.name.encode(), path.encode(), None, MS_BIND, None), path)


def name_hosts(name: str) -> None:
    """Its own name, and all names and addresses, since nobody answers for them.

    A name server that cannot be reached would cost 10 s for each address that torch looks up.
    """
    socket.sethostname(name)
    known = {"localhost": "127.0.0.1", **ADDRESSES}
    put("/etc/hosts", "".join(f"{address} {host}\n" for host, address in known.items()))
    put("/etc/resolv.conf", "")


def join(address: str, peer: int, peer_address: str) -> None:
    """Make the veth pair, and give the peer its end of it."""
    with IPRoute() as routes:
        end = {"ifname": DEVICE, "net_ns_pid": peer}
        routes.link("add", ifname=DEVICE, kind="veth", peer=end)
    inside = (sys.executable, "-m", "tests.cluster.inside", str(peer))
    take = (sys.executable, "-m", "tests.cluster.link", DEVICE, "up", peer_address, address)
    if os.spawnv(os.P_WAIT, sys.executable, (*inside, *take)) != 0:
        raise OSError("the peer has not taken its end of the veth pair")


def main(name: str, address: str, *peer: str) -> None:
    checked(LIBC.unshare(NEW_NETWORK | NEW_MOUNTS | NEW_NAME), "unshare")
    checked(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    name_hosts(name)
    mount_memory("/dev/shm", "1g")
    RAY_FILES.mkdir(exist_ok=True)
    mount_memory(str(RAY_FILES), "1g")
    link.main("lo", "up")
    if peer:
        join(address, int(peer[0]), peer[1])
        link.main(DEVICE, "up", address, peer[1])
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        raise SystemExit(str(error)) from None
