"""Stands in for SGLang's compiled CPU kernels: those that serve a dense model and a chain of drafts, in plain torch.

Each has the signature of the kernel that it stands for; tensors are filled in place. `SGLANG_USE_CPU_ENGINE=1`
makes SGLang import them.
"""

import ctypes
from typing import Any, NoReturn

import torch
from torch import Tensor


def __getattr__(name: str) -> Any:
    """Every other name can be imported; none can be called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel is a stub here; {name} was called")

    return absent


def spans(rows: Tensor, starts: Tensor, ends: Tensor) -> list[tuple[int, slice, slice]]:
    """Of each request: its row, its columns there, and its place in the packed tensor."""
    told, packed = [], 0
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        told.append((row, slice(start, end), slice(packed, packed + end - start)))
        packed += end - start
    return told


def assign_req_to_token_pool_cpu(
    rows: Tensor, req_to_token: Tensor, starts: Tensor, ends: Tensor, locations: Tensor, _: int
) -> None:
    for row, columns, packed in spans(rows, starts, ends):
        req_to_token[row, columns] = locations[packed].to(req_to_token.dtype)


def assign_extend_cache_locs_cpu(
    rows: Tensor, req_to_token: Tensor, starts: Tensor, ends: Tensor, locations: Tensor, _: int
) -> None:
    for row, columns, packed in spans(rows, starts, ends):
        locations[packed] = req_to_token[row, columns].to(locations.dtype)


def assign_draft_cache_locs_contiguous_cpu(
    rows: Tensor, req_to_token: Tensor, lens: Tensor, locations: Tensor, width: int, topk: int, steps: int
) -> None:
    assign_extend_cache_locs_cpu(rows, req_to_token, lens, lens + topk * steps, locations, width)


def fill_accept_out_cache_loc_cpu(accept_index: Tensor, locations: Tensor, accepted: Tensor) -> None:
    chosen = locations[accept_index[accept_index > -1].long()]
    accepted[: len(chosen)] = chosen


def fill_bonus_tokens_cpu(tokens: Tensor, lens: Tensor, bonus: Tensor, stride: int) -> None:
    bonus.copy_(tokens.flatten()[torch.arange(len(lens)) * stride + lens.long() - 1])


def copy_all_layer_kv_cache_cpu(pointers: Tensor, strides: Tensor, targets: Tensor, sources: Tensor) -> None:
    """The arguments are addresses: a row of each layer's cache is `stride` bytes long."""
    for pointer, stride in zip(pointers.tolist(), strides.tolist(), strict=True):
        rows = [ctypes.string_at(pointer + source * stride, stride) for source in sources.tolist()]
        for target, row in zip(targets.tolist(), rows, strict=True):
            ctypes.memmove(pointer + target * stride, row, stride)


def build_tree_kernel_efficient_cpu(
    parents: Tensor,
    selected: Tensor,
    lens: Tensor,
    tree_mask: Tensor,
    positions: Tensor,
    retrieve_index: Tensor,
    retrieve_next_token: Tensor,
    retrieve_next_sibling: Tensor,
    topk: int,
    *_: Any,
) -> None:
    if topk != 1:
        raise NotImplementedError("sgl_kernel is a stub here; it knows chains of drafts, no trees")
    width = retrieve_index.shape[1]
    chain = torch.arange(width)
    positions.copy_((lens[:, None] + chain).flatten())
    retrieve_index.copy_(torch.arange(len(lens))[:, None] * width + chain)
    retrieve_next_token.copy_(torch.where(chain + 1 < width, chain + 1, -1).expand_as(retrieve_next_token))
    retrieve_next_sibling.fill_(-1)


def verify_tree_greedy_cpu(
    predicts: Tensor,
    accept_index: Tensor,
    accept_token_num: Tensor,
    candidates: Tensor,
    retrive_index: Tensor,
    retrive_next_token: Tensor,
    retrive_next_sibling: Tensor,
    target_predict: Tensor,
) -> None:
    """Walks down the drafts as long as the target would have said the same; what it says next is the bonus token."""
    wanted = target_predict.flatten()
    for row in range(len(candidates)):
        node, count, last = 0, 0, int(retrive_index[row, 0])
        accept_index[row, 0] = last
        while count + 1 < accept_index.shape[1]:
            node = int(retrive_next_token[row, node])
            while node != -1 and candidates[row, node] != wanted[last]:
                node = int(retrive_next_sibling[row, node])
            if node == -1:
                break
            predicts[last] = wanted[last]
            count, last = count + 1, int(retrive_index[row, node])
            accept_index[row, count] = last
        predicts[last] = wanted[last]
        accept_token_num[row] = count
