"""The network: a Qwen3-shaped decoder in plain torch, for training and for reference decoding.

What may attend to what is the caller's business (a mask), so the same network is the
autoregressive and the diffusion model. Parameter names are those of the released format.
Suffixes: B sequences, T query rows, S keys, D hidden, H heads, K key-value heads, N head size.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; 3.2 million parameters."""

    vocab_size: int = 512
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e4
    max_position_embeddings: int = 8192

    def as_config(self) -> dict[str, int | float]:
        """The fields under their names in ``config.json``."""
        return asdict(self)


class Cache:
    """Keys and values by absolute position; rows write theirs before they attend."""

    def __init__(self, shape: Shape, batch: int, length: int, dtype: torch.dtype) -> None:
        size = (shape.num_hidden_layers, batch, shape.num_key_value_heads, length, shape.head_dim)
        self.keys = torch.zeros(size, dtype=dtype)
        self.values = torch.zeros(size, dtype=dtype)

    def update(
        self, layer: int, positions_BT: Tensor, k_BKTN: Tensor, v_BKTN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Store the rows and return everything stored."""
        index = positions_BT[:, None, :, None].expand_as(k_BKTN)
        self.keys[layer].scatter_(2, index, k_BKTN)
        self.values[layer].scatter_(2, index, v_BKTN)
        return self.keys[layer], self.values[layer]


def rope_table(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [positions, head size], in the half-split layout."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    positions = torch.arange(shape.max_position_embeddings, dtype=torch.float64)
    angles = torch.outer(positions, shape.rope_theta**-exponents).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def norm(x_D: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension."""
    return F.rms_norm(x_D, weight_D.shape, weight_D, eps)


def norm_rotate(
    x_BTHN: Tensor, weight_N: Tensor, cos_BT1N: Tensor, sin_BT1N: Tensor, eps: float
) -> Tensor:
    """RMSNorm of each head, then rotary embedding."""
    low, high = (x_BTHN := norm(x_BTHN, weight_N, eps)).chunk(2, dim=-1)
    return x_BTHN * cos_BT1N + torch.cat((-high, low), dim=-1) * sin_BT1N


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """The gated activation."""
    return F.silu(gate) * up


def masked_softmax(scores: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention weights in float32, returned in the dtype of the scores."""
    scaled = (scores.float() * scale).masked_fill(~mask, float("-inf"))
    return scaled.softmax(-1).to(scores.dtype)


@dataclass
class Pointwise:
    """The functions above; compiled they run several times faster."""

    norm: Callable[..., Tensor] = norm
    norm_rotate: Callable[..., Tensor] = norm_rotate
    swiglu: Callable[..., Tensor] = swiglu
    masked_softmax: Callable[..., Tensor] = masked_softmax


POINTWISE = Pointwise()


def compile_pointwise() -> None:
    """Worth it for training; takes about a minute and a C++ compiler."""
    for name, function in vars(Pointwise()).items():
        setattr(POINTWISE, name, torch.compile(function, dynamic=True))


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        hidden, size = shape.hidden_size, shape.head_dim
        self.q_proj = nn.Linear(hidden, shape.num_attention_heads * size, bias=False)
        self.k_proj = nn.Linear(hidden, shape.num_key_value_heads * size, bias=False)
        self.v_proj = nn.Linear(hidden, shape.num_key_value_heads * size, bias=False)
        self.o_proj = nn.Linear(shape.num_attention_heads * size, hidden, bias=False)
        self.q_norm = nn.RMSNorm(size, eps=shape.rms_norm_eps)
        self.k_norm = nn.RMSNorm(size, eps=shape.rms_norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        rope: tuple[Tensor, Tensor],
        mask_B1TS: Tensor,
        store: tuple[Cache, int, Tensor] | None,
        first_row: int,
    ) -> Tensor:
        """Attend under the mask, from ``first_row`` on; with a store, over the cached keys."""
        heads, eps = (*x_BTD.shape[:2], -1, self.shape.head_dim), self.shape.rms_norm_eps
        k_BTKN = self.k_proj(x_BTD).view(heads)
        k_BKTN = POINTWISE.norm_rotate(k_BTKN, self.k_norm.weight, *rope, eps).transpose(1, 2)
        v_BKTN = self.v_proj(x_BTD).view(heads).transpose(1, 2)
        if store is not None:
            cache, layer, positions_BT = store
            k_BKTN, v_BKTN = cache.update(layer, positions_BT, k_BKTN, v_BKTN)
        x_BTD, mask_B1TS = x_BTD[:, first_row:], mask_B1TS[:, :, first_row:]
        q_BTHN = self.q_proj(x_BTD).view(*x_BTD.shape[:2], -1, self.shape.head_dim)
        cos, sin = (table[:, first_row:] for table in rope)
        q_BTHN = POINTWISE.norm_rotate(q_BTHN, self.q_norm.weight, cos, sin, eps)
        # Query heads of a group are consecutive: stack them along the rows of their key head.
        group = self.shape.num_attention_heads // self.shape.num_key_value_heads
        q_BKQN = q_BTHN.unflatten(2, (-1, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        scores_BKGTS = (q_BKQN @ k_BKTN.mT).unflatten(2, (group, -1))
        scale = self.shape.head_dim**-0.5
        weights = POINTWISE.masked_softmax(scores_BKGTS, mask_B1TS[:, :, None], scale)
        out_BKGTN = (weights.flatten(2, 3) @ v_BKTN).unflatten(2, (group, -1))
        return self.o_proj(out_BKGTN.permute(0, 3, 1, 2, 4).flatten(2))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Gate, multiply, project back."""
        return self.down_proj(POINTWISE.swiglu(self.gate_proj(x_BTD), self.up_proj(x_BTD)))


class Layer(nn.Module):
    """Attention and MLP, each after a norm and added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)


class Body(nn.Module):
    """Embedding, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)


class TinyModel(nn.Module):
    """The whole network with an untied head."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        self.model = Body(self.shape)
        self.lm_head = nn.Linear(self.shape.hidden_size, self.shape.vocab_size, bias=False)
        self.rope = rope_table(self.shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02 if "proj" not in name else weight.shape[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor,
        mask_B1TS: Tensor,
        cache: Cache | None = None,
        first_row: int = 0,
    ) -> Tensor:
        """Hidden states after the last norm, [B, T, D]; ``lm_head`` is left to the caller.

        Rows before ``first_row`` are not returned, and the last layer only makes their keys.
        """
        x_BTD = self.model.embed_tokens(tokens_BT)
        cos, sin = (table[positions_BT][:, :, None].to(x_BTD.dtype) for table in self.rope)
        last, eps = len(self.model.layers) - 1, self.shape.rms_norm_eps
        for index, layer in enumerate(self.model.layers):
            store = None if cache is None else (cache, index, positions_BT)
            first = first_row if index == last else 0
            h_BTD = POINTWISE.norm(x_BTD, layer.input_layernorm.weight, eps)
            h_BTD = layer.self_attn(h_BTD, (cos, sin), mask_B1TS, store, first)
            x_BTD = x_BTD[:, first:] + h_BTD
            h_BTD = POINTWISE.norm(x_BTD, layer.post_attention_layernorm.weight, eps)
            x_BTD = x_BTD + layer.mlp(h_BTD)
        return POINTWISE.norm(x_BTD, self.model.norm.weight, eps)
