"""The plugin against a plain torch decoder: equal tokens, equal number of denoising steps.

``reference`` (the decoder), ``cases`` (requests, and what the reference makes of
them), ``engines`` (vLLM in this process, stepped by hand), ``conftest`` (both of
them, made once).
"""
