"""Models of users: plain Flax, which knows nothing of widthlab."""

import itertools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from widthlab import scaling


def of_classes(model, batch):
    """The loss of a model that tells classes apart."""
    logits = model(batch[0])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def tokens():
    """Tokens, and those that come next."""
    drawn = jax.random.randint(jax.random.key(0), (4, 9), 0, 16)
    return drawn[:, :-1], drawn[:, 1:]


class Block(nnx.Module):
    """A pre-norm Transformer block with heads of a fixed size."""

    def __init__(self, width, rngs, head=16):
        self.norm1 = nnx.RMSNorm(width, rngs=rngs)
        self.norm2 = nnx.RMSNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=width // head,
            in_features=width,
            use_bias=False,
            decode=False,
            rngs=rngs,
        )
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x):
        mask = nnx.make_causal_mask(x[..., 0])
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """A decoder with learned positions, tied or not."""

    def __init__(self, width, rngs, *, tied=False, scaled=True, layers=2, vocab=16):
        self.embed = nnx.Embed(vocab, width, rngs=rngs)
        self.positions = nnx.Embed(32, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        head = nnx.Linear(width, vocab, use_bias=False, rngs=rngs)
        self.head = nnx.data(None if tied else head)
        scale = scaling.Multiplier("logits") if tied and scaled else None
        self.scale = nnx.data(scale)

    def __call__(self, tokens):
        x = self.embed(tokens) + self.positions(jnp.arange(tokens.shape[-1]))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if self.head is not None:
            return self.head(x)
        logits = self.embed.attend(x)
        return logits if self.scale is None else self.scale(logits)


def transformer(**options):
    return lambda width, rngs: Transformer(width, rngs, **options)


class Residual(nnx.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width, rngs, groups=None):
        def norm():
            if groups is None:
                return nnx.LayerNorm(width, rngs=rngs)
            return nnx.GroupNorm(width, num_groups=groups, rngs=rngs)

        self.norm1, self.norm2 = norm(), norm()
        self.conv1 = nnx.Conv(width, width, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(width, width, (3, 3), rngs=rngs)

    def __call__(self, x):
        h = self.conv1(nnx.relu(self.norm1(x)))
        return x + self.conv2(nnx.relu(self.norm2(h)))


class Convolutional(nnx.Module):
    """A residual network on images, with as many classes as digits."""

    def __init__(self, width, rngs, groups=None, blocks=1):
        self.stem = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Residual(width, rngs, groups) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean((1, 2)))


def convolutional(**options):
    return lambda width, rngs: Convolutional(width, rngs, **options)


class Perceptron(nnx.Module):
    """Linear layers and tanh; `middle` replaces the second width."""

    def __init__(self, width, rngs, *, depth=2, inputs=8, outputs=3, middle=None):
        sizes = [inputs] + [width] * depth + [outputs]
        if middle is not None:
            sizes[2] = middle
        self.layers = nnx.List(
            nnx.Linear(n, m, rngs=rngs) for n, m in itertools.pairwise(sizes)
        )

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        return self.layers[-1](x)


def perceptron(**options):
    return lambda width, rngs: Perceptron(width, rngs, **options)


class Branch(nnx.Module):
    """A norm and two layers: what a block adds to the residual stream."""

    def __init__(self, width, rngs, init=None):
        given = {} if init is None else {"kernel_init": init}
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs, **given)

    def __call__(self, x):
        return self.down(jnp.tanh(self.up(self.norm(x))))


class Deep(nnx.Module):
    """A residual network with as many branches as it is deep.

    `multiplier` is written out on each branch; `behind` puts a norm behind it, and
    `init(depth)` makes the initialiser of its last layer.
    """

    def __init__(
        self, width, depth, rngs, *, multiplier=None, behind=False, init=None, inputs=8
    ):
        last = None if init is None else init(depth)
        self.stem = nnx.Linear(inputs, width, rngs=rngs)
        self.blocks = nnx.List([Branch(width, rngs, last) for _ in range(depth)])
        norms = [nnx.RMSNorm(width, rngs=rngs) for _ in range(depth if behind else 0)]
        self.behind = nnx.List(norms) if behind else None
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 3, rngs=rngs)
        self.multiplier = multiplier

    def __call__(self, x):
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            branch = block(x)
            if self.behind is not None:
                branch = self.behind[i](branch)
            x = x + (branch if self.multiplier is None else self.multiplier * branch)
        return self.head(self.norm(x))


def deep(**options):
    return lambda width, depth, rngs: Deep(width, depth, rngs, **options)


class DeepStack(nnx.Module):
    """The same in one array a layer, applied one after another."""

    def __init__(self, width, depth, rngs, inputs=8):
        @nnx.vmap(in_axes=0, out_axes=0)
        def make(rngs):
            return Branch(width, rngs)

        self.stem = nnx.Linear(inputs, width, rngs=rngs)
        self.blocks = make(rngs.split(depth))
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, branch):
            return x + branch(x)

        return self.head(self.norm(run(self.stem(x), self.blocks)))
