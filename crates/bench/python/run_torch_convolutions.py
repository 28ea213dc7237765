"""Measures convolutions in PyTorch: forward with bias, input gradient, weight gradient.

Job: threads, budget (seconds per pass), convolutions: a list of {x, weight (shapes), stride, padding,
dilation, groups, input_grad (bool)}. Measurements are printed in that order; `mode` is the pass.
"""
import torch

torch.set_num_threads(JOB["threads"])
torch.manual_seed(0)
for case in JOB["convolutions"]:
    x, weight = torch.rand(case["x"]), torch.rand(case["weight"]) - 0.5
    bias = torch.rand(case["weight"][0])
    geometry = case["stride"], case["padding"], case["dilation"]
    with torch.no_grad():
        dy = torch.rand_like(torch.nn.functional.conv2d(x, weight, bias, *geometry, case["groups"]))

        def backward(mask):
            torch.ops.aten.convolution_backward(dy, x, weight, None, *geometry, False, [0, 0], case["groups"], mask)

        report("forward", measure(lambda: torch.nn.functional.conv2d(x, weight, bias, *geometry, case["groups"]), JOB["budget"]))
        if case["input_grad"]:
            report("input_grad", measure(lambda: backward([True, False, False]), JOB["budget"]))
        report("weight_grad", measure(lambda: backward([False, True, False]), JOB["budget"]))
