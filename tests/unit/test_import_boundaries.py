"""What importing the package costs, and what runs where vLLM is not installed.

``test_house_style.py`` checks the modules of the decoding core; here are the
ones around it.
"""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_itself_imports_nothing() -> None:
    """vLLM imports it in every process, of any model."""
    loaded = run(
        "import sys, vllm_diffusion, vllm_diffusion.plugin\n"
        "print(sorted({'torch', 'numpy', 'vllm', 'rich', 'prometheus_client'} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_modules_around_the_core_load_without_vllm() -> None:
    """Neither vLLM nor what comes with it, so that they can be tested and read anywhere."""
    loaded = run(
        "import sys; sys.modules['vllm'] = None\n"
        "import vllm_diffusion.attention.virtual, vllm_diffusion.attention.dense\n"
        "import vllm_diffusion.cli, vllm_diffusion.doctor, vllm_diffusion.compat\n"
        "print(sorted({'transformers', 'triton'} & set(sys.modules)))"
    )
    assert loaded == "[]"
