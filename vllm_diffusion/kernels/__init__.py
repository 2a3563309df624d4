"""Tensor operations that have more than one implementation.

Every operation is defined once, in torch; C++ (sources in ``csrc``) has the same outcome and is
tested equal to it. It runs for CPU tensors when the library loaded; torch runs for other devices,
and on the CPU without the library. Nothing here imports vllm.

====================  ===================  ====================================================
operation             C++                  torch
====================  ===================  ====================================================
``row_stats``         ``cpu_row_stats``    ``reference``
the denoising step    ``cpu_denoise``      ``denoise.step``, which also has what is not plain
that under automata   ``cpu_constrained``  ``structured.block_text``, ``worker.constrained``
sums, draws by class  ``cpu_class_stats``  ``structured.class_stats``, ``structured.class_draws``
sums over automata    ``cpu_posterior``      ``structured.posterior``
====================  ===================  ====================================================

``dispatch`` is what callers use: it picks an implementation, says which one and why. ``library``
loads the compiled library ``_cpu_ops``. ``tiles`` bounds the memory of what is made in torch.
"""
