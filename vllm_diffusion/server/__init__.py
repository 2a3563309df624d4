"""The front end: what a request may ask for.

``validation`` (sampling parameters: honoured, or refused by name).
"""
