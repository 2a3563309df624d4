"""Block diffusion on Model Runner V2 and its scheduler.

``scheduler`` (engine core: canvas widths, fused commit), ``ledger`` (what it
counts), ``model_state`` (worker: inputs and attention metadata), ``sampler``
(worker: the denoising step on the runner's batch), ``requests`` (worker: what
each slot's request asked for), ``extras`` (worker: what it asked for besides
tokens), ``cpu`` (the runner's kernels without Triton).
"""
