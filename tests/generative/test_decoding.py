"""Trie and beam search against brute force over the catalogue, and against transformers on the same weights."""

from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_lt.data.batch import SeenSets
from recsys_lt.errors import UserError
from recsys_lt.generative.decoding import decode
from recsys_lt.generative.trie import Trie

VOCABULARY = 6


@st.composite
def catalogues(draw, most: int = 12, ragged: bool = True) -> np.ndarray:
    """Distinct token sequences of 1 to 3 tokens, none of which begins another, [I, L]."""
    depth = draw(st.integers(1, 3))
    paths = draw(st.sets(st.tuples(*[st.integers(0, VOCABULARY - 1)] * depth), min_size=1, max_size=most))
    kept: list[tuple[int, ...]] = []
    for path in draw(st.permutations(sorted(paths))):
        path = path[: draw(st.integers(1, depth))] if ragged else path
        if not any(path[: len(one)] == one[: len(path)] for one in kept):
            kept.append(path)
    return np.array([list(path) + [-1] * (depth - len(path)) for path in kept], dtype=np.int32)


def sets_of(rows: list[list[int]]) -> SeenSets:
    flat = [item for row in rows for item in sorted(row)]
    offsets = np.cumsum([0, *map(len, rows)])
    return SeenSets(torch.tensor(flat, dtype=torch.int64), torch.from_numpy(offsets))


class Table:
    """A writer whose next token depends on the user and on all tokens before it; ``written`` counts its rows."""

    def __init__(self, seed: int, vocabulary: int = VOCABULARY, equal: bool = False) -> None:
        self.seed, self.vocabulary, self.equal, self.written = seed, vocabulary, equal, 0

    def logits(self, user: int, prefix: tuple[int, ...]) -> Tensor:
        if self.equal:
            return torch.zeros(self.vocabulary)
        generator = torch.Generator().manual_seed(hash((self.seed, user, *prefix)) % 2**31)
        return torch.randn(self.vocabulary, generator=generator)

    def begin(self, encoded: list[int], beams: int, depth: int) -> dict:
        self.written = 0
        return {"users": encoded, "prefixes": [[()]] * len(encoded)}

    def step(self, cache: dict, tokens: Tensor | None, parents: Tensor | None) -> Tensor:
        if tokens is not None and parents is not None:
            cache["prefixes"] = [
                [before[parent] + (token,) for token, parent in zip(*row, strict=True)]
                for before, *row in zip(cache["prefixes"], tokens.tolist(), parents.tolist(), strict=True)
            ]
        self.written += sum(map(len, cache["prefixes"]))
        rows = zip(cache["users"], cache["prefixes"], strict=True)
        return torch.stack([torch.stack([self.logits(user, one) for one in prefixes]) for user, prefixes in rows])

    def score(self, user: int, path: list[int], allowed: dict | None = None) -> float:
        total = 0.0
        for place, token in enumerate(path):
            prefix = tuple(path[:place])
            logits = self.logits(user, prefix).double()
            among = logits if allowed is None else logits[sorted(allowed[prefix])]
            total += float(logits[token] - among.logsumexp(0))
        return total


def paths_of(codes: np.ndarray) -> list[list[int]]:
    return [[token for token in row if token >= 0] for row in codes.tolist()]


@given(catalogues())
@settings(max_examples=200)
def test_the_trie_holds_every_item_once(codes):
    trie, paths = Trie.of(codes), paths_of(codes)
    prefixes = {tuple(path[:n]) for path in paths for n in range(len(path) + 1)}
    assert trie.n_nodes == len(prefixes)
    reached = {}
    for item, path in enumerate(paths):
        node = 0
        for level, token in enumerate(path):
            first, last = trie.child_ptr[node : node + 2].tolist()
            (edge,) = [edge for edge in range(first, last) if trie.child_tok[edge] == token]
            node = int(trie.child_node[edge])
            assert trie.paths[item, level] == node
            assert trie.n_leaves[node] == sum(path[: level + 1] == other[: level + 1] for other in paths)
        assert trie.leaf_item[node] == item
        reached[item] = node
        assert (trie.paths[item, len(path) :] == -1).all()
    assert int((trie.leaf_item >= 0).sum()) == len(paths)
    assert trie.n_leaves[0] == len(paths)
    for node in range(trie.n_nodes):
        tokens = trie.child_tok[trie.child_ptr[node] : trie.child_ptr[node + 1]].tolist()
        assert tokens == sorted(set(tokens))


@given(catalogues(), st.data())
@settings(max_examples=100)
def test_tokens_have_shares_among_those_that_lead_to_an_item(codes, data):
    trie, paths = Trie.of(codes), paths_of(codes)
    counts = data.draw(st.lists(st.integers(1, 9), min_size=len(paths), max_size=len(paths)))
    asked = data.draw(st.lists(st.integers(0, len(paths) - 1), min_size=1, max_size=5))
    found = trie.of_tokens(torch.tensor(asked), trie.shares(torch.tensor(counts)), VOCABULARY)
    places = [tuple(paths[item][:place]) for item in asked for place in range(len(paths[item]))]
    assert found.shape == (len(places), VOCABULARY)
    for row, prefix in zip(found, places, strict=True):
        below = [
            sum(n for path, n in zip(paths, counts, strict=True) if tuple(path[: len(prefix) + 1]) == (*prefix, token))
            for token in range(VOCABULARY)
        ]
        np.testing.assert_allclose(row, [n / sum(below) if n else -np.inf for n in below])


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((0, 3), np.int32),
        np.zeros((3, 0), np.int32),
        np.array([[0, 1], [-1, -1]], np.int32),
        np.array([[0, 1], [1, 1], [0, 1]], np.int32),
        np.array([[0, 1], [1, 1], [0, -1]], np.int32),
    ],
)
def test_a_trie_that_could_not_tell_items_apart_is_refused(codes):
    with pytest.raises(UserError, match="item ids: "):
        Trie.of(codes)


@given(catalogues(), st.integers(0, 99), st.booleans(), st.sampled_from([0.0, 1.0]), st.data())
@settings(max_examples=150, deadline=None)
def test_many_beams_rank_the_whole_catalogue(codes, seed, renormalise, penalty, data):
    paths, trie, users = paths_of(codes), Trie.of(codes), [3, 1, 4]
    seen = [data.draw(st.lists(st.integers(0, len(paths) - 1), unique=True)) for _ in users]
    masked = data.draw(st.sampled_from([sets_of(seen), None]))
    allowed: dict = {}
    for path in paths:
        for place, token in enumerate(path):
            allowed.setdefault(tuple(path[:place]), set()).add(token)
    model = Table(seed)
    found = decode(model, users, trie, 50, masked, 20, length_penalty=penalty, renormalise=renormalise)
    for row, user in enumerate(users):
        scores = {
            item: model.score(user, path, allowed if renormalise else None) / len(path) ** penalty
            for item, path in enumerate(paths)
            if masked is None or item not in seen[row]
        }
        listed = found.items[row][found.items[row] >= 0].tolist()
        assert sorted(listed) == sorted(scores)
        np.testing.assert_allclose(found.scores[row, : len(listed)], [scores[item] for item in listed], atol=1e-4)
        assert (found.scores[row, : len(listed)].diff() <= 0).all()
        assert (found.items[row, len(listed) :] == -1).all()
        assert (found.scores[row, len(listed) :] == -torch.inf).all()


def beam_by_hand(model: Table, user: int, codes: np.ndarray, beams: int, masked: set[int], k: int) -> list[int]:
    """The search as a book has it, of items of equal depth."""
    paths = [tuple(path) for path in paths_of(codes)]
    open_ = {path for item, path in enumerate(paths) if item not in masked}
    live = [((), 0.0)]
    for level in range(codes.shape[1]):
        grown = []
        for prefix, score in live:
            logits = model.logits(user, prefix)
            for token in sorted({path[level] for path in open_ if path[:level] == prefix}):
                grown.append(((*prefix, token), score + float(logits.log_softmax(0)[token])))
        live = sorted(grown, key=lambda one: -one[1])[: beams if level < codes.shape[1] - 1 else k]
    return [paths.index(path) for path, _ in live]


@given(catalogues(most=40, ragged=False), st.integers(0, 99), st.integers(1, 4), st.data())
@settings(max_examples=150, deadline=None)
def test_few_beams_keep_what_a_beam_search_keeps_and_masked_items_cost_none(codes, seed, beams, data):
    users, n_items = [5, 2], len(codes)
    seen = [data.draw(st.lists(st.integers(0, n_items - 1), unique=True)) for _ in users]
    model = Table(seed)
    found = decode(model, users, Trie.of(codes), beams, sets_of(seen), 6)
    for row, user in enumerate(users):
        expected = beam_by_hand(model, user, codes, beams, set(seen[row]), 6)
        assert found.items[row][found.items[row] >= 0].tolist() == expected


def test_a_user_who_has_seen_all_but_one_item_is_given_that():
    codes = np.array(list(product(range(4), range(4))), np.int32)
    seen = [[item for item in range(16) if item != left] for left in (3, 8)]
    found = decode(Table(0), [0, 1], Trie.of(codes), 1, sets_of([*seen]), 3)
    assert found.items.tolist() == [[3, -1, -1], [8, -1, -1]]
    found = decode(Table(0), [0, 1], Trie.of(codes), 1, sets_of([list(range(16)), seen[1]]), 1)
    assert found.items.tolist() == [[-1], [8]]


def test_equal_scores_are_in_order_of_beams_and_tokens():
    codes = np.array(list(product(range(3), range(3)))[::-1], np.int32)
    found = decode(Table(0, equal=True), [0, 1], Trie.of(codes), 2, None, 5)
    assert found.items.tolist() == [[8, 7, 6, 5, 4]] * 2
    np.testing.assert_allclose(found.scores, 2 * -np.log(VOCABULARY), rtol=1e-6)


def test_other_users_in_the_batch_change_no_list():
    codes = np.array(list(product(range(5), range(5), range(2))), np.int32)
    trie, users = Trie.of(codes), [7, 3, 9, 1]
    seen = [[1, 2, 3], [], [49], list(range(40))]
    found = decode(Table(1), users, trie, 4, sets_of(seen), 6)
    for row, user in enumerate(users):
        alone = decode(Table(1), [user], trie, 4, sets_of([seen[row]]), 6)
        assert torch.equal(alone.items[0], found.items[row])
        assert torch.equal(alone.scores[0], found.scores[row])


@given(catalogues(most=40), st.integers(0, 99), st.integers(1, 4), st.sampled_from([0.0, 1.0]), st.data())
@settings(max_examples=150, deadline=None)
def test_two_lists_of_a_user_are_those_of_two_searches(codes, seed, beams, penalty, data):
    trie, users, items = Trie.of(codes), [5, 2, 8], st.integers(0, len(codes) - 1)
    sets = [[data.draw(st.lists(items, unique=True)) for _ in users] for _ in range(2)]
    rows = [one for pair in zip(*sets, strict=True) for one in pair]
    both = decode(Table(seed), users, trie, beams, sets_of(rows), 6, lists=2, length_penalty=penalty)
    for number, own in enumerate(sets):
        alone = decode(Table(seed), users, trie, beams, sets_of(own), 6, length_penalty=penalty)
        assert torch.equal(both.items[number::2], alone.items)
        assert torch.equal(both.scores[number::2], alone.scores)


def test_finished_items_cost_no_beams():
    # Items 0 and 1 end at the first token, with the highest probabilities; one beam still finds the best of the rest.
    codes = np.array([[0, -1], [1, -1], [2, 0], [2, 1], [3, 0]], np.int32)

    class Model(Table):
        def logits(self, user: int, prefix: tuple[int, ...]) -> Tensor:
            return torch.tensor([9.0, 8.0, 7.0, 6.0, 0.0, 0.0]) if not prefix else torch.tensor([1.0, 5, 0, 0, 0, 0])

    assert decode(Model(0), [0], Trie.of(codes), 1, None, 4).items.tolist() == [[0, 1, 3, 2]]


transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")


def t5_of(n_tokens: int, **more):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=n_tokens, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes, **more)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():  # as initialised, all tokens are about equally likely
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model


@pytest.fixture(scope="module")
def items() -> np.ndarray:
    """150 items of 3 tokens, of 2..31; 0 and 1 begin and end."""
    rng = np.random.default_rng(0)
    rows = np.unique(rng.integers(0, 10, (170, 3)), axis=0)
    return (rng.permutation(rows)[:150] + np.array([2, 12, 22])).astype(np.int32)


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    """20 users' inputs of 1 to 9 tokens and what of them is there."""
    rng = np.random.default_rng(1)
    there = torch.from_numpy(np.arange(9) < rng.integers(1, 10, (20, 1)))
    return torch.from_numpy(rng.integers(2, 32, (20, 9))) * there, there


@transformers
@pytest.mark.parametrize("more", [{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}])
@torch.inference_mode()
def test_the_lists_are_those_of_transformers_constrained_beam_search(items, inputs, more):
    from recsys_lt.generative.t5_writer import Encoded, T5Writer

    model, (tokens, there) = t5_of(32, **more), inputs
    children: dict = {}
    for row in items.tolist():
        for place in range(3):
            children.setdefault(tuple(row[:place]), set()).add(row[place])
    theirs = model.generate(
        input_ids=tokens,
        attention_mask=there.long(),
        num_beams=20,
        num_return_sequences=20,
        max_new_tokens=3,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, before: sorted(children[tuple(before[1:].tolist())]),
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=0.0,
    )
    states = model.encoder(input_ids=tokens, attention_mask=there.long()).last_hidden_state
    found = decode(T5Writer(model), Encoded(states, there), Trie.of(items), 20, None, 20)
    number = {tuple(row): item for item, row in enumerate(items.tolist())}
    expected = [number[tuple(row)] for row in theirs.sequences[:, 1:].tolist()]
    assert found.items.flatten().tolist() == expected
    torch.testing.assert_close(found.scores.flatten(), theirs.sequences_scores, atol=1e-4, rtol=0)


@transformers
@torch.inference_mode()
def test_many_beams_of_t5_rank_by_the_likelihood_of_every_item(items, inputs):
    from recsys_lt.generative.t5_writer import Encoded, T5Writer

    model, (tokens, there) = t5_of(32).double(), inputs
    answers = torch.from_numpy(items).long()
    expected = []
    for row in range(len(tokens)):
        alone = tokens[row : row + 1, there[row]].expand(len(answers), -1)
        logits = model(input_ids=alone, labels=answers).logits
        expected.append(logits.log_softmax(-1).gather(2, answers.unsqueeze(2)).sum((1, 2)))
    model = model.float()
    states = model.encoder(input_ids=tokens, attention_mask=there.long()).last_hidden_state
    found = decode(T5Writer(model), Encoded(states, there), Trie.of(items), len(items), None, len(items))
    scores = torch.empty(20, len(items)).scatter_(1, found.items, found.scores)
    torch.testing.assert_close(scores, torch.stack(expected).float(), atol=1e-4, rtol=0)
