"""Fused graph + plan -> observed graph: the float model with an observer on every tensor that needs a range."""

from __future__ import annotations

from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import StageModule, finish, insert_after, open_copy
from pytest_ptq.engine.observers import OBSERVERS, Grid, MinMaxObserver
from pytest_ptq.engine.plan import QuantPlan
from pytest_ptq.engine.verify import verify_observed
from pytest_ptq.qconfig import QConfig


class PreparedModule(StageModule):
    """A model that observes. Prints as its layers with their observers, and the ranges seen so far."""

    stage = "prepared"
    plan: QuantPlan
    qconfig: QConfig
    notes: tuple[str, ...] = ()
    """What was done to the weights before."""
    _fused: list[FusedModule]

    @property
    def fused(self) -> FusedModule:
        """The float model that it was made from; in a list, so that it is no layer of this one."""
        return self._fused[0]

    def observers(self) -> dict[str, MinMaxObserver]:
        """The observers by the name of the tensor that each one sees."""
        return {
            str(node.args[0]): observer
            for node in self.graph.nodes
            if node.op == "call_module" and isinstance(observer := self.get_submodule(str(node.target)), MinMaxObserver)
        }


def observe(fused: FusedModule, plan: QuantPlan, qconfig: QConfig) -> PreparedModule:
    """Insert one observer behind each tensor that `plan.observed` names."""
    prepared = open_copy(fused, PreparedModule)
    for node in list(prepared.graph.nodes):
        if node.name in plan.observed:
            layer = node.meta["layer"]
            observer = OBSERVERS[plan.observed[node.name].observer].module(layer)
            if node.op == "placeholder":
                observer.grid = Grid()
            insert_after(prepared, node, f"{layer}.observer", observer)
    finish(prepared)
    prepared._fused, prepared.plan, prepared.qconfig = [fused], plan, qconfig
    verify_observed(prepared.observers().keys(), plan.observed.keys())
    return prepared
