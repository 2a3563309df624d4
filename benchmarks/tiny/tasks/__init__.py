"""The synthetic tasks, one small family a file.

words.py     copy, reverse, spell
records.py   json, csv, html
tools.py     tool
calls.py     extract, call
code.py      code
fim.py       fim
edits.py     edit
needles.py   needle, rag
decide.py    decide
letters.py   letter
sql.py       sql
lexicon.py   the words and fields all of them draw from
registry.py  ``TASKS``: name -> function
"""
