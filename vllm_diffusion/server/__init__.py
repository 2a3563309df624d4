"""The front end: what a request may ask for, and what its response says.

In the order in which a request meets them: ``gate`` and ``body`` (what no body may hold),
``request_models`` and ``routes`` (how it is read), ``admission`` with ``fields``, ``forms`` and
``templates`` (what would be ignored is refused), ``tool_grammar`` (the form of calls),
``validation`` with ``sampling_fields``, ``structured``, ``wording`` and ``room`` (sampling
parameters, for ``LLM()`` too), ``reasoning`` (levels), ``acceptance`` (when a stream begins),
``token_feed`` (parsers read token by token), ``handlers`` and ``response`` (what is said beside the
text), ``errors`` (what a refusal looks like), ``prometheus`` (counters on ``/metrics``).
``install`` puts it all into vLLM's server.
"""
