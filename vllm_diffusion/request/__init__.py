"""What one request asks for, checked once. [every process]

- ``params``, ``effort``, ``wording``: its ``diffusion_*`` fields, levels of effort, its words
- ``sampling``: sampling fields that vLLM lacks
- ``plan``: how a loaded checkpoint is decoded, and what wins over what
- ``keys``: what travels between front end and worker beside the fields
- ``quote``, ``field_errors``: how messages name a value and a field
"""
