"""Measures prediction of an ONNX file in OpenVINO, in single precision. Job: file, threads, budget (seconds), and that of onnx_input.py."""
import openvino

core = openvino.Core()
model = core.read_model(JOB["file"])
model.reshape(JOB["shape"])
settings = {"INFERENCE_NUM_THREADS": JOB["threads"], "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
request = core.compile_model(model, "CPU", settings).create_infer_request()
error = difference(request.infer([x])[0])
report("predict", measure(lambda: request.infer([x], share_inputs=True, share_outputs=True), JOB["budget"] / 3), difference=error)
