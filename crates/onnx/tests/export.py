"""Checks ONNX models and compares what they compute in ONNX Runtime with the expected outputs.

Usage: export.py DIRECTORY. Reads all `NAME.onnx` there, with inputs `x1`, `x7`, ... and outputs `y1`, `y7`, ... in
`NAME.safetensors`; `r1`, .. are outputs in double precision, of which ours may be three times as far away as ONNX Runtime's. Prints a
line for each model, which ends with `ok`.
"""
import pathlib
import sys

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

onnxruntime.set_default_logger_severity(3)
failed = False
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
        assert {entry.key for entry in model.metadata_props} >= {"neocog.version"}
        del inferred
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        tensors = load_file(path.with_suffix(".safetensors"))
        worst, errors, is_near = 0.0, "", True
        for key in sorted(key for key in tensors if key.startswith("x")):
            x, expected = tensors[key], tensors["y" + key[1:]]
            if session.get_inputs()[0].type == "tensor(uint8)":
                x = x.astype(numpy.uint8)
            [found] = session.run(None, {session.get_inputs()[0].name: x})
            assert found.shape == expected.shape, (key, found.shape, expected.shape)
            scale = max(abs(expected).max(), 1e-30)
            worst = max(worst, abs(found - expected).max() / scale)
            exact = tensors.get("r" + key[1:])
            if exact is not None:
                ours, theirs = (abs(y - exact).max() / scale for y in (expected, found))
                # Outputs of a single rounding: a difference of one unit in the last place is none.
                is_near = ours <= max(3 * theirs, 3e-7)
                errors += f", errors {ours:.1e} and {theirs:.1e}"
        verdict = "ok" if worst <= 1e-4 and is_near else "WRONG"
        print(f"{path.stem}: opset {model.opset_import[0].version}, {len(model.graph.node)} nodes, off by {worst:.1e}{errors} {verdict}")
    except Exception as error:
        verdict = "WRONG"
        print(f"{path.stem}: {type(error).__name__}: {error}")
    failed |= verdict != "ok"
sys.exit(failed)
