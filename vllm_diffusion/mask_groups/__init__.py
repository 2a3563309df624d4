"""Which tokens see which, and what a step computes of a request because of it. [core, worker]

- ``base``: the mask group, a class: what the rest of the package may ask of one
- ``block_causal``, ``causal_context``, ``full``: the three of them, a file each
- ``spans``: the words for what a step computes of a request
- ``view``: what each request of a batch does in a step
- ``sequences``: virtual sequences, the block-causal mask on any paged attention kernel
- ``inputs``: corrections to the inputs that the runner has prepared
- ``guidance``: where a guided request's second sequence lies
- ``dense``: the masks as matrices, for checks and for reading
"""
