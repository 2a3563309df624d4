"""Every refusal that can be made without a server, and its text, frozen in golden files.

``record`` says what a case is and how its text is written; ``decode``, ``structured``, ``requests``
and ``startup`` hold the cases, ``golden`` makes a file of each. ``python -m tests.refusals [NAME]``
writes those of ``tests/unit/golden/`` anew, which a unit test compares with: a text changes on
purpose and is read in the diff.
"""
