"""Block-wise attention on vLLM's paged KV cache.

``virtual`` (virtual sequences: the block-causal mask on any paged attention
kernel), ``dense`` (the same mask as a matrix), ``selfcheck`` (a backend that is
new to us against that matrix, at start-up).
"""
