"""JSON Schema, from a client's text to what is compiled: read, rewritten, proved to have an end.

``read`` checks the text against its dialect, ``circles`` its references, ``rewrite`` says the same
in the keywords that are compiled exactly or refuses by name, ``finite`` finds schemas without a
finite text, ``to_regex`` tells those that are regular languages.
"""
