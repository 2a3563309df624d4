"""Block diffusion on Model Runner V2 and its scheduler.

Engine core:

- ``scheduler``, ``spans``: canvas widths and the free commit; which tokens a step computes
- ``ledger``, ``prompt_scores``: what it counts; a causal prompt's log-probabilities

Worker:

- ``model_state``, ``view``, ``inputs``, ``guidance``: inputs and attention metadata of a step, what
  each request does in it, corrections, the second sequence of guided requests
- ``sampler``, ``canvases``, ``requests``, ``draws``: the denoising step on the runner's batch, its
  canvases, what each slot's request asked for, which rows are drawn from
- ``cpu_step``, ``cpu_constrained``: the plain step in one C++ call; that of constrained requests
- ``rehearsal``: the memory of a step's sampling, for vLLM's profile
- ``extras``, ``shaping``, ``slot_lists``, ``logprobs``: what requests ask for besides tokens
- ``grammars``, ``matchers``, ``constrained``, ``constrained_draws``: requests that are held to a
  constraint, and their candidates
- ``cpu``: the runner's kernels without Triton

Both: ``failures`` (an error of one request ends that request alone), ``lifetime`` (they end with
the process that started them).
"""
