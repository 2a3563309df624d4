"""What ``--worker-extension-cls`` has the workers of a test load: a rank on which steps fail."""

from __future__ import annotations

from tests.server.faults import first_rank_fails


class FirstRankFails:
    """Adds nothing to a worker: its module, once there, has the first rank fail (``faults``)."""


first_rank_fails()
