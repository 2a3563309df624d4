"""Model classes, config shims and what serving them asks of vLLM's config.

- ``registry``: architecture -> class, shim and hook
- ``configs``: ``config.json`` without remote code
- ``qwen``, ``llama``, ``bailing``, ``diffusion_gemma``: model classes, by vLLM's network;
  ``block_diffusion``: what makes them diffusion models
- ``parser``: overrides, and a hint in vLLM's errors for checkpoints that nothing serves
- ``startup``, ``serving``: what is set and checked at start-up: the model's config, then vLLM's
- ``checkpoint``, ``headers``, ``tensors``, ``llada2``: checks before weights are read; which of two
  releases
"""
