"""Sartor's selector and pruner in a plain training loop: your model, your data, your optimiser."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import sartor

images, targets = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
pool = sartor.Pool.from_arrays(images[:1297], targets[:1297])
torch.manual_seed(0)
model = sartor.MODELS.build("cnn(width=16)", classes=10, input_shape=(1, 8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
selector = sartor.SELECTORS.build("gradmatch")
pruner = sartor.PRUNERS.build("rigl(sparsity=0.7, every=10)")
generator = torch.Generator().manual_seed(0)
masks = pruner.init(model, generator=generator).attach(optimizer)
epochs, k, batch_size, step = 20, 260, 26, 0
for epoch in range(epochs):
    if epoch % 5 == 0:
        seen = sartor.scan(model, pool, needs=selector.needs)
        subset = selector.select(seen, k, generator=generator)
    for batch in torch.randperm(k, generator=generator).split(batch_size):
        logits = model(pool.gather(subset.rows[batch]))
        losses = F.cross_entropy(logits, pool.targets_of(subset.rows[batch]), reduction="none")
        optimizer.zero_grad()
        (subset.weights[batch] * losses).mean().backward()
        pruner.update(masks, step=step, total_steps=epochs * k // batch_size)
        masks.apply_to_gradients()
        optimizer.step()
        step += 1

model.eval()
accuracy = (model(images[1297:]).argmax(1) == torch.tensor(targets[1297:])).float().mean()
print(
    f"test accuracy {accuracy:.3f} with {masks.density():.0%} of the weights and {k} of {len(pool)} samples at a time"
)
