"""``make scale``: every kind of parallelism with every mask group, over HTTP, as one table.

- ``groups``: a family of each mask group, dense and with experts, and what it is asked
- ``grid``: the table's rows: options of the server, on one host or on two
- ``questions``: requests, and what has to come back
- ``servers``: a server on this host, or on two that are namespaces
- ``table``: cells as a section of docs/deploy.md
- ``__main__``: the run
- ``deaths``: servers of which a process is killed, as the table of docs/reliability.md
"""
