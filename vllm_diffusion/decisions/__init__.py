"""Questions about a state, answered by the probabilities that a model gives to a closed set.

Nothing here knows vLLM or HTTP: bodies of three shapes become one ``Decision``, a decision becomes
texts and tries of tokens, and what an engine reads becomes answers. ``endpoints`` is in between.

- ``asked``: a decision, its questions and options; ``fields``: how a body is checked
- ``shapes``: which shape a body has; ``system_one``, ``openai``, ``sglang``: one shape each
- ``prompts``: what the model reads, and the labels that it may answer with
- ``trie``: the reads of options of several tokens; ``formulas``: probabilities and confidence
- ``reading``: from prompts to reads, and from what was seen to answers
- ``calibration``: the server's temperatures
"""
