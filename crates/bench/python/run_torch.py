"""Measures prediction (eval mode, no_grad) and training of a network in PyTorch.

A training step is zero_grad, forward in training mode, mean cross-entropy, backward, SGD with lr 0.01.
Job: spec, torchvision (name of the network there, or null), input [channels, height, width], classes, batch, threads, budget (seconds), channels_last (bool).
"""
torch.set_num_threads(JOB["threads"])
torch.manual_seed(0)
model = network(JOB)
x = torch.rand(JOB["batch"], *JOB["input"])
y = torch.randint(0, JOB["classes"], (JOB["batch"],))
if JOB["channels_last"]:
    model = model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def predict():
    with torch.no_grad():
        model(x)


def train():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    loss.item()


model.eval()
report("predict", measure(predict, JOB["budget"] / 3))
model.train()
report("train", measure(train, JOB["budget"] * 2 / 3))
