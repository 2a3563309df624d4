"""Muon for the matrices of the layers, Adam for embedding, head and norms.

The model is bf16; the optimizer holds float32 master weights and writes the model from them.
Learning rate: warm-up, constant, then linear to zero, as a function of the share of the token
budget that is used, so a resumed run continues the same schedule.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MUON_LR, ADAM_LR = 0.02, 3e-3
MOMENTUM, BETAS, EPS = 0.95, (0.9, 0.95), 1e-8
WARM_UP, DECAY = 0.01, 0.6


def schedule(progress: float) -> float:
    """Factor on the learning rates at a share of the budget."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return min(1.0, max(0.0, (1.0 - progress) / DECAY))


def orthogonalise(x_GMN: Tensor, num_steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, by the quintic Newton-Schulz iteration in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x_GMN = x_GMN.bfloat16()
    is_tall = x_GMN.shape[1] > x_GMN.shape[2]
    if is_tall:
        x_GMN = x_GMN.mT.contiguous()
    x_GMN = x_GMN / (x_GMN.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(num_steps):
        # bf16 products on the CPU are twice as fast when the right operand is a transpose.
        gram = x_GMN @ x_GMN.mT
        x_GMN = a * x_GMN + (b * gram + c * gram @ gram.mT) @ x_GMN.mT.contiguous().mT
    return x_GMN.mT if is_tall else x_GMN


@dataclass
class Slot:
    """One parameter: its bf16 copy in the model, its float32 master and its moments."""

    param: nn.Parameter
    master: Tensor
    first: Tensor
    second: Tensor | None  # None: updated by Muon


class Optimizer:
    """Updates the model in place; ``step`` also clears the gradients."""

    def __init__(self, model: nn.Module) -> None:
        self.num_steps = 0
        self.slots: dict[str, Slot] = {}
        for name, param in model.named_parameters():
            master = param.detach().float().clone()
            second = None if "proj" in name else torch.zeros_like(master)
            self.slots[name] = Slot(param, master, torch.zeros_like(master), second)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with both learning rates scaled by ``factor``."""
        self.num_steps += 1
        by_shape: dict[torch.Size, list[Slot]] = {}
        for slot in self.slots.values():
            if slot.second is None:
                by_shape.setdefault(slot.master.shape, []).append(slot)
            else:
                self._adam(slot, factor)
        for slots in by_shape.values():
            self._muon(slots, factor)
        for slot in self.slots.values():
            slot.param.copy_(slot.master)
            slot.param.grad = None

    def _adam(self, slot: Slot, factor: float) -> None:
        assert slot.param.grad is not None and slot.second is not None
        grad = slot.param.grad.float()
        slot.first.lerp_(grad, 1 - BETAS[0])
        slot.second.lerp_(grad.square(), 1 - BETAS[1])
        first = slot.first / (1 - BETAS[0] ** self.num_steps)
        second = slot.second / (1 - BETAS[1] ** self.num_steps)
        slot.master -= ADAM_LR * factor * first / (second.sqrt() + EPS)

    def _muon(self, slots: list[Slot], factor: float) -> None:
        updates = []
        for slot in slots:
            assert slot.param.grad is not None
            grad = slot.param.grad.float()
            slot.first.lerp_(grad, 1 - MOMENTUM)
            updates.append(grad.lerp(slot.first, MOMENTUM))
        rows, columns = slots[0].master.shape
        scale = MUON_LR * factor * max(1.0, rows / columns) ** 0.5
        for slot, update in zip(slots, orthogonalise(torch.stack(updates)), strict=True):
            slot.master -= scale * update.float()

    def state_dict(self) -> dict[str, Any]:
        """Masters and moments by parameter name."""
        slots = {name: (s.master, s.first, s.second) for name, s in self.slots.items()}
        return {"num_steps": self.num_steps, "slots": slots}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore, and write the model from the masters."""
        self.num_steps = state["num_steps"]
        for name, (master, first, second) in state["slots"].items():
            slot = self.slots[name]
            slot.master, slot.first, slot.second = master, first, second
            slot.param.copy_(master)
