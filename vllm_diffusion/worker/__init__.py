"""The denoising step on vLLM's model runner. [worker]

- ``model_state``: inputs and attention metadata of a step, as the mask group says
- ``adapters``: LoRA, by rows of logits
- ``guidance``: classifier-free guidance of a step's logits
- ``sampler``: the denoising step of a batch. Start here
- ``cpu_step``, ``cpu_constrained``: the plain step in one C++ call; that of constrained requests
- ``grammars``, ``matchers``, ``constrained``, ``constrained_draws``: requests that are held to a
  constraint, and their candidates
- ``frames``: what a step did to watched requests
- ``stages``: ranks of a pipeline hold the canvases of the last one
- ``rehearsal``: the memory of a step's sampling, for vLLM's profile
- ``attention_check``: a backend's attention against plain torch, once at start-up
"""
