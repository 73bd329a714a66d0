"""Networks from their state dicts, one functional call at a time; slow to read weights, quick to check."""

import torch
import torch.nn.functional as F


def norm(x, state, name):
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], training=False, eps=1e-5)


def linear(x, state, name):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def wide(x, state, name, stride):
    """A block of a wide residual network: norm, ReLU, convolution, twice."""
    first = F.relu(norm(x, state, f"{name}.bn1"))
    y = F.conv2d(first, state[f"{name}.conv1.weight"], stride=stride, padding=1)
    y = F.conv2d(F.relu(norm(y, state, f"{name}.bn2")), state[f"{name}.conv2.weight"], padding=1)
    if f"{name}.shortcut.weight" in state:
        return y + F.conv2d(first, state[f"{name}.shortcut.weight"], stride=stride)
    return y + x


def wide_logits(x, state, blocks):
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for number in range(blocks):
            x = wide(x, state, f"stage{stage}.{number}", 2 if stage > 1 and number == 0 else 1)
    return linear(F.relu(norm(x, state, "bn1")).mean(dim=(2, 3)), state, "classifier")


def mobile_logits(x, state, *, strides, expansions, counts):
    """MobileNetV2, given the stride of the stem and of each stage."""

    def conv(x, name, stride=1):
        weight = state[f"{name}.0.weight"]
        groups = len(weight) if "depthwise" in name else 1
        y = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        return norm(y, state, f"{name}.1")

    x = conv(x, "stem", strides[0]).clamp(0, 6)
    for stage, (stride, expansion, count) in enumerate(zip(strides[1:], expansions, counts, strict=True), 1):
        for number in range(count):
            name, step = f"stage{stage}.{number}", stride if number == 0 else 1
            y = conv(x, f"{name}.expand").clamp(0, 6) if expansion > 1 else x
            y = conv(conv(y, f"{name}.depthwise", step).clamp(0, 6), f"{name}.project")
            x = x + y if x.shape == y.shape else y
    return linear(conv(x, "last").clamp(0, 6).mean(dim=(2, 3)), state, "classifier")


def character_logits(x, state, blocks):
    """VDCNN, its k-max pooling by one sorted list for each channel."""
    x = state["characters.weight"][x].transpose(1, 2)
    x = F.conv1d(x, state["conv1.weight"], state["conv1.bias"], padding=1)
    for stage, count in enumerate(blocks, 1):
        x = F.max_pool1d(x, 3, 2, 1) if stage > 1 else x
        for number in range(count):
            for part in (1, 2):
                name = f"stage{stage}.{number}"
                y = F.conv1d(x, state[f"{name}.conv{part}.weight"], padding=1)
                x = F.relu(norm(y, state, f"{name}.bn{part}"))
    kept = []
    for sample in x:
        for channel in sample.tolist():
            best = sorted(range(len(channel)), key=lambda place: (-channel[place], place))[:8]
            kept.append([channel[place] for place in sorted(best)])
    x = torch.tensor(kept, dtype=x.dtype).reshape(len(x), -1)
    x = F.relu(linear(F.relu(linear(x, state, "hidden1")), state, "hidden2"))
    return linear(x, state, "classifier")
