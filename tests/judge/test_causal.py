"""A causal LM as judge: the batched pass with a shared prefix says what one plain pass a pair says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from taoemb.config import JudgeServerConfig
from taoemb.errors import InputError
from taoemb.judge.backends import load_backend
from taoemb.judge.causal import CausalBackend, label_ids
from taoemb.judge.prompt import build_messages, load_rubric
from tests.judge.conftest import tiny_lm, tiny_tokenizer

RUBRIC = load_rubric("v1")
PAIRS = [
    ("sofa", {"title": "Oak sofa"}),
    ("sofa without arms", {"title": "Armless sofa", "description": "Soft. " * 40}),
    ("a", {"title": "b"}),
    ("lamp", {"title": "Lamp, red", "brand": "Acme", "price": 12.5}),
    ("溝", {"title": "ünïcode"}),
]


def plain_logprobs(path: Path, messages: list[dict], chat: bool) -> np.ndarray:
    """One unpadded pass without any cache."""
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path).eval()
    if chat:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = "\n\n".join(message["content"] for message in messages)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        logprobs = model(input_ids=ids).logits[0, -1].double().log_softmax(-1)
    return logprobs[[tokenizer.convert_tokens_to_ids(label) for label in "1234"]].numpy()


@pytest.mark.parametrize(
    ("architecture", "chat", "shares"),
    [("llama", True, True), ("qwen3", True, True), ("gpt2", False, True), ("mistral", True, False)],
)
def test_log_probabilities_are_those_of_a_plain_pass(
    tmp_path: Path, architecture: str, chat: bool, shares: bool
) -> None:
    path = tiny_lm(tmp_path / "lm", architecture, chat)
    judge = load_backend(str(path), JudgeServerConfig(tokens_per_batch=4096))
    conversations = [build_messages(RUBRIC, query, item, 128) for query, item in PAIRS]
    expected = np.array([plain_logprobs(path, messages, chat) for messages in conversations])
    assert expected.std(axis=0).min() > 0.05  # the pairs differ
    prepared = [judge.prepare(messages) for messages in conversations]
    for _ in range(2):  # the second time with the prefix already there
        np.testing.assert_allclose(judge.label_logprobs(prepared), expected, atol=2e-4)
    np.testing.assert_allclose(judge.label_logprobs(prepared[1:2]), expected[1:2], atol=2e-4)
    assert (judge.kind, judge.prompt_tokens(prepared[0])) == ("causal-lm", len(prepared[0]))
    assert isinstance(judge, CausalBackend)
    cached, _ = judge._prefix.shared(prepared)
    assert (cached > 2000) == shares


def test_a_prefix_of_another_rubric_is_not_used(lm_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "r.md"
    other.write_text("---\nversion: o\n---\n" + "Grade with care and patience. " * 10)
    judge = load_backend(str(lm_folder), JudgeServerConfig())
    for rubric in (RUBRIC, load_rubric(other), RUBRIC):
        conversations = [build_messages(rubric, query, item, 64) for query, item in PAIRS]
        expected = np.array([plain_logprobs(lm_folder, messages, True) for messages in conversations])
        found = judge.label_logprobs([judge.prepare(messages) for messages in conversations])
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_template_without_a_system_role_gets_one_message(tmp_path: Path) -> None:
    path = tiny_lm(tmp_path / "lm")
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template += "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    judge = load_backend(str(path), JudgeServerConfig())
    ids = judge.prepare([{"role": "system", "content": "Rubric."}, {"role": "user", "content": "Pair."}])
    assert tokenizer.decode(ids) == "[user]Rubric.\n\nPair."
    with pytest.raises(InputError, match="chat template refuses"):
        judge.prepare([{"role": "system", "content": "Rubric."}])


def test_a_prompt_longer_than_the_model_is_refused(lm_folder: Path) -> None:
    judge = load_backend(str(lm_folder), JudgeServerConfig(tokens_per_batch=100))
    assert judge.max_tokens == 100
    with pytest.raises(InputError, match=r"prompt has 2\d+ tokens; this judge reads 1 to 100"):
        judge.prepare([{"role": "user", "content": "x" * 200}])


def test_the_digest_names_the_weights_and_the_arithmetic(lm_folder: Path, tmp_path: Path) -> None:
    one = load_backend(str(lm_folder), JudgeServerConfig()).digest
    assert load_backend(str(lm_folder), JudgeServerConfig(precision="fp32")).digest == one
    assert load_backend(str(lm_folder), JudgeServerConfig(precision="bf16")).digest != one
    assert load_backend(str(tiny_lm(tmp_path / "b", "qwen3")), JudgeServerConfig()).digest != one


def test_a_tokenizer_without_the_labels_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    assert [len(ids) for ids in label_ids(tokenizer)] == [1, 1, 1, 1]
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "1": 1, "2": 2, "3": 3}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="no single tokens for the labels"):
        label_ids(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"))


def test_folders_that_are_no_judge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither judge\.json nor config\.json"):
        load_backend(str(tmp_path), JudgeServerConfig())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="not a causal LM"):
        load_backend(str(tmp_path), JudgeServerConfig())
    with pytest.raises(InputError, match="no such folder"):
        load_backend(str(tmp_path / "a" / "b" / "c"), JudgeServerConfig())
