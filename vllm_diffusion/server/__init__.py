"""The front end: what a request may ask for, and what its response says.

``fields`` (what becomes of every field of an HTTP request), ``admission`` (those
that would be ignored are refused, by it), ``validation`` (sampling parameters:
honoured, or refused by name), ``sampling_fields`` (which of them a model cannot
honour, or not together), ``structured`` (what goes together with a grammar),
``handlers`` (what vLLM's lack), ``token_feed`` (parsers of tool calls and thoughts
read token by token), ``prometheus`` (counters on ``/metrics``), ``response`` (a
response's ``metrics``).
"""
