"""Both twins behind a real server: start it, ask it, measure, report.

engine.py    ``engine``: an engine without a server, in a process of its own
server.py    ``serve``: a vLLM server for the length of a ``with`` block
client.py    ``ask`` and ``run_pass``: prompts through the OpenAI client, timed
settings.py  ``Setting``: a model and how it decodes
measure.py   every pass of every setting: warm-up, timing, accuracy
results.py   passes to numbers
machine.py   what ran where: processor, versions, commit
tables.py    tables for the terminal
markdown.py  sections of docs/benchmarks.md
plot.py      docs/plots/twin.png
"""
