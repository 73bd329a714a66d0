"""Residual networks from their state dict, one functional call at a time; slow to read weights, quick to check."""

import torch.nn.functional as F


def norm(x, state, name):
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], training=False, eps=1e-5)


def conv(x, state, name, stride=1, padding=0):
    return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)


def basic(x, state, name, stride):
    y = F.relu(norm(conv(x, state, f"{name}.conv1", stride, 1), state, f"{name}.bn1"))
    return F.relu(norm(conv(y, state, f"{name}.conv2", 1, 1), state, f"{name}.bn2") + past(x, state, name, stride))


def bottleneck(x, state, name, stride):
    y = F.relu(norm(conv(x, state, f"{name}.conv1"), state, f"{name}.bn1"))
    y = F.relu(norm(conv(y, state, f"{name}.conv2", stride, 1), state, f"{name}.bn2"))
    return F.relu(norm(conv(y, state, f"{name}.conv3"), state, f"{name}.bn3") + past(x, state, name, stride))


def past(x, state, name, stride):
    if f"{name}.shortcut.0.weight" not in state:
        return x
    return norm(conv(x, state, f"{name}.shortcut.0", stride), state, f"{name}.shortcut.1")


def preactivation(x, state, name, stride):
    first = F.relu(norm(x, state, f"{name}.bn1"))
    y = conv(first, state, f"{name}.conv1")
    y = conv(F.relu(norm(y, state, f"{name}.bn2")), state, f"{name}.conv2", stride, 1)
    y = conv(F.relu(norm(y, state, f"{name}.bn3")), state, f"{name}.conv3")
    return y + (conv(first, state, f"{name}.shortcut", stride) if f"{name}.shortcut.weight" in state else x)


def logits(x, state, blocks, *, large_stem=False, block=basic):
    """Logits of a network of so many blocks a stage, its norms in eval mode."""
    x = conv(x, state, "conv1", *((2, 3) if large_stem else (1, 1)))
    if block is not preactivation:
        x = F.relu(norm(x, state, "bn1"))
    if large_stem:
        x = F.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for number in range(count):
            x = block(x, state, f"stage{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
    if block is preactivation:
        x = F.relu(norm(x, state, "bn1"))
    return F.linear(x.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])
