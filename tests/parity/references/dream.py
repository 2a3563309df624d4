"""Dream's time schedule (arXiv 2508.15487), twice: as it is served and as its authors run it.

Times t_0 .. t_S fall evenly from 1 to 0.001 over the S steps of a block. Step i transfers a share
1 - t_{i+1} / t_i of what is masked, the last one everything: each position by a draw of its own
with "origin", else the best-scored ones, as many as the share amounts to, rounded down.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from tests.parity.references.choose import Answer, Network, choose, lead, without

POLICIES = ("origin", "maskgit_plus", "topk_margin", "topk_entropy")
EPS = 1e-3
Uniform = Callable[[int, int], float]
"""A draw in [0, 1) for an absolute position and a step of its block's schedule."""


class Schedule:
    """The schedule of one block without idle steps.

    A step that transfers nothing changes nothing, so it is passed over without a forward.
    """

    def __init__(self, policy: str, steps: int, start: int, uniform: Uniform | None) -> None:
        # float32 as in the authors' code: the rounding down depends on it.
        times = torch.linspace(1, EPS, steps + 1)
        self.shares = [*(1 - times[1:-1] / times[:-2]), torch.tensor(1.0)]
        self.policy, self.start, self.uniform, self.step = policy, start, uniform, 0

    def choose(self, masked: Sequence[int], logits: Tensor) -> tuple[list[int], float]:
        """As the function of that name, in the next step that transfers anything."""
        while True:
            step, share = self.step, self.shares[self.step]
            self.step += 1
            if self.policy == "origin":
                assert self.uniform is not None
                drawn = [i for i in masked if self.uniform(self.start + i, step) < share]
                if drawn:
                    return drawn, lead(logits[drawn])
            elif number := int(len(masked) * share):
                return choose(self.policy, 0.0, number, masked, logits)


@torch.inference_mode()
def generate_with_idle_steps(
    network: Network,
    prompt: Sequence[int],
    max_tokens: int,
    *,
    mask_id: int,
    block: int,
    policy: str,
    steps: int | None = None,
    shift: bool = True,
    uniform: Uniform | None = None,
    stop_ids: Collection[int] = (),
) -> Answer:
    """Every step of ``diffusion_generate`` with its forward, whether it transfers or not.

    The authors decode everything as one block; blocks are Fast-dLLM v1's. No early end: the text
    is cut at its first stop token afterwards. No slack.
    """
    x = torch.tensor([*prompt, *[mask_id] * max_tokens])
    everything = torch.ones(len(x), len(x), dtype=torch.bool)
    is_masked = torch.arange(len(x)) >= len(prompt)
    count = 0
    for start in range(len(prompt), len(x), block):
        end = min(start + block, len(x))
        num_steps = steps or end - start
        times = torch.linspace(1, EPS, num_steps + 1)
        for i in range(num_steps):
            logits = without(mask_id, network.logits(x.tolist(), everything))
            if shift:
                logits = torch.cat((logits[:1], logits[:-1]))
            probs = logits.softmax(-1)
            top = probs.topk(2).values
            masked = is_masked[:end].nonzero()[:, 0]
            share = 1 - times[i + 1] / times[i] if i < num_steps - 1 else torch.tensor(1.0)
            if policy == "origin":
                draws = torch.tensor([uniform(int(p), i) for p in masked])
                transferred = masked[draws < share]
            else:
                score = {
                    "maskgit_plus": top[:, 0],
                    "topk_margin": top[:, 0] - top[:, 1],
                    "topk_entropy": (probs * (probs + 1e-10).log()).sum(-1),
                }[policy][masked]
                transferred = masked[score.topk(int(len(masked) * share)).indices]
            x[transferred] = logits[transferred].argmax(-1)
            is_masked[transferred] = False
            count += 1
    tokens = x[len(prompt) :].tolist()
    stops = [i + 1 for i, token in enumerate(tokens) if token in stop_ids]
    return Answer(tokens[: stops[0]] if stops else tokens, count, float("nan"))
