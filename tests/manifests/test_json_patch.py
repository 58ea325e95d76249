"""A patch turns what it was made from into what it was made for; jsonpatch applies it."""

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from scripts.json_patch import patch

names = st.text(alphabet="ab/~", max_size=3)
leaves = st.none() | st.booleans() | st.integers(0, 3) | st.text(alphabet="xy", max_size=2)
trees = st.recursive(leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(names, part, max_size=3))


@given(trees, trees)
def test_the_patch_makes_the_second_of_the_first(before, after):
    # 1 == True in Python, and so in patch(): kinds of the Kubernetes API never turn a number into a truth value.
    assert jsonpatch.apply_patch({"in": before}, patch({"in": before}, {"in": after})) == {"in": after}


@given(trees)
def test_equal_trees_need_no_patch(tree):
    assert patch(tree, tree) == []


def test_only_what_differs_is_said():
    before = {"spec": {"replicas": 1, "containers": [{"name": "a", "image": "x:1"}]}}
    after = {"spec": {"replicas": 1, "containers": [{"name": "a", "image": "x:2"}]}}
    assert patch(before, after) == [{"op": "replace", "path": "/spec/containers/0/image", "value": "x:2"}]
