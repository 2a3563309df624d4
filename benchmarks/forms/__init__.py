"""One extraction asked in every form that holds an answer to a shape.

questions.py  the prompts, and the nine forms as request bodies
asking.py     sends them and judges the answers
__main__.py   serves the bundled pair and writes the tables
"""
