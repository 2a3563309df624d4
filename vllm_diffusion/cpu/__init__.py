"""NumPy and torch replacements of the Triton kernels Model Runner V2 launches for text.

A vLLM built for the CPU has no Triton, and Model Runner V2 has no other implementation of these
kernels. `register()` puts the functions of this package in their place; it acts in the process that
calls it, nothing happens on import.

- ``registry``: kernel name -> replacement, and `register`
- ``staged_writes``, ``block_tables``, ``inputs``, ``update``: state of the runner
- ``logprobs``: log-probabilities of a prompt
- ``adapters``: LoRA's products
- ``ragged``, ``memory``: what the kernels are made of
"""

from vllm_diffusion.cpu.registry import register

__all__ = ["register"]
