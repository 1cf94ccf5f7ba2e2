"""All learners by name, and what each takes a unit to be worth at the start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smartc.energy import unit_energy
from smartc.learning.fixed import AcDc, OneShot, Taylor
from smartc.learning.learner import Learner, Start
from smartc.learning.pdp import Pdp
from smartc.learning.smart import Smart
from smartc.learning.squares import layer_ranks
from smartc.learning.units import FloatArray, Units
from smartc.model import TracedModel
from smartc.passes.channel_groups import ChannelGroups
from smartc.scores import sp_lamp

LEARNERS: dict[str, Callable[[Start], Learner]] = {
    "smart": Smart,
    "pdp": Pdp,
    "sp-lamp": OneShot,
    "magnitude": OneShot,
    "taylor": Taylor,
    "ac-dc": AcDc,
}


def first_worth(learner: str, model: TracedModel, units: Units, groups: ChannelGroups) -> FloatArray:
    """Return per unit what it is worth before anything is learned, comparable between layers.

    For ``sp-lamp`` each layer's LAMP score; for ``smart`` the energy relative to the layer's mean; for the
    others, of blocks, the rank within the layer.  The energy of a unit is the mean square of its weights;
    of a channel, for ``smart`` and ``sp-lamp``, what it is expected to give the layers that read it.
    """
    channels = units.granularity.kind == "channel" and learner in ("smart", "sp-lamp")
    energy = unit_energy(model, groups) if channels else units.energy(model)
    if learner == "sp-lamp":
        total = energy if channels else energy * units.sizes
        worth = np.empty_like(total)
        order = np.argsort(units.layer_of, kind="stable")
        for part in np.split(order, np.cumsum(units.per_layer)[:-1]):
            worth[part] = sp_lamp(total[part])
        return worth
    if learner != "smart" and units.granularity.kind != "channel":
        return layer_ranks(units, energy)
    mean = np.bincount(units.layer_of, energy, minlength=len(units.names)) / np.maximum(units.per_layer, 1)
    return energy / np.maximum(mean, 1e-300)[units.layer_of]
