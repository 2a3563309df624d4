"""The front end: what a request may ask for.

``validation`` (sampling parameters: honoured, or refused by name),
``prometheus`` (counters on ``/metrics``), ``response`` (a response's ``metrics``).
"""
