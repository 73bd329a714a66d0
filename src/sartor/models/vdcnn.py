"""Very deep convolutional networks for texts, read character by character (Conneau et al. 2017)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from sartor.errors import ConfigError
from sartor.models.shapes import check_classes, check_dropout, check_single, check_width
from sartor.registry import MODELS

_BLOCKS = {9: (1, 1, 1, 1), 17: (2, 2, 2, 2), 29: (5, 5, 2, 2)}
"""Blocks of w, 2w, 4w and 8w channels, each of two convolutions, by depth (table 2)."""
KEPT = 8
"""How many of the largest values of each channel the classifier sees."""
SHORTEST = 57
"""The shortest text, in characters, of which so many places are left after three halvings."""


class Characters(nn.Embedding):
    """Vectors for characters, given as whole numbers; number 0 stands for what is behind the end and is all zeros."""

    def forward(self, x: Int[Tensor, "b length"]) -> Float[Tensor, "b d length"]:
        """Return the vectors as channels. Raises: ConfigError: for numbers that are no characters of the network's."""
        if x.is_floating_point():
            raise ConfigError(f"the network reads characters as whole numbers, but its input is {x.dtype}; give int64.")
        try:
            return super().forward(x).transpose(1, 2)
        except IndexError as error:
            known = f"the network knows the characters 0..{self.num_embeddings - 1}"
            raise ConfigError(f"{known}, the text has {int(x.min())}..{int(x.max())}; set symbols=NUMBER.") from error


class ConvolutionBlock(nn.Sequential):
    """Two convolutions of three places, each followed by norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv1d(inputs, outputs, 3, padding=1, bias=False),
                bn1=nn.BatchNorm1d(outputs),
                relu1=nn.ReLU(),
                conv2=nn.Conv1d(outputs, outputs, 3, padding=1, bias=False),
                bn2=nn.BatchNorm1d(outputs),
                relu2=nn.ReLU(),
            )
        )


class LargestPool(nn.Module):
    """The k largest values of each channel, in the order in which they stand; of equal ones the first."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Float[Tensor, "b channels length"]) -> Float[Tensor, "b channels k"]:
        """Return the values that are kept (k-max pooling)."""
        places = x.detach().sort(dim=2, descending=True, stable=True).indices[..., : self.k]
        return x.gather(2, places.sort(dim=2).values)


class VDCNN(nn.Sequential):
    """Vectors for characters, a convolution, stages of blocks with max-pooling between them, three full connections."""

    def __init__(
        self, symbols: int, blocks: Sequence[int], width: int, hidden: int, classes: int, dropout: float
    ) -> None:
        layers: list[tuple[str, nn.Module]] = [
            ("characters", Characters(symbols, 16, padding_idx=0)),
            ("conv1", nn.Conv1d(16, width, 3, padding=1)),
        ]
        inputs = width
        for i, count in enumerate(blocks):
            if i:
                layers.append((f"pool{i}", nn.MaxPool1d(3, 2, 1)))
            outputs = width * 2**i
            stage = [ConvolutionBlock(inputs if j == 0 else outputs, outputs) for j in range(count)]
            layers.append((f"stage{i + 1}", nn.Sequential(*stage)))
            inputs = outputs
        layers += [("largest", LargestPool(KEPT)), ("flatten", nn.Flatten())]
        layers += [("hidden1", nn.Linear(KEPT * inputs, hidden)), ("relu1", nn.ReLU())]
        layers += [("hidden2", nn.Linear(hidden, hidden)), ("relu2", nn.ReLU())]
        layers += [("dropout", nn.Dropout(dropout))] if dropout else []
        super().__init__(OrderedDict([*layers, ("classifier", nn.Linear(hidden, classes))]))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def vdcnn(
    depth: int, classes: int, input_shape: tuple[int, ...], symbols: int, width: int, hidden: int, dropout: float
) -> VDCNN:
    """Build the network of depth 9, 17 or 29 for texts of one length, `symbols` being the size of the alphabet.

    `width`: channels of the first stage; `hidden`: units of both layers before the classifier; `dropout`: rate there.
    Source: Conneau et al. 2017, figure 1 and table 2, without the optional shortcuts, pooled by max-pooling.
    Differs: convolutions before a norm have no bias, which the norm would take away.
    Raises: ConfigError: for samples that are no texts, or too short ones, a size below 1, an unknown rate.
    """
    name = f"vdcnn{depth}"
    shape = check_single(name, input_shape)
    if len(shape) != 1 or shape[0] < SHORTEST:
        found = f"samples of shape {shape}"
        raise ConfigError(
            f"{name} is asked to take {found}; it takes texts of {SHORTEST} or more characters, (length,)."
        )
    check_classes(name, classes)
    check_width(name, width)
    for option, value, least in (("symbols", symbols, 2), ("hidden", hidden, 1)):
        if value < least:
            raise ConfigError(f"{option} of {name} is {value}; it must be at least {least}.")
    check_dropout(name, dropout)
    return VDCNN(symbols, _BLOCKS[depth], width, hidden, classes, dropout)


@MODELS.register("vdcnn9")
def vdcnn9(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    symbols: int = 69,
    width: int = 64,
    hidden: int = 2048,
    dropout: float = 0.0,
) -> VDCNN:
    """VDCNN-9 for texts as numbers of characters: 14,172,050 parameters for 69 characters and 2 classes."""
    return vdcnn(9, classes, input_shape, symbols, width, hidden, dropout)


@MODELS.register("vdcnn17")
def vdcnn17(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    symbols: int = 69,
    width: int = 64,
    hidden: int = 2048,
    dropout: float = 0.0,
) -> VDCNN:
    """VDCNN-17 for texts as numbers of characters: 16,264,850 parameters for 69 characters and 2 classes."""
    return vdcnn(17, classes, input_shape, symbols, width, hidden, dropout)


@MODELS.register("vdcnn29")
def vdcnn29(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    symbols: int = 69,
    width: int = 64,
    hidden: int = 2048,
    dropout: float = 0.0,
) -> VDCNN:
    """VDCNN-29 for texts as numbers of characters: 16,635,794 parameters for 69 characters and 2 classes."""
    return vdcnn(29, classes, input_shape, symbols, width, hidden, dropout)
