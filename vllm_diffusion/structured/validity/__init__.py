"""Whether a finished text is what its request asked for: the last line, behind every automaton.

Nothing here shares code with what makes texts, but for the reading of regular expressions: schemas
are validated by the library jsonschema, expressions and grammars are followed by llguidance over
bytes, choices and words are looked up, structural tags are read by a parser of our own.

- ``check``: one text against one constraint
- ``json_text``, ``pattern``, ``tags``, ``parameters``: schemas, expressions and grammars,
  structural tags, arguments in Qwen's XML
"""
