"""Exports a network as an ONNX file with a fixed batch size. Job: spec, torchvision (name of the network there, or null), input, batch, file."""
torch.manual_seed(0)
model = network(JOB).eval()
x = torch.rand(JOB["batch"], *JOB["input"])
with contextlib.redirect_stdout(sys.stderr):
    torch.onnx.export(model, (x,), JOB["file"], opset_version=18, dynamo=True, input_names=["x"], output_names=["y"],
                      external_data=True, verbose=False)
