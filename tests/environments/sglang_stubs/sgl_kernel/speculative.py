from torch import Tensor


def reconstruct_indices_from_tree_mask(
    tree_mask: Tensor,
    lens: Tensor,
    positions: Tensor,
    retrieve_index: Tensor,
    retrieve_next_token: Tensor,
    retrieve_next_sibling: Tensor,
    num_requests: int,
    width: int,
) -> None:
    """`tree_mask[i, j]` says that node j is node i or before it on its branch; the rest, how they hang together."""
    masks = tree_mask.flatten()[: num_requests * width * width].view(num_requests, width, width).tril(-1)
    for row, before in enumerate(masks):
        parents = [max(nodes.nonzero().flatten().tolist(), default=-1) for nodes in before]
        for node in range(width):
            later = range(node + 1, width)
            positions[row * width + node] = int(before[node].sum()) + int(lens[row])
            retrieve_index[row, node] = row * width + node
            retrieve_next_token[row, node] = next((at for at in later if before[at, node]), -1)
            retrieve_next_sibling[row, node] = next((at for at in later if parents[at] == parents[node] >= 0), -1)
