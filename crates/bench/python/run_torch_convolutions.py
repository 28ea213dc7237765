"""Times convolutions in PyTorch: forward with bias, gradient of the input, gradient of the weight.

Job: threads, budget (seconds for each of the three), convolutions: a list of {x, weight (shapes), stride, padding,
dilation, groups, input_grad (bool)}. The answers come in that order; `mode` is the pass.
"""
import torch

torch.set_num_threads(JOB["threads"])
torch.manual_seed(0)
for case in JOB["convolutions"]:
    x, weight = torch.rand(case["x"]), torch.rand(case["weight"]) - 0.5
    bias = torch.rand(case["weight"][0])
    how = case["stride"], case["padding"], case["dilation"]
    with torch.no_grad():
        dy = torch.rand_like(torch.nn.functional.conv2d(x, weight, bias, *how, case["groups"]))

        def backward(mask):
            torch.ops.aten.convolution_backward(dy, x, weight, None, *how, False, [0, 0], case["groups"], mask)

        answer("forward", measure(lambda: torch.nn.functional.conv2d(x, weight, bias, *how, case["groups"]), JOB["budget"]))
        if case["input_grad"]:
            answer("input_grad", measure(lambda: backward([True, False, False]), JOB["budget"]))
        answer("weight_grad", measure(lambda: backward([False, True, False]), JOB["budget"]))
