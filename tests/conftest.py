"""What tests share: the place of the real pictures, where there are any, and a drawn-up model."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from dermx.config import PreprocessConfig
from dermx.diagnoses import CODES
from dermx.model.bundle import Bundle, write_bundle

REPOSITORY = Path(__file__).parents[1]

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real pictures: `$DERMX_DATA`, else `../shared/data` beside the repository."""
    folder = Path(os.environ.get("DERMX_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ham10000" / "HAM10000_metadata.csv").is_file():
        pytest.skip(f"no real pictures in {folder}; set DERMX_DATA")
    return folder


@pytest.fixture(scope="session")
def colour_network() -> bytes:
    """An ONNX network worked by hand: three channels, each 8 x 8 cell's mean of R, G, B."""
    from onnx import TensorProto, helper

    pool = helper.make_node("AveragePool", ["pixels"], ["map"], kernel_shape=[8, 8], strides=[8, 8])
    mean = helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [pool, mean],
        "mean colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, None, None])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 3, None, None]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, colour_network: bytes) -> Bundle:
    """A model of 32 pixels whose features are the mean colours.

    Its pixels are scaled to [-1, 1]; the logit of `vasc` is 2 * red, of `nv` 2 * green,
    of `mel` 2 * blue, of the other classes 0.
    """
    weight = np.zeros((len(CODES), 3), np.float32)
    for channel, code in enumerate(("vasc", "nv", "mel")):
        weight[CODES.index(code), channel] = 2
    return write_bundle(
        tmp_path_factory.mktemp("models") / "tiny",
        name="tiny",
        architecture="mean-colours",
        preprocess=PreprocessConfig(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        network_bytes=colour_network,
        weight=weight,
        bias=np.zeros(len(CODES), np.float32),
        figures={"accuracy": 0.5},
        card="# A model for tests\n",
    )


@pytest.fixture(scope="session")
def network() -> bytes:
    """ONNX of a small MobileNetV2 with weights drawn at random, for pictures of 64 pixels."""
    torch = pytest.importorskip("torch", reason="exporting needs dermx[train]")
    from dermx.train.export import to_onnx
    from dermx.train.network import build_network

    torch.manual_seed(0)
    torch.set_num_threads(1)
    return to_onnx(build_network("mobilenetv2_035", 8, pretrained=False), 64)
