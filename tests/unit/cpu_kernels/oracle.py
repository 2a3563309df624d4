"""The real Triton kernels of vLLM, run by Triton's interpreter in a process of their own.

Why a process: the interpreter is chosen by an environment variable that Triton reads when it is
imported, and other tests of the same run may import Triton without it. The kernels are taken
out of vLLM's source files as they stand; nothing of vLLM is imported.

Triton is big and the CPU host works without it, so it need not be installed in the environment
(vLLM finds it, warns that it cannot use it, and imports it all the same). It is looked for in
``build/triton`` too, where only this process sees it:

    pip install --no-deps --target build/triton triton==3.7.1
"""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

TRITON_DIRECTORY = Path(__file__).parents[3] / "build" / "triton"

# A launch argument that is a table of addresses travels as (POINTERS, tensors): an address means
# something in one process only.
POINTERS = "pointers"


def is_pointers(argument: Any) -> bool:
    return isinstance(argument, tuple) and argument[0] == POINTERS


def resolve(args: list[Any]) -> list[Any]:
    """Return launch arguments with addresses in place of tensors to point at."""
    return [
        torch.tensor([t.data_ptr() for t in a[1]], dtype=torch.uint64) if is_pointers(a) else a
        for a in args
    ]


class Oracle:
    """Client of the interpreter process."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(TRITON_DIRECTORY), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def launch(
        self, kernel: str, grid: tuple[int, ...], args: list[Any], constexprs: dict[str, Any]
    ) -> list[Any]:
        """Run `kernel` and return its arguments as it left them."""
        assert self._process.stdin is not None and self._process.stdout is not None
        pickle.dump((kernel, grid, args, constexprs), self._process.stdin)
        self._process.stdin.flush()
        result = pickle.load(self._process.stdout)
        assert not isinstance(result, str), f"the interpreter failed on {kernel}: {result}"
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


def missing_package() -> str | None:
    """Return what has to be installed before the kernels can be run, if anything."""
    if find_spec("vllm") is None:
        return "vllm"
    if find_spec("triton") is None and not (TRITON_DIRECTORY / "triton").is_dir():
        return "triton"
    return None


def source_of(module: str) -> Path:
    """The file of a vLLM module, which is not imported."""
    vllm = find_spec("vllm")
    assert vllm is not None and vllm.submodule_search_locations is not None
    path = Path(vllm.submodule_search_locations[0]).joinpath(*module.split(".")[1:])
    return path.with_suffix(".py")


def parameters(kernel: str) -> tuple[str, ...]:
    """The parameters of a kernel, as vLLM's source has them."""
    module, _, name = kernel.rpartition(".")
    functions = {
        node.name: node
        for node in ast.parse(source_of(module).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    return tuple(argument.arg for argument in functions[name].args.args)


def load_kernels(module: str) -> dict[str, Any]:
    """Return the Triton functions of a vLLM module, compiled against the real Triton."""
    import triton
    import triton.language as tl

    path = source_of(module)
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if _is_device_code(node)]
    namespace: dict[str, Any] = {"__name__": module, "triton": triton, "tl": tl}
    # Imports of device code: CUDA's libdevice (one function used), and one function of a sibling.
    namespace["libdevice"] = types.SimpleNamespace(isnan=lambda x: x != x)
    if module.endswith("gpu.block_table"):
        namespace["_load_ptr"] = load_kernels("vllm.v1.worker.gpu.buffer_utils")["_load_ptr"]
    exec(compile(tree, str(path), "exec"), namespace)  # with the path, Triton finds the source
    return namespace


def _is_device_code(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return any("triton.jit" in ast.unparse(d) for d in node.decorator_list)
    return isinstance(node, ast.Assign) and "tl.constexpr" in ast.unparse(node.value)


def serve() -> None:
    """Answer launches from standard input until it is closed."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints goes to standard error
    modules: dict[str, dict[str, Any]] = {}
    while True:
        try:
            kernel, grid, args, constexprs = pickle.load(requests)
        except EOFError:
            return
        module, _, name = kernel.rpartition(".")
        result: list[Any] | str = args
        try:
            if module not in modules:
                modules[module] = load_kernels(module)
            modules[module][name][grid](*resolve(args), **constexprs)
        except Exception as error:
            result = repr(error)
        pickle.dump(result, replies)
        replies.flush()


if __name__ == "__main__":
    serve()
