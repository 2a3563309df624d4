"""Diffusion language models on stock vLLM.

Nothing is imported here on purpose: vLLM loads ``vllm_diffusion.plugin`` in
every process, and most of those processes never touch a diffusion model.

- ``plugin``, ``compat``: what vLLM loads: the registration, the patches
- ``family``, ``families``: what is known of an architecture; ``models``: its classes and checks
- ``params``, ``effort``, ``wording``, ``plan``: what is asked for, by whom, and what wins
- ``canvas``, ``denoise``, ``kernels``: the denoising step; ``structured``: what texts are held to
- ``engine``: engine core and worker; ``attention``: the masks on vLLM's kernels
- ``server``: the front end; ``metrics``: how a request was decoded
- ``quote``, ``field_errors``: how messages name a value and a field
- ``cli``, ``doctor``: the command ``vllm-diffusion``
"""

__version__ = "0.1.0"
