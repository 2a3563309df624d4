"""The denoising step: logits in, canvases out. Start with ``step``.

Torch alone; batched over requests; no host sync.

- ``step``: one step for a batch
- ``canvas``: the canvases of all requests: tokens, what is masked, steps
- ``sample``, ``random``: candidate tokens and how sure the model is of them; counter-based draws
- ``accept``, ``schedule``, ``policies``: which positions are accepted
- ``converge``, ``edit``, ``verify``: when a block is finished; edits; drafts against the causal
  mode
- ``laid``: tokens that stand in a canvas before it is denoised
- ``following``: where in its draft a text goes on
- ``rules``: what some requests ask of a step beside a policy: seeds, sub-blocks, chance
"""
