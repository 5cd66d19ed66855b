"""Which layers take pictures one at a time, and which all at once? That changes only the time.

The first layers have large maps and few weights: of one picture, maps stay in a core's cache. The
last ones have small maps and many weights, which are read once for all pictures if these come
together. So the large maps' layers go into an ONNX `Scan`, which runs them picture by picture and
stacks what they give; the others get the stack. Every number stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dermx.errors import needs
from dermx.model.runtime import FEATURES, IN_TURN, INPUT, MAP

if TYPE_CHECKING:
    from onnx import ModelProto

LARGE: Final = 8  # maps of at least the input's side divided by this are made one at a time


def large_maps_in_turn(network: bytes, side: int) -> bytes:
    """Rewrite a network so that its large maps are made picture by picture.

    Args:
        network: ONNX, from `dermx.train.export` or `dermx.model.merge`, quantised or not.
        side: Of the pictures that it will see, pixels.

    Returns:
        ONNX with the same inputs and outputs; unchanged where there is nothing to rewrite.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    with needs("writing a network", "train"):
        import onnx
        from onnx import TensorProto, compose, helper, shape_inference
        from onnx.utils import Extractor
    model = onnx.load_model_from_string(network)
    if any(node.op_type == "Scan" for node in model.graph.node) or not (cut := _cut(model, side)):
        return network
    parts = Extractor(shape_inference.infer_shapes(model))
    rest = parts.extract_model(cut, [MAP, FEATURES])
    read = {name for node in rest.graph.node for name in node.input}
    cut = [name for name in cut if name in read]  # not what only weighs a large map's channels
    first = parts.extract_model([INPUT], cut)
    types = {value.name: value.type.tensor_type.elem_type for value in first.graph.output}
    body = compose.add_prefix(first, "each/").graph  # names inside must differ from those outside
    one = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["one", "batch_axis"], [f"each/{INPUT}"]),
            *body.node,
            *(
                helper.make_node("Squeeze", [f"each/{name}", "batch_axis"], [f"one/{name}"])
                for name in cut
            ),
        ],
        "one picture",
        [helper.make_tensor_value_info("one", TensorProto.FLOAT, [3, None, None])],
        [helper.make_tensor_value_info(f"one/{name}", types[name], [None] * 3) for name in cut],
        initializer=[
            *body.initializer,
            helper.make_tensor("batch_axis", TensorProto.INT64, [1], [0]),
        ],
    )
    scan = helper.make_node("Scan", [INPUT], cut, num_scan_inputs=1, body=one)
    graph = helper.make_graph(
        [scan, *rest.graph.node],
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        initializer=list(rest.graph.initializer),
    )
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    helper.set_model_props(made, {IN_TURN: "yes"})
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _cut(model: ModelProto, side: int) -> list[str]:
    """Name the large maps that layers with small ones read, in the network's order.

    Of a map that is dequantised before it is read, it is the integers: ONNX Runtime makes one
    operation of an integer layer only where it sees the dequantising as well.
    """
    from onnx import ModelProto, shape_inference

    sized = ModelProto()
    sized.CopyFrom(model)
    for dimension, value in zip(
        sized.graph.input[0].type.tensor_type.shape.dim, (1, 3, side, side), strict=True
    ):
        dimension.dim_value = value
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in shape_inference.infer_shapes(sized).graph.value_info
    }
    shapes[INPUT] = [1, 3, side, side]
    made_by = {name: node for node in model.graph.node for name in node.output}
    of_picture, cut = {INPUT}, dict[str, None]()  # a set that keeps its order

    def is_large(name: str) -> bool:
        shape = shapes.get(name, [])
        return name in of_picture and len(shape) == 4 and min(shape[2:]) * LARGE >= side

    for node in model.graph.node:
        if not of_picture.intersection(node.input):
            continue  # makes weights
        of_picture.update(node.output)
        if is_large(node.output[0]):
            continue
        for name in filter(is_large, node.input):
            if name in made_by and made_by[name].op_type == "DequantizeLinear":
                name = made_by[name].input[0]
            cut[name] = None
    return [] if INPUT in cut else list(cut)
