"""The trees in an ONNX graph, taken out of it in the form that many rows walk through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.models.forest import NODE, Forest

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

MOST_NODES = 5_000_000
"""Nodes of a forest that is taken: with them its graph grows by up to 100 MB."""


class NoForest(Exception):
    """The graph has no trees that can be taken out of it; the text says why."""


def forest_in(model: ModelProto) -> Forest:
    """The one ensemble of trees in a graph, and the graph before and after it. Raises NoForest."""
    from onnx import TensorProto, helper

    ensembles = [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    if len(ensembles) != 1:
        raise NoForest(f"its graph has {len(ensembles) or 'no'} ensembles of trees" if ensembles else "it has no trees")
    (ensemble,) = ensembles
    # Sums come out in single precision, and the graph goes on in doubles.
    users = [node for node in model.graph.node if ensemble.output[0] in node.input]
    if ensemble.op_type != "TreeEnsembleRegressor" or [node.op_type for node in users] != ["Cast"]:
        raise NoForest("its trees are not of the form that is taken out of a graph")
    given, sums = ensemble.input[0], users[0].output[0]
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    for name in (given, sums):
        if name not in (value.name for value in (*model.graph.value_info, *model.graph.output)):
            model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None))
    before = _part(model, inputs, [given])
    after = b"" if sums in outputs else _part(model, [sums], outputs)
    return _forest({a.name: helper.get_attribute_value(a) for a in ensemble.attribute}, before, after)


def _part(model: ModelProto, inputs: list[str], outputs: list[str]) -> bytes:
    from onnx.utils import Extractor

    part: bytes = Extractor(model).extract_model(inputs, outputs).SerializeToString()
    return part


def _forest(attributes: dict[str, Any], before: bytes, after: bytes) -> Forest:
    """The nodes tree by tree and, in a tree, level by level, so that the two children of a node lie together."""
    import numpy as np
    from onnx.numpy_helper import to_array

    if set(attributes["nodes_modes"]) - {b"LEAF", b"BRANCH_LEQ"}:
        raise NoForest("its trees compare in another way than by a threshold")
    tree = np.array(attributes["nodes_treeids"], dtype="i8")
    if len(tree) > MOST_NODES:
        raise NoForest(f"its trees have {len(tree):,} nodes, more than {MOST_NODES:,}")
    leaf = np.array(attributes["nodes_modes"]) == b"LEAF"
    # Nodes are in the order of their trees and of their numbers in them.
    first = np.searchsorted(tree, np.arange(tree[-1] + 1))
    left, right = (
        first[tree] + np.array(attributes[name], dtype="i8") for name in ("nodes_truenodeids", "nodes_falsenodeids")
    )
    levels = [first]
    while len(branches := levels[-1][~leaf[levels[-1]]]):
        levels.append(np.stack([left[branches], right[branches]], axis=1).ravel())
    order = np.concatenate(levels)
    order = order[np.argsort(tree[order], kind="stable")]
    place = np.empty(len(order), dtype="i8")
    place[order] = np.arange(len(order))
    nodes = np.zeros(len(order), dtype=np.dtype(NODE, align=True))
    leaf_here = leaf[order]
    nodes["child"] = np.where(leaf_here, np.arange(len(order)), place[left[order]])
    nodes["feature"] = np.where(leaf_here, 0, np.array(attributes["nodes_featureids"], dtype="i8")[order])
    nodes["threshold"] = np.where(leaf_here, np.inf, to_array(attributes["nodes_values_as_tensor"])[order])
    missing_left = np.array(attributes["nodes_missing_value_tracks_true"], dtype=bool)[order]
    base = to_array(attributes["base_values_as_tensor"]).astype("f8")
    values = np.zeros((len(order), attributes["n_targets"]))
    targeted = first[np.array(attributes["target_treeids"])] + np.array(attributes["target_nodeids"])
    values[place[targeted], attributes["target_ids"]] = to_array(attributes["target_weights_as_tensor"])
    return Forest(
        nodes=nodes,
        missing_right=~missing_left & ~leaf_here,
        values=values,
        base=base,
        roots=place[first].astype("u4"),
        depths=_depths(tree, levels),
        before=before,
        after=after,
    )


def _depths(tree: np.ndarray, levels: list[np.ndarray]) -> np.ndarray:
    import numpy as np

    depths = np.zeros(tree[-1] + 1, dtype="u4")
    for depth, level in enumerate(levels):
        depths[tree[level]] = depth
    return depths
