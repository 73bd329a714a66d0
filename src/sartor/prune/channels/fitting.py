"""The sizes that modules remember, made to fit the tensors that they hold."""

from __future__ import annotations

from torch import Tensor, nn

_Convolution = nn.modules.conv._ConvNd
_Numbered = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def fit_to_tensors(module: nn.Module) -> None:
    """Set what a module of torch says of its size to the size of its tensors; groups shrink in proportion."""
    weight = module._parameters.get("weight")
    if isinstance(module, _Numbered):
        numbers = weight if weight is not None else module._buffers.get("running_mean")
        if numbers is not None:
            module.num_features = len(numbers)
    elif weight is None:
        return
    elif isinstance(module, _Convolution):
        _fit_convolution(module, weight)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * len(weight) // module.num_channels
        module.num_channels = len(weight)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        module.embedding_dim = weight.shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)


def _fit_convolution(module: _Convolution, weight: Tensor) -> None:
    before = module.in_channels if module.transposed else module.out_channels
    if module.groups > 1:
        module.groups = module.groups * len(weight) // before
    ends = len(weight), weight.shape[1] * module.groups
    module.in_channels, module.out_channels = ends if module.transposed else ends[::-1]
