"""What requests ask of logits, draws and scores: formula and slots in one file. [worker]

vLLM is imported where it is called, so that formulas run without it.

- ``ops``: the features, in their order: START HERE to add one
- ``base``: what a feature is
- ``logits_ops``: runs them around a step
- ``allowed_ids``, ``logit_bias``, ``min_tokens``, ``pinned_text``, ``penalties``, ``bad_words``:
  change logits
- ``top_n_sigma``, ``min_p``, ``top_k_top_p``: cut what is drawn
- ``draws``: which rows are drawn, and with what
- ``logprobs``: log-probabilities of accepted tokens
- ``rows``: the rows of those that ask
"""
