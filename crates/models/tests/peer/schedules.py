"""Reads schedules as JSON from standard input, and prints learning rates and momentums that torch.optim.lr_scheduler computes.

Each schedule is {"steps_per_epoch", "steps", "lr", "make", "metrics"}; "make" is an expression of the scheduler of the optimizer `o`.
"""

import json
import sys

import torch
from torch.optim import lr_scheduler as s


def values(case):
    o = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=case["lr"], momentum=0.9)
    scheduler = eval(case["make"], {"s": s, "o": o, "torch": torch})
    lrs, momentums = [], []
    for step in range(case["steps"]):
        lrs.append(o.param_groups[0]["lr"])
        momentums.append(o.param_groups[0]["momentum"])
        o.step()
        if (step + 1) % case["steps_per_epoch"] == 0:
            metrics = case["metrics"]
            if metrics:
                scheduler.step(metrics[(step + 1) // case["steps_per_epoch"] - 1])
            else:
                scheduler.step()
    return {"lr": lrs, "momentum": momentums}


json.dump([values(case) for case in json.load(sys.stdin)], sys.stdout)
