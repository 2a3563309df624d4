"""What ``benchmarks/compilation.py`` is made of."""
