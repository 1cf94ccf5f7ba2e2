"""Call the outputs of a model what the user calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smartc.core.errors import Argument, UserError
from smartc.ir.traced_model import TracedModel


def name_outputs(model: TracedModel, names: Sequence[str] | None) -> TracedModel:
    """Return a model whose outputs have the given names; as it is where none are given.

    Raises:
        UserError: There are fewer names than outputs or more, one is empty, given twice or an input's.
    """
    if names is None:
        return model
    where, own = Argument("output_names", tuple(names)), model.output_names
    if len(names) != len(own):
        fact = f"{len(names)} names are given, and the model has {len(own)} outputs: {', '.join(own)}"
        raise UserError(fact, where=where, fix="Give a name for each, in this order")
    taken = {spec.name for spec in model.inputs}
    for place, name in enumerate(names):
        if not name or name in taken or name in names[:place]:
            fact = f"{name!r} is {'an input too' if name in taken else 'given twice' if name else 'no name'}"
            raise UserError(fact, where=where, fix="Give each output a name of its own")
    return replace(model, outputs=tuple(names))
