"""What one request asks for, checked once. [every process]

- ``params``, ``effort``, ``lexical``: its ``diffusion_*`` fields, levels of effort, its words
- ``sampling``: sampling fields that vLLM lacks
- ``seed_canvas``: what it lays into its output before that is decoded
- ``plan``: how a loaded checkpoint is decoded, and what wins over what
- ``parsed``: all of it as one object, and what of it travels to the engine
- ``conflicts``, ``features``: what excludes what and why, a table; how each is recognised
- ``quote``, ``field_errors``: how messages name a value and a field
"""
