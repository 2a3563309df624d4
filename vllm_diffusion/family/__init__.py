"""What is known of an architecture. [every process]

- ``record``: all that is known of a family: its names and the axes on which families differ
- ``rows``: one record an architecture
- ``registry``: tables of its class, its config shim and its names, derived from the rows
"""
