"""Model classes, config shims and what serving them asks of vLLM's config.

``registry`` (architecture -> class and shim), ``configs`` (config.json without
remote code), ``qwen``, ``llama``, ``bailing`` (model classes, by vLLM's network),
``startup`` and ``serving`` (limits and defaults, set at start-up), ``checkpoint``
(its checks, on ``headers`` and ``tensors``), ``parser`` (unknown checkpoints),
``llada2`` (which of two releases).
"""
