"""Where models and data come from. Importing this imports neither torch nor Pillow; building and loading do."""

from pytest_ptq.sources.batches import Batches, checked
from pytest_ptq.sources.disjoint import check_disjoint
from pytest_ptq.sources.efficientnet_lite import EfficientNetLite0
from pytest_ptq.sources.fashion_mnist import FashionMNIST
from pytest_ptq.sources.folder import ImageFolder
from pytest_ptq.sources.imagenet import ImageNet
from pytest_ptq.sources.int8_files import ExportedProgram, Int8File, OnnxFile, OpenVINOFile, TorchScriptFile
from pytest_ptq.sources.models import TorchvisionModel, build_model
from pytest_ptq.sources.spec import DATA_KINDS, Argument, parse_data_spec
from pytest_ptq.sources.weights import check_finite

__all__ = [
    "DATA_KINDS",
    "Argument",
    "Batches",
    "EfficientNetLite0",
    "ExportedProgram",
    "FashionMNIST",
    "ImageFolder",
    "ImageNet",
    "Int8File",
    "OnnxFile",
    "OpenVINOFile",
    "TorchScriptFile",
    "TorchvisionModel",
    "build_model",
    "check_disjoint",
    "check_finite",
    "checked",
    "parse_data_spec",
]
