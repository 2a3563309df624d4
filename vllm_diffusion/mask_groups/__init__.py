"""Which tokens see which, and what a step computes of a request because of it. [core, worker]

- ``spans``: which tokens a step computes, by mask group
- ``sequences``: virtual sequences, the block-causal mask on any paged attention kernel
- ``dense``: the masks as matrices, for checks and for reading
"""
