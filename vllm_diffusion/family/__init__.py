"""What is known of an architecture. [every process]

- ``record``: the axes on which families differ
- ``rows``: one record an architecture
- ``registry``: its class, its config shim, the names it is called by
"""
