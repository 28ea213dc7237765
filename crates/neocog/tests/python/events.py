"""Reads event files with TensorBoard's own reader: python events.py DIRECTORY

Prints a JSON object: scalars, images, histograms and tensors by tag, each a list of [step, value]; the value of an image is its width
and height, that of a histogram the number of its values, that of a tensor its text.
"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
accumulator.Reload()
tags = accumulator.Tags()
result = {
    "scalars": {tag: [[e.step, e.value] for e in accumulator.Scalars(tag)] for tag in tags["scalars"]},
    "images": {tag: [[e.step, [e.width, e.height]] for e in accumulator.Images(tag)] for tag in tags["images"]},
    "histograms": {tag: [[e.step, e.histogram_value.num] for e in accumulator.Histograms(tag)] for tag in tags["histograms"]},
    "tensors": {},
    "hparams": {},
}
for tag in tags["tensors"]:
    events = accumulator.Tensors(tag)
    text = [value.decode() for value in events[0].tensor_proto.string_val]
    result["tensors"][tag] = [[e.step, text] for e in events]
start = accumulator.summary_metadata.get("_hparams_/session_start_info")
if start:
    content = plugin_data_pb2.HParamsPluginData.FromString(start.plugin_data.content)
    for name, value in content.session_start_info.hparams.items():
        result["hparams"][name] = getattr(value, value.WhichOneof("kind"))
print(json.dumps(result))
