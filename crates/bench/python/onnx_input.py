"""The input of an ONNX file. Job: shape, and x and y: files of float32 with an input and the output that is expected for it, if there are."""
import numpy

if JOB.get("x"):
    x = numpy.fromfile(JOB["x"], dtype=numpy.float32).reshape(JOB["shape"])
else:
    x = numpy.random.default_rng(0).random(JOB["shape"], dtype=numpy.float32)


def difference(y):
    """Returns the greatest difference from the expected output, as a fraction of its greatest magnitude; None if none is expected."""
    if not JOB.get("y"):
        return None
    expected = numpy.fromfile(JOB["y"], dtype=numpy.float32)
    y = numpy.asarray(y, dtype=numpy.float32).reshape(-1)
    if y.shape != expected.shape:
        sys.exit(f"its output has {y.size} elements, {expected.size} are expected")
    return float(numpy.abs(y - expected).max() / max(numpy.abs(expected).max(), 1e-30))
