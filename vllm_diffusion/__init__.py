"""Diffusion language models on stock vLLM.

Nothing is imported here on purpose: vLLM loads ``vllm_diffusion.plugin`` in
every process, and most of those processes never touch a diffusion model.

A folder belongs to one process of vLLM's, or to none.

Every process: ``plugin`` (the registration), ``compat`` and ``patching`` (contacts with vLLM),
``family`` and ``configs`` (what is known of an architecture), ``startup`` and ``checkpoint`` (what
is checked before weights are read), ``request`` (what a request asks for), ``metrics`` and
``counters`` (how it was decoded), ``frames`` (what a step did to a watched request)

API server: ``server``, ``endpoints`` (routes of our own). Beside an ``LLM()``: ``trace``. Engine
core: ``scheduler``, ``executor`` (Ray without an accelerator). Both engine core and worker:
``isolation``.

Worker: ``worker`` (the step on vLLM's runner), ``batch``, ``sampling``, ``models``, ``cpu``

None, torch alone: ``denoise`` (the denoising step: start there), ``mask_groups`` (which tokens see
which), ``structured`` (what texts are held to), ``kernels`` (operations in torch and in C++)

None, Python alone: ``decisions`` (questions with a closed set of answers)

``cli``, ``doctor``, ``cluster`` and ``terminal`` are the command ``vllm-diffusion``.
"""

__version__ = "0.1.0"
