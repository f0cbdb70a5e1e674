"""`DataSpec`, a data set as an experiment uses it, and `Dataset`, its arrays."""

from collections.abc import Mapping
from typing import Any

import attrs

from widthlab.data.dataset import Dataset
from widthlab.data.sources import SOURCES
from widthlab.fields import choice, count, known, optional, seed_of_jax, truth
from widthlab.registry import Registry

TARGETS = ("labels", "one-hot", "centred-one-hot", "parity")
"""What `DataSpec.targets` may be."""

PREPROCESS = ("unit-norm", "standardize", "normalize", "raw01")
"""What `DataSpec.preprocess` may be."""

VARIANTS = ("plain", "antipodal", "duplicate")
"""What `DataSpec.variant` may be."""

# A mixture is drawn on demand; without a size it is as large as mnist-5k.
_MIXTURE_DEFAULT = (4000, 1000)
_DIM = count(2, most=4096)


@attrs.frozen
class DataSpec:
    """A data set as used: which images, how many, how prepared, with which targets.

    Attributes:
        name: A key of `SOURCES`. `mnist-5k` and `digits` come with installed packages,
            `gaussian-mixture` is drawn, the others are downloaded once.
        n_train: Size of the training set; None for all. Subsets are class-balanced
            and nested: a smaller one is a prefix of a larger one.
        n_test: Size of the test set, in the same way.
        targets: "labels" (int32), "one-hot", "centred-one-hot" (one-hot minus 1/k) or
            "parity" (+1 for odd classes, -1 for even ones, one column).
        preprocess: "unit-norm" subtracts the mean image of the training subset and
            scales every row to Euclidean norm 1, the inputs theory speaks of;
            "standardize" subtracts it and divides by one standard deviation, that of
            all centred training values; "normalize" subtracts one number, the mean of
            all training values, and divides by their standard deviation, as is common
            for images; "raw01" only divides by the largest pixel
            value (by 1 for the mixture).
        subset_seed: Chooses which images a subset holds (for the mixture: the noise).
            The split into training and test never depends on it.
        grayscale: For `cifar10`: luma (0.299 R + 0.587 G + 0.114 B) in place of colour.
        variant: "plain", or a negative control of the assumption that inputs are in
            general position. Of the first n_train/2 images, "antipodal" appends the
            exact negatives and "duplicate" exact copies, row i + n_train/2 being the
            partner of row i, with the label of the next class, so that no partner
            agrees. The test set stays plain.
        dim: Input dimension of `gaussian-mixture` (192 if None).

    Examples:
        >>> spec = DataSpec("mnist-5k", n_train=100)
        >>> spec.input_dim, spec.output_dim
        (784, 10)
        >>> DataSpec.from_json(spec.to_json()) == spec
        True
    """

    name: str = attrs.field(converter=known(SOURCES.known, "a name"))
    n_train: int | None = attrs.field(
        default=None, converter=optional(count(), "for all")
    )
    n_test: int | None = attrs.field(
        default=None, converter=optional(count(0), "for all")
    )
    targets: str = attrs.field(default="centred-one-hot", converter=choice(TARGETS))
    preprocess: str = attrs.field(default="unit-norm", converter=choice(PREPROCESS))
    subset_seed: int = attrs.field(default=0, converter=seed_of_jax())
    grayscale: bool = attrs.field(default=False, converter=truth())
    variant: str = attrs.field(default="plain", converter=choice(VARIANTS))
    dim: int | None = attrs.field(
        default=None, converter=optional(_DIM, "for that of the data set")
    )

    def __attrs_post_init__(self) -> None:
        """Reject what cannot be loaded before anything is read or downloaded."""
        source, mixture = SOURCES[self.name], self.name == "gaussian-mixture"
        least = 1 if self.preprocess == "raw01" else 2
        for what, smallest, most in (
            ("n_train", least, source.n_train),
            ("n_test", 0, source.n_test),
        ):
            size = getattr(self, what)
            if size is not None and not smallest <= size <= most:
                raise ValueError(
                    f"{what} is {size}; for {self.name} with preprocess "
                    f"{self.preprocess!r} it must be from {smallest} to {most}, or "
                    "None for all"
                )
        if self.dim is not None and not mixture:
            raise ValueError(
                f"dim is {self.dim}, which is for gaussian-mixture; the inputs of "
                f"{self.name} have dimension {source.dim}: leave dim out"
            )
        if self.grayscale and self.name != "cifar10":
            raise ValueError(f"grayscale is for cifar10, not {self.name}")
        if self.variant != "plain" and (self.train_size % 2 or self.train_size < 4):
            raise ValueError(
                f"variant {self.variant!r} needs an even n_train of at least 4, not "
                f"{self.train_size}"
            )

    @property
    def train_size(self) -> int:
        """Number of training rows, `n_train` or the whole split."""
        if self.n_train is not None:
            return self.n_train
        mixture = self.name == "gaussian-mixture"
        return _MIXTURE_DEFAULT[0] if mixture else SOURCES[self.name].n_train

    @property
    def test_size(self) -> int:
        """Number of test rows, `n_test` or the whole split."""
        if self.n_test is not None:
            return self.n_test
        mixture = self.name == "gaussian-mixture"
        return _MIXTURE_DEFAULT[1] if mixture else SOURCES[self.name].n_test

    @property
    def input_dim(self) -> int:
        """Length of one input row, known without reading anything."""
        dim = SOURCES[self.name].dim if self.dim is None else self.dim
        return dim // 3 if self.grayscale else dim

    @property
    def output_dim(self) -> int:
        """Number of network outputs the targets ask for."""
        return 1 if self.targets == "parity" else len(SOURCES[self.name].classes)

    @property
    def entry(self) -> tuple[Registry[Any], str]:
        """Where a plug-in would be registered: the data sets, under this name."""
        return SOURCES, self.name

    def to_json(self) -> dict[str, Any]:
        """Return all fields as a plain dictionary."""
        return attrs.asdict(self)

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, without the name.

        Examples:
            >>> DataSpec("digits", n_train=100).changed()
            {'n_train': 100}
        """
        defaults = {f.name: f.default for f in attrs.fields(type(self))}
        fields = self.to_json()
        del fields["name"]
        return {k: v for k, v in fields.items() if v != defaults[k]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "DataSpec":
        """Read what `to_json` wrote.

        Raises:
            ValueError: If a field is unknown or the name is missing.
        """
        allowed = [f.name for f in attrs.fields(cls)]
        if unknown := sorted(set(fields) - set(allowed)):
            raise ValueError(f"DataSpec: unknown fields {unknown}; allowed: {allowed}")
        if "name" not in fields:
            raise ValueError(f"DataSpec: no name given; allowed: {list(SOURCES)}")
        return cls(**fields)

    def load(self) -> "Dataset":
        """Read, check and prepare the data; cached, with read-only arrays.

        Raises:
            DataError: If a file is missing and cannot be had, truncated or changed.
        """
        from widthlab.data.pipeline import load_dataset

        return load_dataset(self)
