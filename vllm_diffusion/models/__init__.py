"""Model classes, config shims and what serving them asks of vLLM's config.

``registry`` (architecture -> class and shim), ``configs`` (config.json without
remote code), ``serving`` (limits and defaults, set at start-up), ``sdar``.
"""
