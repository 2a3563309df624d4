"""Diffusion language models on stock vLLM.

Nothing is imported here on purpose: vLLM loads ``vllm_diffusion.plugin`` in
every process, and most of those processes never touch a diffusion model.
"""

__version__ = "0.1.0"
