"""A checkpoint's network with tokens at positions of the caller's choice, for ``stale``."""

from tests.parity.references import network_rope as rope
from tests.parity.references.network import Network


class PlacedNetwork(Network):
    """``positions`` move the rotation alone, so not for families whose queries scale with them."""

    positions = None

    def logits(self, tokens, mask, blocks=None, *, positions=None):
        """As the network's; ``positions`` (T) are 0..T-1 if not said."""
        self.positions = positions
        return super().logits(tokens, mask, blocks)

    def attention(self, x, p, mask, rotary):
        if self.positions is not None:
            cos, sin = rope.rotation(self.s, self.head, max(self.positions) + 1)
            rotary = cos[self.positions], sin[self.positions]
        return super().attention(x, p, mask, rotary)
