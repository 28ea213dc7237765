"""Measures prediction of an ONNX file in ONNX Runtime. Job: file, threads, budget (seconds), and that of onnx_input.py."""
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = JOB["threads"], 1
options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
options.log_severity_level = 3
session = onnxruntime.InferenceSession(JOB["file"], options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: x}
error = difference(session.run(None, feed)[0])
report("predict", measure(lambda: session.run(None, feed), JOB["budget"] / 3), difference=error)
