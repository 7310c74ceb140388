"""The demo task: who wears the hat after all the swapping?

A story names a girl, a boy and an animal; one of them wears something, and then pairs of them swap.
The conclusion names a wearer. It is entailed when the swaps lead there, so a label needs every
swap followed in order. No word of the pair gives it away; counting how often the story mentions the
one in the conclusion is right three times in four, and no more.

    dora wears the crown . dora and rex swap . ben and rex swap .   =>   ben wears the crown .

Pure Python, no files. Everything is a function of its arguments.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LABELS = ("entailment", "not_entailment")
SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROLES = (("anna", "dora"), ("ben", "emil"), ("rex", "mia"))
# fmt: off
THINGS = (
    "apron", "badge", "bell", "belt", "bonnet", "boots", "bow", "brooch", "cap", "cape", "chain",
    "cloak", "coat", "collar", "crown", "fez", "glove", "hat", "hood", "mask", "muffler", "ring",
    "robe", "scarf", "shawl", "tie", "tunic", "veil", "vest", "wig",
)
# fmt: on
LINK_WORDS = (".", "and", "swap", "the", "wears")

SWAPS = {1: 0.3, 2: 0.7}
"""Share of stories with this many swaps."""

PATIENCE = 5_000
"""Known pairs drawn one after another before the grammar counts as used up."""

MAX_TOKENS = 3 + 5 * (2 + max(SWAPS))
"""Tokens of the longest pair, special ones included: every sentence has five words."""


class DemoPair(NamedTuple):
    """A labelled pair; label 0 is entailment, 1 is not_entailment."""

    sentence1: str
    sentence2: str
    label: int


class Passage(NamedTuple):
    """A story with its true conclusion, whose first word is the wearer, for pretraining."""

    story: str
    conclusion: str
    rivals: tuple[str, ...]
    """The others of the story: names that would make the conclusion false."""


class Story(NamedTuple):
    """Who is in a story, what is worn, by whom at first, and which pairs swap, in order."""

    cast: tuple[str, ...]
    thing: str
    first: str
    swaps: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """Return the story as sentences of five words."""
        swaps = [f"{one} and {other} swap ." for one, other in self.swaps]
        return " ".join([wears(self.first, self.thing), *swaps])

    def wearer(self) -> str:
        """Return who wears the thing in the end."""
        now = self.first
        for one, other in self.swaps:
            now = {one: other, other: one}.get(now, now)
        return now

    def rivals(self) -> tuple[str, ...]:
        """Return the others of the cast, in the cast's order."""
        return tuple(name for name in self.cast if name != self.wearer())


def wears(name: str, thing: str) -> str:
    """Return the sentence that says who wears what."""
    return f"{name} wears the {thing} ."


def demo_vocabulary() -> list[str]:
    """Return every word of the grammar: the special ones first, the others in order."""
    names = itertools.chain.from_iterable(ROLES)
    return [*SPECIAL_WORDS, *sorted([*LINK_WORDS, *names, *THINGS])]


def draw_story(rng: random.Random, swaps: int) -> Story:
    """Return a random story with this many swaps."""
    cast = tuple(rng.choice(names) for names in ROLES)
    pairs = tuple(tuple(rng.sample(cast, 2)) for _ in range(swaps))
    return Story(cast, rng.choice(THINGS), rng.choice(cast), pairs)  # type: ignore[arg-type]


def home_of(story: str) -> str:
    """Return the one split a story belongs to, from its text alone.

    A seventh each for validation and test; so whatever the seeds, no held-out story is ever
    trained on, nor read in pretraining.
    """
    return {0: "validation", 1: "test"}.get(zlib.crc32(story.encode()) % 7, "train")


def demo_splits(
    *, seed: int, train_rows: int, validation_rows: int, test_rows: int
) -> dict[str, list[DemoPair]]:
    """Return balanced splits of distinct pairs; labels alternate before each split is shuffled.

    Raises:
        ValueError: more rows than the grammar has distinct pairs of some number of swaps.
    """
    rows = {"train": train_rows, "validation": validation_rows, "test": test_rows}
    return {split: _draw_split(split, seed, count) for split, count in rows.items()}


def demo_corpus(*, seed: int, passages: int, swaps: Sequence[int]) -> list[Passage]:
    """Return random training stories with their true conclusions, each number of swaps alike."""
    rng = random.Random(f"corpus {seed} {tuple(swaps)}")
    stories = _stories_at_home("train", rng, swaps)
    return [_passage(story) for story in itertools.islice(stories, passages)]


def _passage(story: Story) -> Passage:
    return Passage(story.text(), wears(story.wearer(), story.thing), story.rivals())


def _stories_at_home(home: str, rng: random.Random, swaps: Sequence[int]) -> Iterator[Story]:
    while True:
        story = draw_story(rng, rng.choice(swaps))
        if home_of(story.text()) == home:
            yield story


def _draw_split(split: str, seed: int, rows: int) -> list[DemoPair]:
    rng = random.Random(f"{split} {seed}")
    pairs: list[DemoPair] = []
    for swaps, count in _shares(rows).items():
        pairs += _distinct_pairs(split, rng, swaps, count, first_label=len(pairs) % 2)
    rng.shuffle(pairs)
    return pairs


def _shares(rows: int) -> dict[int, int]:
    """Return how many rows have how many swaps; the deepest stories take what rounding leaves."""
    shares = {swaps: int(rows * share) for swaps, share in SWAPS.items()}
    shares[max(SWAPS)] += rows - sum(shares.values())
    return shares


def _distinct_pairs(
    split: str, rng: random.Random, swaps: int, count: int, *, first_label: int
) -> list[DemoPair]:
    pairs: dict[DemoPair, None] = {}
    misses = 0
    for story in _stories_at_home(split, rng, (swaps,)):
        if len(pairs) == count:
            break
        if misses == PATIENCE:
            raise ValueError(f"{split}: no {count} distinct demo pairs with {swaps} swaps")
        before = len(pairs)
        pairs.setdefault(_label(rng, story, (first_label + before) % 2))
        misses = misses + 1 if len(pairs) == before else 0
    return list(pairs)


def _label(rng: random.Random, story: Story, label: int) -> DemoPair:
    name = rng.choice(story.rivals()) if label else story.wearer()
    return DemoPair(story.text(), wears(name, story.thing), label)
