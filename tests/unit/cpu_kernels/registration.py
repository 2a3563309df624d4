"""Register the replacements in a process of their own and put them to use; run by a test.

Registering patches vLLM and torch for the whole process, so it cannot happen among the tests.
"""

from __future__ import annotations

import re
import sys

import pytest

from vllm_diffusion.cpu import register, registry

assert "vllm" not in sys.modules, "importing the package must not import vLLM"

register()

import torch  # noqa: E402
import vllm  # noqa: E402
from vllm.triton_utils import dispatcher, triton  # noqa: E402
from vllm.v1.worker.cpu.buffer_utils import UvaBuffer  # noqa: E402
from vllm.v1.worker.gpu import buffer_utils, input_batch  # noqa: E402

# Every kernel is replaced by what the table says.
for name, replacements in registry.KERNELS.items():
    host, attribute = dispatcher._resolve_kernel(name)
    override = getattr(host, attribute)
    assert isinstance(override, dispatcher.KernelOverride), name
    assert override.func in replacements, name
    assert override.arg_names == registry.parameter_names(override.func), name
assert [triton.next_power_of_2(n) for n in (0, 1, 2, 3, 8, 9)] == [0, 1, 2, 4, 8, 16]
assert buffer_utils.UvaBuffer is UvaBuffer, "the host buffers were swapped too late"

# A second call changes nothing, and neither does a check of kernels already replaced.
override = input_batch._post_update_kernel
register()
assert input_batch._post_update_kernel is override
for name, replacements in registry.KERNELS.items():
    registry.choose(name, *replacements)

# vLLM's own host code reaches the replacements.
state = buffer_utils.StagedWriteTensor((4, 8), dtype=torch.int32, device=torch.device("cpu"))
state.stage_write(2, 1, [5, 6, 7])
state.apply_write()
assert state.gpu[2].tolist() == [0, 5, 6, 7, 0, 0, 0, 0]
positions = torch.zeros(5, dtype=torch.int64)
seq_lens = torch.full((3,), 9, dtype=torch.int32)
input_batch.prepare_pos_seq_lens(
    torch.tensor([1, 0]),
    torch.tensor([0, 2, 5], dtype=torch.int32),
    torch.tensor([4, 10], dtype=torch.int32),
    positions,
    seq_lens,
)
assert positions.tolist() == [10, 11, 4, 5, 6]
assert seq_lens.tolist() == [12, 7, 0]


# A vLLM that has moved is refused by name and version.
GPU = f"{registry.WORKER}gpu."
for name, reason in {
    GPU + "input_batch._gone_kernel": "does not exist",
    GPU + "gone._gone_kernel": "no module",
    GPU + "input_batch._expand_idx_mapping_kernel": "parameters",
}.items():
    with pytest.raises(RuntimeError, match=re.escape(name)) as refusal:
        registry.choose(name, *registry.KERNELS[GPU + "input_batch._post_update_kernel"])
    assert vllm.__version__ in str(refusal.value)
    assert reason in str(refusal.value)
