from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.campaigns.fingerprints import N_KEYS, fingerprint_keys, masked_words

TEMPLATE = 'write a function {} that takes {} numbers and returns "{}" as the docstring says, see {} for more'


def fill(*slots: object) -> str:
    return TEMPLATE.format(*slots)


def test_slots_of_quotations_numbers_and_addresses_do_not_change_a_key():
    one = fingerprint_keys(['say "hello" to 3 people at https://a.example/x and come back to us'])
    other = fingerprint_keys(['say "good bye" to 77 people at https://b.example/y?z=1 and come back to us'])
    assert (one == other).all()


def test_prompts_of_one_template_share_the_opening_and_the_ending():
    keys = fingerprint_keys([fill("alpha", 3, "x", "page 4"), fill("beta gamma", 9, "other words here", "page 12")])
    assert keys[0, 1] == keys[1, 1]
    assert not set(keys[0].tolist()).isdisjoint(keys[1].tolist())


def test_different_texts_share_nothing():
    keys = fingerprint_keys(
        ["the cat sat on the mat and purred all day", "please fix the loop in my python code today now"]
    )
    assert set(keys[0].tolist()).isdisjoint(keys[1].tolist())


def test_a_short_text_has_one_key_for_the_whole():
    keys = fingerprint_keys(["hello there", "hello there friend", "hello there"])
    assert (keys[:, 1:] == 0).all()
    assert keys[0, 0] == keys[2, 0] != keys[1, 0]


def test_keys_are_the_same_on_every_machine():
    assert fingerprint_keys(["one two three four five six seven"])[0, :2].tolist() == [
        4916178381012358145,
        11591475978969946006,
    ]


def test_a_long_middle_is_left_out():
    words = masked_words("start " + "middle " * 1000 + "end")
    assert (words[0], words[-1]) == ("start", "end")
    assert len(words) < 200


def test_no_text_has_no_keys():
    assert fingerprint_keys([]).shape == (0, N_KEYS)
    assert (fingerprint_keys([" "]) == 0).all()


@given(st.lists(st.text(max_size=60), max_size=6))
def test_a_key_depends_on_its_text_alone(texts: list[str]):
    together = fingerprint_keys(texts)
    assert all((fingerprint_keys([text])[0] == row).all() for text, row in zip(texts, together, strict=True))
    assert together.dtype == np.uint64
