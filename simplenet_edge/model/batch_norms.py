"""Batch norms of a frozen network, folded into the convolutions before them."""

from __future__ import annotations

import copy

from torch import nn
from torch.fx import GraphModule, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norms"]


class _Tracer(Tracer):
    """Looks into every module but PyTorch's and this project's own: torchvision's blocks hide batch norms."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__.startswith("simplenet_edge.") or super().is_leaf_module(m, module_qualified_name)


def fold_batch_norms(module: GraphModule) -> GraphModule:
    """A plain copy with each evaluation-mode batch norm that follows a convolution folded into it, in float64."""
    copied = copy.deepcopy(module).double().eval()
    folded = GraphModule(copied, _Tracer().trace(copied))
    modules = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or not isinstance(modules[before.target], nn.Conv2d) or len(before.users) != 1:
            continue
        fused = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        parent, _, name = before.target.rpartition(".")
        setattr(folded.get_submodule(parent), name, fused)
        node.replace_all_uses_with(before)
        folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.float()
