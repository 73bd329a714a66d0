"""Equal samples, found by comparing each with each."""

from collections.abc import Sequence

from torch import Tensor


def equal_groups(samples: Sequence[tuple[Tensor, ...]]) -> list[list[int]]:
    """Places of samples whose tensors are all equal, in the order of the first of each group of two or more."""
    groups: list[list[int]] = []
    for place, sample in enumerate(samples):
        for group in groups:
            if all(bool((a == b).all()) for a, b in zip(samples[group[0]], sample, strict=True)):
                group.append(place)
                break
        else:
            groups.append([place])
    return [group for group in groups if len(group) > 1]
