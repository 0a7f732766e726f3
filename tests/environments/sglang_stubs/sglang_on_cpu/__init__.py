"""An SGLang plugin: the `torch_native` attention backend verifies chains of drafts, and drafts them.

SGLang without speculation runs with `torch_native` as it is. Trees (`--speculative-eagle-topk` or
`--speculative-ngram-max-bfs-breadth` above 1) would need masks, and give wrong answers here.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ATTENTION = "sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend"
FACTORY = "sglang.srt.speculative.draft_utils.DraftBackendFactory"


def attend(
    original: Callable[..., Tensor],
    backend: Any,
    query: Tensor,
    output: Tensor,
    keys: Tensor,
    values: Tensor,
    req_to_token: Tensor,
    rows: Tensor,
    lens: Tensor,
    prefix_lens: Tensor | None,
    extend_lens: Tensor | None,
    *rest: Any,
    **named: Any,
) -> Tensor:
    """A verify step names no prefix: all that is known is the prefix, and the drafts of a chain extend it."""
    if prefix_lens is None:
        extend_lens = torch.full_like(lens, len(query) // len(lens))
        prefix_lens, lens = lens, lens + extend_lens
    return original(
        backend, query, output, keys, values, req_to_token, rows, lens, prefix_lens, extend_lens, *rest, **named
    )


def decode_backend(factory: Any) -> Any:
    """One backend for each draft token after the first, each of which sees one token more than the one before."""
    from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

    class Step(TorchNativeAttnBackend):
        depth: int

        def forward_decode(
            self, q: Tensor, k: Tensor, v: Tensor, layer: Any, forward_batch: Any, save_kv_cache: bool = True
        ) -> Tensor:
            lens = forward_batch.seq_lens
            forward_batch.seq_lens = lens + self.depth
            try:
                return super().forward_decode(q, k, v, layer, forward_batch, save_kv_cache)
            finally:
                forward_batch.seq_lens = lens

    class Steps:
        def __init__(self) -> None:
            self.attn_backends = [Step(factory.draft_model_runner) for _ in range(factory.speculative_num_steps - 1)]
            for depth, backend in enumerate(self.attn_backends, start=1):
                backend.depth = depth

        def init_forward_metadata(self, forward_batch: Any) -> None:
            for backend in self.attn_backends:
                backend.init_forward_metadata(forward_batch)

    return Steps() if factory.speculative_num_steps > 1 else None


def draft_extend_backend(factory: Any) -> Any:
    from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

    return TorchNativeAttnBackend(factory.draft_model_runner)


def register() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(f"{ATTENTION}._run_sdpa_forward_extend", attend, HookType.AROUND)
    HookRegistry.register(f"{FACTORY}.create_decode_backend", decode_backend, HookType.REPLACE)
    HookRegistry.register(f"{FACTORY}.create_draft_extend_backend", draft_extend_backend, HookType.REPLACE)
