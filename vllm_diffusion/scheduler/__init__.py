"""Which tokens a step computes. [engine core]

- ``scheduler``: canvas widths and the free commit
- ``pipeline``: which requests a step leaves out while other steps are under way
- ``frames``: numbers the frames of watched requests
- ``stats``: what is counted
- ``prompt_scores``: a causal prompt's log-probabilities, until the first block is emitted
"""
