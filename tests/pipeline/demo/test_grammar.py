"""The demo grammar: right labels, fair splits, and no short cut to the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from pipeline.demo.grammar import (
    LABELS,
    MAX_TOKENS,
    SPECIAL_WORDS,
    SWAPS,
    DemoPair,
    demo_corpus,
    demo_splits,
    demo_vocabulary,
    home_of,
)

ROWS = {"train_rows": 4000, "validation_rows": 1000, "test_rows": 300}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[DemoPair]]:
    return demo_splits(seed=3, **ROWS)


def wearers_by_model_checking(story: str, thing: str) -> set[str]:
    """Who may wear the thing in the end: keep the whole state of the world, swap by swap.

    Everyone of the story wears something; the last words of each sentence are taken as written.
    """
    sentences = [sentence.split() for sentence in story.split(".") if sentence.strip()]
    people = {word for words in sentences[1:] for word in (words[0], words[2])}
    first, *_, worn = sentences[0]
    world = {name: f"something of {name}" for name in people} | {first: worn}
    for one, _, other, verb in sentences[1:]:
        assert verb == "swap"
        world[one], world[other] = world[other], world[one]
    return {name for name, has in world.items() if has == thing}


def test_labels_agree_with_an_independent_evaluation(splits: dict[str, list[DemoPair]]) -> None:
    for pair in splits["train"] + splits["validation"]:
        name, _, _, thing, _ = pair.sentence2.split()
        wearers = wearers_by_model_checking(pair.sentence1, thing)
        assert len(wearers) == 1
        assert LABELS[pair.label] == ("entailment" if name in wearers else "not_entailment")


def test_corpus_conclusions_are_true_and_rivals_false() -> None:
    for passage in demo_corpus(seed=1, passages=300, swaps=(1, 2)):
        name, *_, thing, _ = passage.conclusion.split()
        assert wearers_by_model_checking(passage.story, thing) == {name}
        assert len({name, *passage.rivals}) == 3


def test_sizes_and_balance(splits: dict[str, list[DemoPair]]) -> None:
    assert {f"{split}_rows": len(pairs) for split, pairs in splits.items()} == ROWS
    for pairs in splits.values():
        assert Counter(pair.label for pair in pairs)[0] == len(pairs) // 2
    swaps = Counter(pair.sentence1.count("swap") for pair in splits["train"])
    assert swaps == {count: int(share * 4000) for count, share in SWAPS.items()}


def test_no_story_is_in_two_splits_and_no_pair_comes_twice(
    splits: dict[str, list[DemoPair]],
) -> None:
    for name, pairs in splits.items():
        assert len(set(pairs)) == len(pairs)
        assert {home_of(pair.sentence1) for pair in pairs} == {name}


def test_pretraining_never_reads_a_held_out_story() -> None:
    held_out = demo_splits(seed=8, train_rows=2, validation_rows=1000, test_rows=1000)
    stories = {pair.sentence1 for split in ("validation", "test") for pair in held_out[split]}
    read = {passage.story for passage in demo_corpus(seed=9, passages=8000, swaps=(1, 2))}
    assert not stories & read


def test_same_seed_same_pairs_other_seed_other_pairs(splits: dict[str, list[DemoPair]]) -> None:
    assert demo_splits(seed=3, **ROWS) == splits
    assert demo_splits(seed=4, **ROWS)["train"] != splits["train"]
    assert demo_corpus(seed=0, passages=9, swaps=(1,)) != demo_corpus(
        seed=1, passages=9, swaps=(1,)
    )


def test_vocabulary_covers_every_word_once(splits: dict[str, list[DemoPair]]) -> None:
    words = demo_vocabulary()
    assert tuple(words[:5]) == SPECIAL_WORDS
    assert len(set(words)) == len(words)
    used = {word for pairs in splits.values() for p in pairs for word in p.sentence1.split()}
    used |= {word for pair in splits["train"] for word in pair.sentence2.split()}
    assert used == set(words) - set(SPECIAL_WORDS)


def test_the_longest_pair_is_as_long_as_stated(splits: dict[str, list[DemoPair]]) -> None:
    lengths = [len(f"{p.sentence1} {p.sentence2}".split()) + 3 for p in splits["train"]]
    assert max(lengths) == MAX_TOKENS


def bag_of_words_accuracy(
    splits: dict[str, list[DemoPair]], text: Callable[[DemoPair], str]
) -> float:
    """Validation accuracy of a logistic regression on the counts of the text's words."""
    train, held_out = splits["train"], splits["validation"]
    counts = CountVectorizer(token_pattern=r"\S+")
    classifier = LogisticRegression(max_iter=200)
    classifier.fit(counts.fit_transform(map(text, train)), [pair.label for pair in train])
    return float(
        classifier.score(counts.transform(map(text, held_out)), [pair.label for pair in held_out])
    )


def test_conclusion_alone_tells_nothing(splits: dict[str, list[DemoPair]]) -> None:
    assert bag_of_words_accuracy(splits, lambda pair: pair.sentence2) < 0.56


def test_words_of_both_sentences_tell_nothing(splits: dict[str, list[DemoPair]]) -> None:
    def text(pair: DemoPair) -> str:
        return " ".join([pair.sentence1, *(f"2:{word}" for word in pair.sentence2.split())])

    assert bag_of_words_accuracy(splits, text) < 0.56


def test_counting_mentions_is_far_from_enough(splits: dict[str, list[DemoPair]]) -> None:
    """The best rule on how often the story names the one in the conclusion: three in four."""
    table = np.zeros((2 * max(SWAPS) + 2, 2))
    for pair in splits["train"]:
        table[pair.sentence1.split().count(pair.sentence2.split()[0]), pair.label] += 1
    assert table.max(axis=1).sum() / table.sum() < 0.78


def test_more_rows_than_the_grammar_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="validation: no 30000 distinct demo pairs with 1 swaps"):
        demo_splits(seed=0, train_rows=2, validation_rows=100_000, test_rows=2)
