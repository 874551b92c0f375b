"""What ends an answer: what the chat template puts behind an assistant's message is taught, and ends samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.chat_models import CHATML, asked, form_in, save_chat_model, save_data
from support.packs import open_pack

from tinylora.models.find import MINIATURES
from tinylora.settings.config import SftConfig
from tinylora.settings.errors import UsageError
from tinylora.train.sft import sft_step

ONE_TURN = "{% if messages | length > 2 %}{{ raise_exception('one question, one answer') }}{% endif %}"


def template(end: str, between: str = "") -> str:
    """Marks of users that are plain text, and this behind a message of the assistant."""
    return (
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\nA:{% else %}{{ m.content | trim }}"
        + end
        + "{% endif %}{% endfor %}"
        + between
    )


CASES = {  # template, end token of the tokenizer, what is taught behind an answer; first those of a template with one
    "Qwen2.5 base": (CHATML, "<|endoftext|>", ("", "<|im_end|>")),
    "Qwen2.5 instruct": (CHATML, "<|im_end|>", ("", "<|im_end|>")),
    "Llama 3": (template("<|eot_id|>"), "<|endoftext|>", ("", "<|eot_id|>")),
    "Gemma": (template("<end_of_turn>\n"), "<|endoftext|>", ("", "<end_of_turn>")),
    "Phi, whose token is added but not special": (template("<|end|>\n"), "<|endoftext|>", ("", "<|end|>")),
    "Zephyr": (template("{{ eos_token }}\n"), "</s>", ("", "</s>")),
    "Llama 2, with a space": (template(" </s>"), "<|endoftext|>", (" ", "</s>")),
    "a newline first": (template("\n<|im_end|>\n"), "<|endoftext|>", ("\n", "<|im_end|>")),
    "a text first": (template("\n[end]<|im_end|>"), "<|endoftext|>", ("\n[end]", "<|im_end|>")),
    "gpt-oss, another one at the very end": (
        template("{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}"),
        "<|return|>",
        ("", "<|return|>"),
    ),
    "the end token in the last message alone": (
        template("{% if loop.last %}{{ eos_token }}{% endif %}"),
        "<|endoftext|>",
        ("", "<|endoftext|>"),
    ),
    "one turn alone": (ONE_TURN + template("<|im_end|>"), "<|endoftext|>", ("", "<|im_end|>")),
    "nothing": (template(""), "<|endoftext|>", ("", "<|endoftext|>")),
    "a newline": (template("\n\n"), "<|endoftext|>", ("", "<|endoftext|>")),
    "a text of ordinary tokens": (template("<|stop|>"), "<|endoftext|>", ("", "<|endoftext|>")),
    "nothing, and always the beginning of a turn": (
        template("", between="<|user|>"),
        "<|endoftext|>",
        ("", "<|endoftext|>"),
    ),
    "assistants refused": (
        "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('users only') }}{% endif %}{{ m.content }}"
        "<|im_end|>{% endfor %}",
        "<|endoftext|>",
        ("", "<|endoftext|>"),
    ),
    "assistants left out": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}",
        "<|endoftext|>",
        ("", "<|endoftext|>"),
    ),
    "an error in the part for assistants": (
        "{% for m in messages %}{{ m.content + (1 if m.role == 'assistant' else '') }}<|im_end|>{% endfor %}",
        "<|endoftext|>",
        ("", "<|endoftext|>"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_taught_to_end_as_the_template_ends_it(case: str, tmp_path: Path) -> None:
    """huggingface/trl#3299, huggingface/trl#2059, hiyouga/LlamaFactory#7454, huggingface/open-r1#603."""
    text, eos, (before, end) = CASES[case]
    form = form_in(save_chat_model(tmp_path / "model", text, eos))
    (ids,) = form.completions(["It is 2."])
    assert form.tokens.decode(ids) == f"It is 2.{before}{end}"
    assert ids[-1] == form.end == form.tokens.convert_tokens_to_ids(end)
    assert form.end_tokens == {form.tokens.eos_token_id, form.end}


@pytest.mark.parametrize("case", list(CASES)[:12])
def test_a_prompt_and_its_demonstration_are_what_the_template_makes_of_both(case: str, tmp_path: Path) -> None:
    """huggingface/trl#3299: up to the end token, of the templates that have one."""
    text, eos, _ = CASES[case]
    form = form_in(save_chat_model(tmp_path / "model", text, eos))
    messages = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "It is 2."}]
    whole = form.tokens.apply_chat_template(messages, tokenize=False)
    taught = form.tokens.decode([*form.prompts(["1+1?"])[0], *form.completions(["It is 2."])[0]])
    assert whole.startswith(taught)


def test_a_plain_task_ends_at_the_tokenizers_end_token(tmp_path: Path) -> None:
    form = form_in(save_chat_model(tmp_path / "model", CHATML), chat=False)
    assert form.end == form.tokens.eos_token_id and form.end_tokens == {form.end}


@pytest.mark.parametrize("given", [None, [256, 258], 259, "absent"])
def test_end_tokens_of_the_generation_config_end_completions_too(given: object, tmp_path: Path) -> None:
    """QwenLM/Qwen3#927: the tokenizer's, the generation config's and the template's can be three tokens."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder = save_chat_model(tmp_path / "model", CHATML)
    if given == "absent":
        (folder / "generation_config.json").unlink()
    else:
        GenerationConfig(eos_token_id=given).save_pretrained(folder)
    form = form_in(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)  # as transformers reads it
    configured = model.generation_config.eos_token_id
    of_model = set(configured) if isinstance(configured, list) else {configured} - {None}
    assert form.end_tokens == of_model | {form.tokens.eos_token_id, form.tokens.convert_tokens_to_ids("<|im_end|>")}


@pytest.mark.parametrize("text", ["[]", "3", '"x"', '{"eos_token_id": 1, "max_new_tokens": -1}'])
def test_a_generation_config_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path / "model", CHATML)
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(UsageError, match=r"generation_config\.json must hold settings"):
        form_in(folder)


def test_a_plain_prompt_ends_with_no_end_token(tmp_path: Path) -> None:
    """Some tokenizers put one behind every text."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    folder = save_chat_model(tmp_path / "model", CHATML)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = [("<s>", tokenizer.token_to_id("<s>")), ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))]
    tokenizer.post_processor = TemplateProcessing(single="<s> $A <|endoftext|>", special_tokens=added)
    tokenizer.save(str(folder / "tokenizer.json"))
    plain, chat = form_in(folder, chat=False), form_in(folder)
    assert plain.tokens.decode(plain.prompts(["1+1="])[0]) == "<s>1+1="
    assert plain.tokens.decode(plain.completions(["2"])[0]) == "2<|endoftext|>"
    assert chat.tokens.decode(chat.completions(["2"])[0]) == "2<|im_end|>"


@pytest.mark.parametrize("mark", ["<|im_end|>", "<|end|>"])
def test_the_end_token_is_no_part_of_an_answer(mark: str, tmp_path: Path) -> None:
    """Also where it is an added token that the tokenizer does not call special."""
    form = form_in(save_chat_model(tmp_path / "model", template(mark)))
    assert form.decode(form.completions(["It is 2."])) == ["It is 2."]
    assert form.decode([[]]) == [""]


def test_a_pack_teaches_that_token_and_stops_at_it(tmp_path: Path) -> None:
    """huggingface/trl#3299, hiyouga/LlamaFactory#7454: generation after SFT did not stop."""
    save_chat_model(tmp_path / "model", CHATML)
    save_data(tmp_path / "data")
    pack, lanes = open_pack([asked(tmp_path, algorithm=SftConfig(prompts=2))])
    end = pack.form.tokens.convert_tokens_to_ids("<|im_end|>")
    assert pack.engine.end_tokens == {pack.form.tokens.eos_token_id, end}
    assert [ids[-1] for ids in pack.encode_completions(["a", "b"])] == [end, end]
    assert torch.isfinite(torch.tensor(sft_step(pack, lanes)[0]["train/loss"]))


@pytest.mark.parametrize("name", ["miniature-qwen2", "miniature-llama"])
def test_the_miniatures_end_as_they_always_did(name: str) -> None:
    form = form_in(MINIATURES / name, chat=False)
    assert (form.end, form.end_tokens) == (2, {2}) and form.completions(["1"])[0][-1] == 2


def test_the_form_of_a_chat_template_that_is_given_is_used(tmp_path: Path) -> None:
    """A base model has no template of its own."""
    folder = save_chat_model(tmp_path / "model", None)
    (tmp_path / "chat.jinja").write_text(CHATML)
    form = form_in(folder, chat_template=str(tmp_path / "chat.jinja"))
    assert form.tokens.convert_ids_to_tokens(form.end) == "<|im_end|>"
