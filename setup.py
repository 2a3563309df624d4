"""Builds the CPU kernels; everything else about the package stands in pyproject.toml.

The extension is optional: without a C++17 compiler the installation goes on, and the package uses
its torch implementations. It is a plain shared library that touches neither Python nor torch; the
stable-ABI flags only give it, and the wheel, a name without an interpreter version.
"""

from glob import glob

from setuptools import Extension, setup

setup(
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    ext_modules=[
        Extension(
            "vllm_diffusion.kernels._cpu_ops",
            sources=["csrc/cpu_ops.cpp"],
            depends=sorted(glob("csrc/include/*.h")),
            include_dirs=["csrc/include"],
            language="c++",
            py_limited_api=True,
            optional=True,
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-fopenmp",
                "-fvisibility=hidden",
                # False alarms inside the AVX-512 header of GCC 12.
                "-Wno-uninitialized",
                "-Wno-maybe-uninitialized",
            ],
            extra_link_args=["-fopenmp"],
        )
    ],
)
