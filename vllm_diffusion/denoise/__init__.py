"""The denoising step: logits in, canvases out. Start with ``step.py``.

``step`` (one step for a batch), ``sample`` (candidate tokens and how sure the
model is of them), ``random`` (counter-based draws), ``shape`` and ``bad_words`` (what
requests ask of the logits), ``logprobs`` (scores of accepted tokens), ``policies`` (which
positions are accepted). Torch alone; batched over requests; no host sync.
"""
