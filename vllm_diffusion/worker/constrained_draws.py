"""The texts of constrained requests with a temperature: exact draws of whole texts.

As ``constrained``: rows of logits are read by class of token, once more for what is drawn
(``structured.class_draws``), and the text is drawn among classes. A draw depends on (seed,
position, step) only, so a text does not depend on its company.

Shape suffixes: K constrained requests of the step, L canvas length, N rows of logits, V vocabulary,
C classes, P rows of open positions, D of them that are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from vllm.utils.torch_utils import async_tensor_h2d

from vllm_diffusion.kernels.cpu_posterior import Posteriors
from vllm_diffusion.kernels.dispatch import uses_cpp
from vllm_diffusion.kernels.tiles import tiles
from vllm_diffusion.structured.block_text import Scores, best_path, with_settled
from vllm_diffusion.structured.class_draws import class_draws
from vllm_diffusion.structured.posterior import NEVER, Automata, Block, backward, scatter_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vllm_diffusion.denoise.sample import Draws
    from vllm_diffusion.structured.token_classes import TokenClasses
    from vllm_diffusion.worker.constrained import Texts

Places = tuple["NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]


class Drawing:
    """One step's; see ``structured.block_text.Drawing``.

    Args:
        draws: of the step, with their rows on the host.
        mask: leaves of logits (N, V) what may stand at each frontier, in place.
        mask_id: the mask token.
    """

    is_drawn_K: Tensor
    token_KLC: Tensor

    def __init__(self, draws: Draws, mask: Callable[[Tensor], None], mask_id: int) -> None:
        assert draws.rows is not None
        self.draws, self.mask, self.mask_id, self.rows = draws, mask, mask_id, draws.rows

    def read(
        self,
        logits_NV: Tensor,
        scores: Scores,
        places: Places,
        classes_P: Sequence[TokenClasses],
    ) -> None:
        """Read the rows of the requests with a temperature.

        Args:
            logits_NV: as the model has them; masked behind this.
            scores: of all requests, from before.
            places: request, position and row of open positions, (P,) each.
            classes_P: of each of these rows.
        """
        device = logits_NV.device
        draw_N = np.full(len(logits_NV), -1)
        draw_N[self.rows] = np.arange(len(self.rows))
        request_P, at_P, row_P = places
        picked = np.flatnonzero(draw_N[row_P] >= 0)
        request_D, at_D, row_D = request_P[picked], at_P[picked], row_P[picked]
        draw_D = draw_N[row_D]
        num_requests, length = scores.total.shape[:2]
        is_drawn_K = np.zeros(num_requests, dtype=np.int64)
        is_drawn_K[request_D] = 1
        place_KL = np.zeros((3, num_requests, length), dtype=np.int64)
        place_KL[:, request_D, at_D] = np.stack((row_D, draw_D, np.ones_like(row_D)))
        host = np.concatenate((request_D, at_D, row_D, draw_D, is_drawn_K, place_KL.ravel()))
        sizes = [len(row_D)] * 4 + [num_requests, place_KL.size]
        *where, _, draw, is_drawn, place = async_tensor_h2d(host, device=device).split(sizes)
        self.is_drawn_K = is_drawn > 0
        self.row_KL, self.draw_KL, self.has_row_KL = place.view(3, num_requests, length)
        self.logits_NV, self.num_classes = logits_NV, scores.total.shape[2]
        self.classes_K = dict(zip(request_P.tolist(), classes_P, strict=True))
        self.lse_KL = self._log_sums(scores)
        self.mask(logits_NV)
        found = class_draws(
            logits_NV,
            row_D,
            [classes_P[r] for r in picked.tolist()],
            self.num_classes,
            self.mask_id,
            self.draws.at(draw),
        )
        index = (where[0], where[1])
        # Positions without a row have no say: the class's own statistics stand for them.
        self.total_KLC = scores.total.index_put(index, found.total)
        self.value_KLC = scores.first.double().index_put(index, found.value)
        self.token_KLC = scores.token.index_put(index, found.token.clamp(min=0))

    def _log_sums(self, scores: Scores) -> Tensor:
        """Of the exponentials of each row, before it is masked: its best token tells."""
        best_KL1 = scores.first.argmax(dim=-1, keepdim=True)
        top_KL = self.logits_NV[self.row_KL, scores.token.gather(2, best_KL1)[..., 0]].float()
        return top_KL - scores.first.gather(2, best_KL1)[..., 0]

    def log_p(self, token_KL: Tensor) -> Tensor:
        return self.logits_NV[self.row_KL, token_KL].float() - self.lse_KL

    def text(self, block: Block, class_KL: Tensor, automata: Automata) -> tuple[Tensor, Tensor]:
        sum_KLC = with_settled(self.total_KLC, block, class_KL, is_sum=True)
        value_KLC = with_settled(self.value_KLC, block, class_KL, is_sum=False)
        if uses_cpp(sum_KLC.is_cpu):
            to_exit, _ = Posteriors(block, automata).sums(sum_KLC, has_factors=False)
            drawn_KL, state_KL = Posteriors(block, automata).path(to_exit, value_KLC)
        else:
            to_exit = backward(sum_KLC, block, automata, scatter_sum)
            drawn_KL, state_KL = best_path(value_KLC, to_exit, block, automata)
        # Behind a text's end every token may stand: the row's own draw.
        top_KL = self.value_KLC.argmax(dim=-1)
        return torch.where(drawn_KL == automata.num_classes - 1, top_KL, drawn_KL), state_KL

    def overrule(self, is_first_KL: Tensor, follows_KLC: Tensor) -> Tensor:
        if self.draws.cuts:
            self._draw_again(is_first_KL, follows_KLC)
        return self.value_KLC.masked_fill(~follows_KLC, NEVER).argmax(dim=-1)

    def _draw_again(self, is_first_KL: Tensor, follows_KLC: Tensor) -> None:
        """Cut what may follow, not what the model has in mind: other tokens may be left."""
        # The host waits for it, as it does for the canvases at the end of a constrained step.
        where = (is_first_KL & (self.has_row_KL > 0) & self.is_drawn_K[:, None]).nonzero()
        requests = where[:, 0].tolist()
        follows_DC = follows_KLC[where[:, 0], where[:, 1]]
        row_D = self.row_KL[where[:, 0], where[:, 1]]
        draw_D = self.draw_KL[where[:, 0], where[:, 1]]
        for part in tiles(len(requests), self.logits_NV.shape[1]):
            classes_D = [self.classes_K[k] for k in requests[part]]
            class_DV = torch.stack([one.on(self.logits_NV.device) for one in classes_D]).long()
            may_not_DV = ~follows_DC[part].gather(1, class_DV)
            del class_DV
            rows_DV = self.logits_NV[row_D[part]].masked_fill_(may_not_DV, NEVER)
            del may_not_DV
            found = class_draws(
                rows_DV,
                np.arange(len(classes_D)),
                classes_D,
                self.num_classes,
                self.mask_id,
                self.draws.at(draw_D[part]),
            )
            index = (where[part, 0], where[part, 1])
            self.value_KLC.index_put_(index, found.value)
            self.token_KLC.index_put_(index, found.token.clamp(min=0))

    def left(self, texts: Texts) -> Draws | None:
        """The draws whose rows no text has spoken for.

        On the CPU alone: elsewhere it would cost a copy to the host, and drawing costs less.
        """
        if not self.logits_NV.is_cpu:
            return self.draws
        is_left = torch.ones(len(self.draws.row_N), dtype=torch.bool)
        is_left[self.draw_KL[texts.is_chosen_KL & (self.has_row_KL > 0)]] = False
        index = is_left.nonzero()[:, 0]
        return self.draws.at(index) if len(index) else None
