"""Time of row_stats: the torch definition against C++, per call.

    python benchmarks/row_stats.py --threads 1

Prints the best and the median of many calls, and the rate at which the best one reads the logits.
The last column counts runs of the best C++ time that fit in the best torch time.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from vllm_diffusion.kernels import cpu_row_stats, dispatch, library, reference
from vllm_diffusion.kernels.reference import RowStats

SHAPES = [(16, 512), (64, 512), (16, 151936), (128, 151936)]
DTYPES = [torch.bfloat16, torch.float32]


def times_us(call: Callable[[], RowStats], seconds: float) -> tuple[float, float]:
    """Best and median time of one call, in microseconds, over `seconds` of calls (at least 5)."""
    call()
    samples: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(samples) < 5:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e6)
    return min(samples), statistics.median(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="per measured cell")
    parser.add_argument("--level", choices=library.LEVELS, help="default: the best one")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; best and median times")
    print(f"{dispatch.row_stats_reason()}, level used: {args.level or 'the best'}\n")
    print("rows   vocab     dtype            torch us              C++ us   GB/s ratio")

    one = torch.zeros(1, 1)
    best, median = times_us(lambda: cpu_row_stats.row_stats(one, level=args.level), args.seconds)
    for num_rows, vocab_size in SHAPES:
        for dtype in DTYPES:
            logits_NV = torch.randn(num_rows, vocab_size).mul_(4).to(dtype)
            mask_id = vocab_size - 1
            torch_us = times_us(lambda: reference.row_stats(logits_NV, mask_id), args.seconds)  # noqa: B023
            cpp_us = times_us(
                lambda: cpu_row_stats.row_stats(logits_NV, mask_id, level=args.level),  # noqa: B023
                args.seconds,
            )
            gigabytes = logits_NV.numel() * logits_NV.itemsize / 1e9
            print(
                f"{num_rows:4} {vocab_size:7} {str(dtype).removeprefix('torch.'):>9} "
                f"{torch_us[0]:9.1f} {torch_us[1]:9.1f} {cpp_us[0]:9.1f} {cpp_us[1]:9.1f} "
                f"{gigabytes / cpp_us[0] * 1e6:6.1f} {torch_us[0] / cpp_us[0]:5.1f}"
            )
    print(f"\noverhead of a call, one row of one entry: {best:.1f} / {median:.1f} us")


if __name__ == "__main__":
    main()
