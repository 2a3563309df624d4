"""Model classes, by vLLM's network. [worker]

- ``qwen``, ``llama``, ``bailing``, ``diffusion_gemma``: vLLM's networks under the released names
- ``block_diffusion``: what makes them diffusion models
"""
