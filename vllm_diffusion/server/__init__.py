"""The front end: what a request may ask for, and what its response says.

``install`` puts it all into vLLM's server. In the order in which a request meets them:

- ``gate``, ``body``: what no body may hold; ``request_models``, ``routes``,
  ``merging``: how it is read
- ``admission`` with ``fields``, ``forms`` and ``templates``: what would be ignored is refused;
  ``refusal``: in which words
- ``dialect``: what other servers' clients say, and what an answer tells them of it
- ``tool_grammar``, ``reasoning``: the form of calls; levels of effort
- ``validation`` with ``sampling_fields``, ``seed_canvas`` and ``structured``: a request is parsed
  and checked, for ``LLM()`` too; ``taken``: how it travels from there to the engine
- ``draft_text``: a draft's text becomes tokens; ``prediction``: OpenAI's word for such a draft
- ``compilation``: constraints, before the request is taken; ``acceptance``: when a stream begins
- ``label_reads``: what a model says of given tokens at one masked position, for any family;
  ``likelihood``: log-probabilities of a text, a read for each token; ``likelihood_fields``: what is
  asked of them; ``likelihood_bound``: the Monte-Carlo bound of masked models
- ``outputs``, ``token_feed``: an error of one request stays with it; parsers read token by token
- ``finished``: a finished text is checked before its end is told
- ``edit_tags``, ``edit_prompt``: what an editor's message says, and how a model is asked for it
- ``infill``: the text between two passages; ``sse``: an event of a stream
- ``handlers``, ``response``: what is said beside the text; ``account``: what it has cost;
  ``errors``: what a refusal looks like
- ``watching``, ``frame_events``: frames of watched requests, and the events that they become;
  ``drafts``: chunks with the whole text so far; ``early``: settled text before its block
- ``request_log``, ``spans``: a line, and a trace's attributes, for each finished request
- ``prometheus``: counters on ``/metrics``; ``ending``: what clients are told when the server ends
"""
