"""Vision transformers: patches of an image as words of a sentence (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sartor.errors import ConfigError
from sartor.models.shapes import check_dropout, check_width, image_shape
from sartor.registry import MODELS


class Attention(nn.Module):
    """Self-attention of several heads: softmax(q k' * scale) v, its queries, keys and values from one Linear.

    Rows of `qkv` are ordered by part (q, k, v), head, and place in the head. Heads and their places can be cut out: set
    `num_heads` and `head_dim` to what is left. `scale`, 1 / sqrt(head_dim) at first, then stays, and so do the outputs.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b tokens width"]) -> Float[Tensor, "b tokens width"]:
        """Return what each token reads of all tokens."""
        b, tokens, _ = x.shape
        parts = self.qkv(x).reshape(b, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        read = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(read.transpose(1, 2).reshape(b, tokens, self.num_heads * self.head_dim))


class Block(nn.Module):
    """Attention and two fully connected layers, each after a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b tokens width"]) -> Float[Tensor, "b tokens width"]:
        """Return x with what both parts add to it."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches as tokens behind a class token, blocks, and a classifier of what the class token has become."""

    def __init__(
        self, channels: int, patches: int, patch: int, classes: int, depth: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, patches + 1, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Linear(width, classes)
        for weight in (self.class_token, self.positions):
            nn.init.trunc_normal_(weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "b channels height width"]) -> Float[Tensor, "b c"]:
        """Return the logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = self.norm(self.blocks(tokens + self.positions))
        return self.classifier(self.dropout(tokens[:, 0]))


@MODELS.register("vit-s")
def vit_s(
    classes: int,
    input_shape: tuple[int, ...],
    *,
    depth: int = 12,
    width: int = 384,
    heads: int = 6,
    patch: int = 4,
    dropout: float = 0.0,
) -> VisionTransformer:
    """ViT-S: 21,342,346 parameters for 32 x 32 in patches of 4 x 4, 22,050,664 for 224 x 224 of 16 x 16, 1,000 classes.

    `width` is that of a token, divided among the `heads`; `dropout` the rate of dropout before the classifier. Source:
    Dosovitskiy et al. 2021, section 3.1; size and initial weights of Touvron et al. 2021 (DeiT-S).
    Raises: ConfigError: for images that patches do not fill, heads that do not share the width evenly, no depth.
    """
    channels, height, columns = image_shape("vit-s", classes, input_shape)
    for option, value in (("depth", depth), ("number of heads", heads), ("side of the patches", patch)):
        if value < 1:
            raise ConfigError(f"the {option} of vit-s is {value}; it must be at least 1.")
    check_width("vit-s", width)
    check_dropout("vit-s", dropout)
    common = math.gcd(height, columns)
    if common % patch:
        fitting = ", ".join(str(side) for side in range(1, common + 1) if common % side == 0)
        raise ConfigError(f"patches of {patch} x {patch} do not fill {height} x {columns}; patch may be {fitting}.")
    if width % heads:
        raise ConfigError(
            f"the width of vit-s is {width}, which {heads} heads cannot share evenly; make it a multiple."
        )
    patches = (height // patch) * (columns // patch)
    return VisionTransformer(channels, patches, patch, classes, depth, width, heads, dropout)
