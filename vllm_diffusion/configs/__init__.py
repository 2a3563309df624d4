"""``config.json`` without remote code. [every process]

- ``base``, ``qwen``, ``llama``, ``llada2``: config shims, by network
- ``parser``: overrides, and a hint in vLLM's errors for checkpoints that nothing serves
"""
