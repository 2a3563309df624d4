"""row_stats against a float64 oracle: the torch definition and every C++ level of this machine.

Legend: N rows, V vocabulary.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vllm_diffusion.kernels import cpu_row_stats, dispatch, library, reference
from vllm_diffusion.kernels.reference import RowStats

INF, NAN = torch.inf, torch.nan
SHAPES = [(1, 1), (3, 7), (5, 123), (17, 512), (2, 1024), (3, 1025), (2, 4099), (4, 151936)]

LIBRARY = library.library()
LEVELS = library.LEVELS[: LIBRARY.best_level + 1]
IMPLEMENTATIONS = ["torch", *LEVELS]
needs_library = pytest.mark.skipif(LIBRARY.functions is None, reason=LIBRARY.reason)
each_dtype = pytest.mark.parametrize("dtype", reference.LOGITS_DTYPES, ids=str)


@pytest.fixture(params=IMPLEMENTATIONS)
def row_stats(request: pytest.FixtureRequest) -> Callable[..., RowStats]:
    return implementation(request.param)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def implementation(name: str) -> Callable[..., RowStats]:
    return reference.row_stats if name == "torch" else partial(cpu_row_stats.row_stats, level=name)


def oracle(logits_NV: Tensor, exclude_id: int = -1) -> RowStats:
    x_NV = logits_NV.double()
    if exclude_id >= 0:
        x_NV = x_NV.clone()
        x_NV[:, exclude_id] = -INF
    prob_NV = x_NV.softmax(dim=1)
    argmax_N = x_NV.argmax(dim=1)
    rest_NV = prob_NV.scatter(1, argmax_N[:, None], 0.0)
    return RowStats(
        argmax_N=argmax_N,
        prob_N=prob_NV.gather(1, argmax_N[:, None]).squeeze(1),
        second_N=rest_NV.amax(dim=1),
        entropy_N=torch.special.entr(prob_NV).sum(dim=1),
        lse_N=x_NV.logsumexp(dim=1),
    )


def random_logits(shape: tuple[int, int], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(4).to(dtype)


def assert_close(actual: RowStats, expected: RowStats) -> None:
    assert actual.argmax_N.dtype == torch.int64
    torch.testing.assert_close(actual.argmax_N, expected.argmax_N, rtol=0, atol=0)
    for name in ("prob_N", "second_N", "entropy_N", "lse_N"):
        value_N, wanted_N = getattr(actual, name), getattr(expected, name)
        assert value_N.dtype == torch.float32
        # The entropy of a nearly certain row is a small difference from 0.
        atol = 1e-6 if name == "entropy_N" else 1e-37
        torch.testing.assert_close(
            value_N.double(),
            wanted_N.double(),
            rtol=1.5e-6,
            atol=atol,
            equal_nan=True,
            msg=partial("{}: {}".format, name),
        )


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_oracle(
    row_stats: Callable[..., RowStats], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    logits_NV = random_logits(shape, dtype)
    assert_close(row_stats(logits_NV), oracle(logits_NV))


@each_dtype
@pytest.mark.parametrize("exclude_id", [0, 1, 63, 511, 1023, 1024, 1299])
def test_excluded_column_has_no_weight(
    row_stats: Callable[..., RowStats], dtype: torch.dtype, exclude_id: int
) -> None:
    logits_NV = random_logits((3, 1300), dtype)
    logits_NV[:, exclude_id] = torch.tensor([1e3, NAN, INF])
    before_NV = logits_NV.clone()
    stats = row_stats(logits_NV, exclude_id)
    assert_close(stats, oracle(logits_NV, exclude_id))
    assert not torch.stack(stats[1:]).isnan().any()
    assert torch.equal(logits_NV.nan_to_num(), before_NV.nan_to_num())


@each_dtype
def test_any_row_stride(row_stats: Callable[..., RowStats], dtype: torch.dtype) -> None:
    wide_NV = random_logits((6, 700), dtype)
    for logits_NV in (wide_NV[:, 3:600], wide_NV[::2, :513], wide_NV[:1].expand(4, -1)):
        assert_close(row_stats(logits_NV, 5), oracle(logits_NV, 5))


def test_single_column_may_have_any_stride(row_stats: Callable[..., RowStats]) -> None:
    logits_NV = random_logits((8, 5), torch.float32).t()[:, 2:3]
    assert logits_NV.stride() == (1, 5)
    assert_close(row_stats(logits_NV), oracle(logits_NV))


def test_no_rows(row_stats: Callable[..., RowStats]) -> None:
    stats = row_stats(torch.empty(0, 512))
    assert [tuple(field.shape) for field in stats] == [(0,)] * 5
    assert_close(stats, oracle(torch.empty(0, 512)))


@each_dtype
def test_ties_give_the_lowest_column_and_equal_probabilities(
    row_stats: Callable[..., RowStats], dtype: torch.dtype
) -> None:
    logits_NV = random_logits((4, 3000), dtype).clamp(max=5)
    for row, columns in enumerate([(17, 18), (40, 2999), (1500, 1501), (1023, 1024)]):
        logits_NV[row, list(columns)] = 9
    stats = row_stats(logits_NV)
    assert stats.argmax_N.tolist() == [17, 40, 1500, 1023]
    assert torch.equal(stats.prob_N, stats.second_N)
    assert_close(stats, oracle(logits_NV))


def test_constant_row_is_uniform(row_stats: Callable[..., RowStats]) -> None:
    stats = row_stats(torch.full((1, 1000), -3.0))
    assert stats.argmax_N.item() == 0
    assert stats.prob_N.item() == stats.second_N.item() == pytest.approx(1e-3)
    assert stats.entropy_N.item() == pytest.approx(6.907755279)


def test_one_possible_token_is_certain(row_stats: Callable[..., RowStats]) -> None:
    logits_NV = torch.full((2, 2500), -INF)
    logits_NV[0, 2100] = 3.0
    logits_NV[1] = -1e4
    logits_NV[1, 0] = 1e4
    stats = row_stats(logits_NV)
    assert stats.argmax_N.tolist() == [2100, 0]
    assert stats.prob_N.tolist() == [1.0, 1.0]
    assert stats.second_N.tolist() == [0.0, 0.0]
    assert stats.entropy_N.tolist() == [0.0, 0.0]
    assert stats.lse_N.tolist() == [3.0, 1e4]


@each_dtype
def test_minus_infinity_among_others(
    row_stats: Callable[..., RowStats], dtype: torch.dtype
) -> None:
    logits_NV = random_logits((3, 2200), dtype)
    logits_NV[0, ::3] = -INF
    logits_NV[1, :1024] = -INF
    logits_NV[2, 100:] = -INF
    assert_close(row_stats(logits_NV), oracle(logits_NV))


def test_huge_magnitudes(row_stats: Callable[..., RowStats]) -> None:
    largest = torch.finfo(torch.float32).max
    logits_NV = torch.tensor(
        [[largest, -largest, 0.0], [-largest, -largest, -largest], [1e30, 1e30, -1e30]]
    )
    assert_close(row_stats(logits_NV), oracle(logits_NV))


@each_dtype
def test_rows_without_a_softmax(row_stats: Callable[..., RowStats], dtype: torch.dtype) -> None:
    logits_NV = random_logits((7, 2050), dtype)
    logits_NV[1, [900, 2049]] = NAN
    logits_NV[2, [1500, 1600]] = INF
    logits_NV[3, 5], logits_NV[3, 1700] = INF, NAN
    logits_NV[4] = -INF
    logits_NV[5] = -INF
    logits_NV[5, 30] = NAN
    stats = row_stats(logits_NV)
    assert stats.argmax_N[1:6].tolist() == [900, 1500, 1700, 0, 30]
    for field_N in stats[1:]:
        assert field_N.isnan().tolist() == [False, True, True, True, True, True, False]
    regular_N = torch.tensor([0, 6])
    assert_close(RowStats(*(field_N[regular_N] for field_N in stats)), oracle(logits_NV[regular_N]))


def test_nothing_left_after_exclusion(row_stats: Callable[..., RowStats]) -> None:
    stats = row_stats(torch.zeros(2, 1), 0)
    assert stats.argmax_N.tolist() == [0, 0]
    assert torch.stack(stats[1:]).isnan().all()


def test_nan_payload_does_not_matter(row_stats: Callable[..., RowStats]) -> None:
    bits_NV = torch.zeros(1, 64, dtype=torch.int32)
    bits_NV[0, 9] = 0x7F8001FF
    stats = row_stats(bits_NV.view(torch.float32))
    assert stats.argmax_N.item() == 9
    assert stats.entropy_N.isnan().item()


def test_no_gradient_flows(row_stats: Callable[..., RowStats]) -> None:
    stats = row_stats(torch.randn(2, 8, requires_grad=True))
    assert not any(field.requires_grad for field in stats)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_random_problems(name: str, data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(0, 5), label="rows")
    vocab_size = data.draw(st.integers(1, 200) | st.integers(1000, 2200), label="vocabulary")
    dtype = data.draw(st.sampled_from(reference.LOGITS_DTYPES), label="dtype")
    exclude_id = data.draw(st.integers(-1, vocab_size - 1), label="exclude_id")
    scale = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 20.0, 3e3]), label="scale")
    removed = data.draw(st.sampled_from([0.0, 0.1, 0.99]), label="share of -inf")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31), label="seed"))
    logits_NV = torch.randn(num_rows, vocab_size + 3, generator=generator) * scale
    logits_NV[torch.rand(logits_NV.shape, generator=generator) < removed] = -INF
    logits_NV[:, [0, vocab_size - 1]] = 0.5  # something is always left
    if vocab_size <= 2 and exclude_id >= 0:
        exclude_id = -1
    logits_NV = logits_NV.to(dtype)[:, :vocab_size]
    assert_close(implementation(name)(logits_NV, exclude_id), oracle(logits_NV, exclude_id))


@needs_library
@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("num_threads", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(1, 151936), (2, 151936), (3, 65537), (300, 600)], ids=str)
def test_threads_do_not_change_the_result(shape: tuple[int, int], num_threads: int) -> None:
    logits_NV = random_logits(shape, torch.bfloat16)
    logits_NV[0, -1] = logits_NV[0].max()  # a tie across parts of a row
    torch.set_num_threads(num_threads)
    assert_close(cpu_row_stats.row_stats(logits_NV, 77), oracle(logits_NV, 77))
    logits_NV[0, -2] = NAN
    stats = cpu_row_stats.row_stats(logits_NV, 77)
    assert stats.argmax_N[0].item() == shape[1] - 2
    assert stats.lse_N[0].isnan()


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_one_openmp_runtime_in_the_process() -> None:
    script = """
import re, torch
from vllm_diffusion.kernels import cpu_row_stats
torch.set_num_threads(2)
cpu_row_stats.row_stats(torch.randn(64, 8192))
with open("/proc/self/maps") as maps:
    print(len({line.split()[-1] for line in maps if re.search("lib(gomp|omp|iomp5)[.-]", line)}))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("logits_NV", "exclude_id", "message"),
    [
        (torch.zeros(4), -1, r"logits_NV: shape \(4,\) .*flatten"),
        (torch.zeros(2, 3, 4), -1, r"logits_NV: shape \(2, 3, 4\)"),
        (torch.zeros(2, 3, dtype=torch.float64), -1, r"dtype torch.float64 .*logits\.float\(\)"),
        (torch.zeros(2, 0), -1, "logits_NV: the vocabulary has size 0"),
        (torch.zeros(3, 2).t(), -1, r"logits_NV: stride 2 .*\.contiguous\(\)"),
        (torch.zeros(2, 3), 3, "exclude_id: 3 .* vocabulary of 3"),
        (torch.zeros(2, 3), -2, "exclude_id: -2"),
    ],
)
def test_bad_arguments_name_the_field_the_value_and_the_remedy(
    row_stats: Callable[..., RowStats], logits_NV: Tensor, exclude_id: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        row_stats(logits_NV, exclude_id)


@needs_library
def test_cpp_refuses_other_devices_and_unknown_levels() -> None:
    with pytest.raises(ValueError, match="device meta is not the CPU"):
        cpu_row_stats.row_stats(torch.zeros(2, 3, device="meta"))
    with pytest.raises(ValueError, match="level: 'sse9' is not available here"):
        cpu_row_stats.row_stats(torch.zeros(2, 3), level="sse9")


@needs_library
def test_outputs_ignore_the_default_device() -> None:
    logits_NV = torch.zeros(2, 3)
    with torch.device("meta"):
        assert cpu_row_stats.row_stats(logits_NV).lse_N.is_cpu


def test_dispatch_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for module, name in ((cpu_row_stats, "cpp"), (reference, "torch")):
        monkeypatch.setattr(module, "row_stats", lambda *args, name=name: ran.append(name))
    monkeypatch.setattr(library, "library", lambda: library.Library(object(), 1, "loaded"))
    dispatch.row_stats(torch.zeros(1, 1))
    dispatch.row_stats(torch.zeros(1, 1, device="meta"))
    with dispatch.forced("torch"):
        dispatch.row_stats(torch.zeros(1, 1))
        assert dispatch.active_row_stats() == "torch"
        assert dispatch.row_stats_reason() == "forced to torch"
    assert ran == ["cpp", "torch", "torch"]
    assert dispatch.active_row_stats() == "cpp-avx2"
    assert dispatch.row_stats_reason() == "loaded"


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_without_a_usable_library_torch_runs(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "_cpu_ops.so").write_bytes(content)
    missing = library.load_from(tmp_path)
    monkeypatch.setattr(library, "library", lambda: missing)
    assert missing.functions is None
    assert dispatch.active_row_stats() == "torch"
    assert dispatch.row_stats_reason() == missing.reason
    assert ("reinstall" if content is None else "does not load") in missing.reason
    logits_NV = random_logits((3, 7), torch.bfloat16)
    assert_close(dispatch.row_stats(logits_NV, 2), oracle(logits_NV, 2))
    with dispatch.forced("cpp"), pytest.raises(RuntimeError, match="not available"):
        dispatch.row_stats(logits_NV)


@needs_library
def test_a_library_with_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ABI_VERSION", library.ABI_VERSION + 1)
    refused = library.load_from(Path(library.__file__).parent)
    assert refused.functions is None
    assert "reinstall to rebuild" in refused.reason
