"""Tensor operations that have more than one implementation.

Every operation is defined once, in torch, in ``reference.py``; the others have the same signature
and are tested equal to it. Nothing here imports vllm.

==============  =====================================  ==========================================
operation       C++ (``cpu.py``, sources in ``csrc``)  torch (``reference.py``)
==============  =====================================  ==========================================
``row_stats``   CPU tensors, when the library loaded   other devices; CPU without the library
==============  =====================================  ==========================================

Files:
    dispatch.py   what callers use: picks an implementation, says which one and why
    reference.py  torch definitions, result types, argument checks
    cpu.py        binding to the compiled library ``_cpu_ops``
"""
