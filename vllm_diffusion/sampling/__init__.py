"""What requests ask of logits and of scores, by slot. [worker]

- ``extras``: all of it, in the order in which a step does it
- ``shaping``: biases, penalties, bad words, allowed tokens
- ``logprobs``: log-probabilities of accepted tokens
- ``draws``: which rows are drawn from
"""
