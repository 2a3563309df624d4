"""Structured output: what a text is held to while its canvas is filled in parallel.

- ``constraint``, ``limits``, ``compiled``: what is asked for, what it may cost, what it becomes
- ``compiler``, ``service``, ``compile_process``: which mechanism bears it; the processes
- ``validity``, ``check_service``: a finished text against what it was held to
- ``json_schema``, ``regex_ast``, ``regex_json``, ``grammar_text``, ``structural_tag``,
  ``qwen_xml``, ``markers``: schemas, expressions, grammars and tags as clients write them
- ``regex_dfa``, ``token_dfa``, ``token_ends``, ``token_classes``, ``vocabulary``: automata over
  bytes and over a tokenizer's tokens
- ``lexical``, ``lexical_dfa``: keywords, texts to keep out, lengths
- ``matcher``, ``dfa_matcher``, ``grammar_matcher``, ``shortest_end``, ``mask``: where a text
  stands, how it comes to its end, which tokens may follow
- ``frontier``, ``reasoning``, ``budget``: a canvas and its constraint; thoughts in front of it
- ``posterior``, ``block_text``, ``class_stats``, ``class_draws``: the distribution of a block under
  automata
"""
