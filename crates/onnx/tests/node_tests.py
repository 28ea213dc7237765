"""Writes test cases of the package onnx: of its node tests, and of its models.

Usage: node_tests.py DIRECTORY OPERATOR... Writes `NAME/model.onnx`, `NAME/input_0.pb`, .., `NAME/output_0.pb`, .. there for each node
test of which all operators are named, with `NAME/tolerance.txt`; and for the models of the package. Prints the number of cases.
"""
import pathlib
import shutil
import sys

import numpy
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

folder, operators = pathlib.Path(sys.argv[1]), set(sys.argv[2:])
types = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.INT64,
    onnx.TensorProto.INT32,
    onnx.TensorProto.BOOL,
    onnx.TensorProto.UINT8,
}


def is_supported(model):
    nodes = [node.op_type for node in model.graph.node]
    infos = [*model.graph.input, *model.graph.output]
    tensors = all(info.type.HasField("tensor_type") and info.type.tensor_type.elem_type in types for info in infos)
    return tensors and set(nodes) <= operators and not any(node.domain for node in model.graph.node)


def write(path, model, inputs, outputs, rtol, atol):
    path.mkdir(parents=True)
    onnx.save(model, path / "model.onnx")
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for i, array in enumerate(arrays):
            if not isinstance(array, onnx.TensorProto):
                array = numpy_helper.from_array(numpy.asarray(array))
            (path / f"{kind}_{i}.pb").write_bytes(array.SerializeToString())
    (path / "tolerance.txt").write_text(f"{rtol} {atol}")


count = 0
for case in collect_testcases(None):
    if case.model is None or not is_supported(case.model):
        continue
    [(inputs, outputs)] = case.data_sets
    if any(not isinstance(array, (numpy.ndarray, numpy.generic, onnx.TensorProto)) for array in [*inputs, *outputs]):
        continue
    write(folder / case.name, case.model, inputs, outputs, case.rtol, case.atol)
    count += 1
data = pathlib.Path(onnx.__file__).parent / "backend/test/data"
for group in ("pytorch-converted", "pytorch-operator", "simple"):
    for case in sorted((data / group).iterdir()):
        model = onnx.load(case / "model.onnx")
        if not is_supported(model):
            continue
        path = folder / f"{group}-{case.name}"
        path.mkdir()
        shutil.copy(case / "model.onnx", path)
        for file in (case / "test_data_set_0").iterdir():
            shutil.copy(file, path)
        (path / "tolerance.txt").write_text("0.001 0.0000001")
        count += 1
for file in sorted((data / "light").glob("*.onnx")):
    model = onnx.load(file)
    if not is_supported(model):
        continue
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for info in model.graph.input:
        if info.name not in constants:
            shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            count_of = int(numpy.prod(shape))
            inputs.append((numpy.arange(count_of).reshape(shape) / count_of).astype(numpy.float32))
    output = onnx.load_tensor(file.with_name(f"{file.stem}_output_0.pb"))
    write(folder / file.stem, model, inputs, [output], 1e-3, 1e-7)
    count += 1
print(count)
