"""What LaCT is measured against: attention of every token to all input tokens in place of fast weights.

Equal in interface and about equal in parameters; cost and memory grow with tokens x input tokens. Not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.lact.attention import NormedAttention
from core.lact.layer import Operation
from core.model.attention import attention


class InputTokens(NamedTuple):
    """Keys and values of the tokens that were written, ``[b, heads, l, d]``."""

    k: Tensor
    v: Tensor


class FullAttention(NormedAttention):
    """Attention to the tokens that were written so far."""

    def forward(
        self, x: Tensor, operations: Sequence[Operation], memory: InputTokens | None = None
    ) -> tuple[Tensor, InputTokens]:
        """As `core.lact.layer.FastWeightLayer.forward`; to write a token is to keep its key and value."""
        q, k, v = self.project(x)
        memory = InputTokens(k[:, :, :0], v[:, :, :0]) if memory is None else memory
        outputs = []
        for start, end, writes, reads in operations:
            if writes:
                pairs = zip(memory, (k, v), strict=True)
                memory = InputTokens(*(torch.cat([kept, new[:, :, start:end]], dim=2) for kept, new in pairs))
            if reads:
                outputs.append(attention(q[:, :, start:end], *memory))
        output = torch.cat(outputs, dim=2) if outputs else q[:, :, :0]
        return self.merge(output), memory
