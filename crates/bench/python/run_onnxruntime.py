"""Measures prediction of an ONNX file in ONNX Runtime. Job: file, input, batch, threads, budget (seconds)."""
import numpy
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = JOB["threads"], 1
options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
options.log_severity_level = 3
session = onnxruntime.InferenceSession(JOB["file"], options, providers=["CPUExecutionProvider"])
x = numpy.random.default_rng(0).random([JOB["batch"], *JOB["input"]], dtype=numpy.float32)
report("predict", measure(lambda: session.run(None, {"x": x}), JOB["budget"] / 3))
