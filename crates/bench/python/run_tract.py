"""Measures prediction of an ONNX file in tract, which uses one thread. Job: file, budget (seconds), and that of onnx_input.py."""
import tract

model = tract.onnx().load(JOB["file"])
model.set_input_fact(0, ",".join([*map(str, JOB["shape"]), "f32"]))
runnable = model.into_model().into_runnable()
error = difference(runnable.run([x])[0].to_numpy())
report("predict", measure(lambda: runnable.run([x]), JOB["budget"] / 3), difference=error)
