"""Reads a request as JSON from standard input, and prints what PyTorch computes for it, in double precision.

The formulas of LAMB, Lion and of Muon without its rounding to bfloat16 are written out here, from the papers.
"""

import json
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


class Lion(torch.optim.Optimizer):
    def step(self):
        for g in self.param_groups:
            for p in g["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                b1, b2 = g["betas"]
                u = (b1 * m + (1 - b1) * p.grad).sign()
                p.data.mul_(1 - g["lr"] * g["weight_decay"]).sub_(g["lr"] * u)
                m.mul_(b2).add_((1 - b2) * p.grad)


class Lamb(torch.optim.Optimizer):
    def step(self):
        for g in self.param_groups:
            for p in g["params"]:
                s = self.state[p]
                if not s:
                    s.update(m=torch.zeros_like(p), v=torch.zeros_like(p), t=0)
                b1, b2 = g["betas"]
                s["t"] += 1
                s["m"] = b1 * s["m"] + (1 - b1) * p.grad
                s["v"] = b2 * s["v"] + (1 - b2) * p.grad**2
                r = s["m"] / (1 - b1 ** s["t"]) / ((s["v"] / (1 - b2 ** s["t"])).sqrt() + g["eps"])
                u = r + g["weight_decay"] * p.data
                w, n = p.data.norm(), u.norm()
                ratio = w / n if w > 0 and n > 0 else 1.0
                p.data.sub_(g["lr"] * ratio * u)


class Muon(torch.optim.Optimizer):
    def step(self):
        for g in self.param_groups:
            for p in g["params"]:
                s = self.state[p]
                if not s:
                    s.update(m=torch.zeros_like(p), adam=None, t=0)
                if p.ndim < 2:
                    if s["adam"] is None:
                        s["adam"] = torch.optim.AdamW([p], lr=g["lr"], weight_decay=g["weight_decay"])
                    s["adam"].step()
                    continue
                s["m"].lerp_(p.grad, 1 - g["momentum"])
                u = p.grad.lerp(s["m"], g["momentum"]) if g["nesterov"] else s["m"]
                x = u.reshape(u.shape[0], -1)
                rows, columns = x.shape
                x = x.T if rows > columns else x
                x = x / x.norm().clamp(min=1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = x.T if rows > columns else x
                p.data.mul_(1 - g["lr"] * g["weight_decay"])
                p.data.sub_(g["lr"] * 0.2 * max(rows, columns) ** 0.5 * x.reshape(p.shape))


def optimizer(case):
    params = [torch.tensor(p["values"]).reshape(p["shape"]).requires_grad_() for p in case["params"]]
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "lion": lambda p, **k: Lion(p, k),
        "lamb": lambda p, **k: Lamb(p, k),
        "muon": lambda p, **k: Muon(p, k),
    }
    o = kinds[case["kind"]](params, lr=case["lr"], **case["options"])
    norms = []
    for step in range(case["steps"]):
        for i, p in enumerate(params):
            p.grad = torch.cos(p.detach() * (i + 1) + step) * case["scale"]
        if case["clip_value"] is not None:
            torch.nn.utils.clip_grad_value_(params, case["clip_value"])
        if case["clip_norm"] is not None:
            norms.append(torch.nn.utils.clip_grad_norm_(params, case["clip_norm"]).item())
        o.step()
    return {"params": [p.detach().flatten().tolist() for p in params], "norms": norms}


def loss(case):
    logits = torch.tensor(case["logits"]).requires_grad_()
    labels, soft = torch.tensor(case["labels"]), torch.tensor(case["soft"])
    other = torch.tensor(case["other"])
    weights = torch.tensor(case["weights"])

    def focal(gamma):
        log_p = F.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()) ** gamma * log_p).mean()

    one_hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    value = eval(case["torch"], dict(globals(), **locals()))
    value.backward()
    return {"value": value.item(), "grad": logits.grad.flatten().tolist()}


def average(case):
    model = torch.nn.Linear(1, 1, bias=False)
    swa = torch.optim.swa_utils
    fn = swa.get_ema_multi_avg_fn(case["decay"]) if case["decay"] is not None else swa.get_swa_multi_avg_fn()
    averaged = swa.AveragedModel(model, multi_avg_fn=fn)
    for value in case["values"]:
        model.weight.data.fill_(value)
        averaged.update_parameters(model)
    return averaged.module.weight.item()


functions = {"optimizer": optimizer, "loss": loss, "average": average}
json.dump([functions[case["what"]](case) for case in json.load(sys.stdin)], sys.stdout)
