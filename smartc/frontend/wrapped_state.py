"""A state_dict under the names of its module, where a wrapper or a trainer has put prefixes before them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# What DataParallel, torch.compile and the modules of common trainers put before the names of what they hold.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "_forward_module.")
# A model can be in a wrapper in a wrapper.
_DEEPEST = 4


def unwrapped(state: Mapping[str, Any], names: Collection[str]) -> tuple[Mapping[str, Any], str]:
    """Return a state_dict without the prefix of a wrapper, and a text on what was taken off.

    Args:
        state: By the names that it was saved with.
        names: Those of the module that it is for.

    Returns:
        The state as it is, and no text, where one of its names is the module's, or no prefix makes it so.
    """
    bare, prefix = state, ""
    while bare and not any(name in names for name in bare):
        head = next((head for head in _PREFIXES if any(name.startswith(head) for name in bare)), None)
        if head is None or prefix.count(".") >= _DEEPEST:
            return state, ""
        bare = {name.removeprefix(head): value for name, value in bare.items() if name.startswith(head)}
        prefix += head
    if not prefix:
        return state, ""
    others = len(state) - len(bare)
    beside = f", and {others} entries beside them were left out" if others else ""
    return bare, f"the names of its weights began with {prefix} and are taken without it{beside}"
