"""Real clients against a served model: a script each, run in an environment of its own.

``python -m tests.clients.run`` (``make clients``) makes the environments under ``build/clients``
and writes the table of ``docs/clients.md``. The scripts know only their client and ``checks``.
"""
