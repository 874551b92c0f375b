"""A prompt has one form: the same on every day, at every place and each time, or the template is refused."""

from __future__ import annotations

import datetime as clock
import locale
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from support.chat_models import CHATML, PLAIN, asked, form_in, save_chat_model, save_data
from support.packs import open_pack

from experiments.sweep import run_sweep
from tinylora.models.templates import render, written
from tinylora.records.folder import RunFolder, Status, Unmirrored
from tinylora.settings.config import ModelConfig, RunConfig, SftConfig
from tinylora.settings.errors import UsageError
from tinylora.settings.model import DAY
from tinylora.train import preflight

LLAMA_31 = (
    '{% if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}Today Date: {{ date_string }}'
)
LLAMA_32 = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}'
    '{%- endif %}{{- "Today Date: " + date_string + "\\n\\n" }}'
)
DATED = {  # the part of a template that prints a date: what it prints on the default day
    LLAMA_31: "Today Date: 26 Jul 2024",
    LLAMA_32: "Today Date: 26 Jul 2024",
    '{%- set today = strftime_now("%d %B %Y") -%}Today Date: {{ today }}': "Today Date: 26 July 2024",
    '{{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n\\n" }}': "Current date: 2024-07-26",
    "{%- set today = strftime_now('%Y-%m-%d') %}{% set said = 'The current date is ' + today + '.' %}{{ said }}": (
        "The current date is 2024-07-26."
    ),
    "Today's Date: {{ strftime_now('%B %d, %Y') }}.": "Today's Date: July 26, 2024.",
    "{{ strftime_now('%A, %d %B %Y, %H:%M:%S') }}": "Friday, 26 July 2024, 12:00:00",
    "{{ strftime_now('%c|%x|%p|%j|%s|%%s') }}": "Fri Jul 26 12:00:00 2024|07/26/24|PM|208|1721995200|%s",
    "{{ strftime_now('%Y年%m月%d日') }}": "2024年07月26日",
    "{% macro head(form) %}{{ strftime_now(form) }}{% endmacro %}{{ head('%d.%m.%y') }}": "26.07.24",
    "{% if date_string is defined %}{{ date_string }}{% endif %}": "26 Jul 2024",
    "{% if strftime_now('%u') == '5' %}a Friday{% else %}no Friday{% endif %}": "a Friday",
}
CHANGING = {
    "the filter random": "{{ ['Hello', 'Hi'] | random }}",
    "the filter random in a rare branch": "{% if messages | length > 9 %}{{ 'ab' | random }}{% endif %}",
    "the filter random by its name": "{{ [['Hello', 'Hi']] | map('random') | join }}",
    "lipsum": "{{ lipsum(n=1) }}",
    "lipsum under another name": "{% set words = lipsum %}{{ words() }}",
    "the address of a function": "{{ strftime_now }}",
    "the address of a method": "{{ messages[0].content.strip }}",
    "the address of an object": "{{ cycler('a', 'b') }}",
    "the address of an iterator": "{{ messages | map(attribute='content') }}",
}


QWEN = (
    "{% if messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n"
    "{% else %}<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.<|im_end|>\n{% endif %}"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_chat_model(tmp_path / "model")
    save_data(tmp_path / "data")
    return tmp_path


def at(day: date, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock that transformers asks for templates stands at a day."""

    class Clock(clock.datetime):
        @classmethod
        def now(cls, tz: clock.tzinfo | None = None) -> Clock:
            return cls(day.year, day.month, day.day, 3, 4, 5)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


def give_template(model: Path, text: str) -> None:
    (model / "chat_template.jinja").write_text(text)


@pytest.mark.parametrize("part", DATED)
def test_a_template_that_prints_a_date_gives_the_same_prompt_on_every_day(
    part: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sgl-project/sglang#3296, huggingface/text-generation-inference#2987: Llama's and Mistral's templates do this."""
    give_template(place / "model", part + CHATML)
    form = form_in(place / "model")
    prompts = []
    for day in (date(2024, 7, 26), date(2031, 1, 2)):
        at(day, monkeypatch)
        (ids,) = form.prompts(["1+1?"])
        prompts.append(form.tokens.decode(ids))
    assert prompts[0] == prompts[1] and prompts[0].startswith(DATED[part])
    assert form.dated and f"pinned to {DAY}" in form.notes[0]


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (None, "You are Qwen, created by Alibaba Cloud."),
        ("You are a helpful assistant.", "You are a helpful assistant."),
    ],
)
def test_qwen_boxed_is_asked_to_the_letter_with_the_system_message_that_is_given(
    system: str | None, said: str, place: Path
) -> None:
    """SimpleRL sends a system message of its own; without one, Qwen's template inserts another."""
    give_template(place / "model", QWEN)
    config = asked(place)
    pack, _ = open_pack([replace(config, task=replace(config.task, system_message=system))])
    (ids,) = pack.encode_prompts(pack.task.batch(0, 1, 1))
    (problem,) = pack.task.batch(0, 1, 1)
    assert pack.form.tokens.decode(ids) == (
        f"<|im_start|>system\n{said}<|im_end|>\n<|im_start|>user\n{problem.question}\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_takes_no_system_message_is_refused_before_anything_starts(place: Path) -> None:
    part = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    give_template(place / "model", part + CHATML)
    config = asked(place)
    preflight.check([config])
    with pytest.raises(UsageError, match="System role not supported"):
        preflight.check([replace(config, task=replace(config.task, system_message="You help."))])


def test_long_prompts_are_counted_in_the_models_tokens(place: Path) -> None:
    config = asked(place)
    pack, _ = open_pack([config])
    lengths = [len(ids) for ids in pack.encode_prompts(pack.task.batch(0, 0, 57))]
    most = min(lengths)
    limited, _ = open_pack([replace(config, task=replace(config.task, max_prompt_tokens=most))])
    assert {len(ids) for ids in limited.encode_prompts(limited.task.batch(0, 0, 57))} == {most} != set(lengths)
    assert f"more than {most} tokens" in limited.task.notes[-1]


def test_a_template_without_a_date_is_not_said_to_print_one(place: Path) -> None:
    form = form_in(place / "model")
    assert not form.dated and form.notes == ()


@pytest.mark.parametrize(
    "part", [LLAMA_32, *(pytest.param(each, marks=pytest.mark.slow) for each in DATED if each != LLAMA_32)]
)
def test_another_date_is_another_prompt_and_another_run(part: str, place: Path) -> None:
    """sgl-project/sglang#3296."""
    give_template(place / "model", part + CHATML)
    other = {"date": "2033-05-04"}
    forms = [form_in(place / "model"), form_in(place / "model", **other)]
    assert forms[0].prompts(["1+1?"]) != forms[1].prompts(["1+1?"]) and forms[0].digest != forms[1].digest
    assert asked(place).run_key != asked(place, model=other).run_key
    assert preflight.check([asked(place, model=other)]) == list(forms[1].notes)


def test_the_default_date_changes_no_key_and_plain_tasks_know_no_date() -> None:
    plain = [RunConfig(lr=0.1, model=ModelConfig(date=day)) for day in (DAY, "2033-05-04")]
    assert plain[0].run_key == plain[1].run_key and "date" not in plain[1].scientific()["model"]


@pytest.mark.parametrize(
    "day", ["2024-02-30", "2024-13-01", "26 Jul 2024", "20240726", "2024-W30-5", "today", "2024-7-26"]
)
def test_a_date_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(UsageError, match=r"model\.date is a day of the calendar") as caught:
        ModelConfig(date=day)
    assert day in caught.value.given


def test_a_date_that_no_template_prints_is_refused(place: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.date=2033-05-04\n.* prints none"):
        preflight.check([asked(place, model={"date": "2033-05-04"})])
    assert not (place / "outputs").exists()


def test_a_date_is_written_in_english_and_at_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of months follow the locale (LC_TIME), and %s the time zone: neither may reach a prompt."""
    now = ["de_DE.UTF-8"]
    seen = []

    def setlocale(category: int, name: str | None = None) -> str:
        assert category == locale.LC_TIME
        now.append(name or now[-1])
        return now[-1]

    class Clock(clock.datetime):
        def strftime(self, form: str) -> str:
            seen.append(now[-1])
            return super().strftime(form)

    monkeypatch.setattr("tinylora.models.templates.locale.setlocale", setlocale)
    monkeypatch.setattr("tinylora.models.templates.datetime", Clock)
    assert written(date(2024, 5, 1), "%d %B") == "01 May"
    assert seen == ["C"] and now[-1] == "de_DE.UTF-8"
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert written(date(2024, 7, 26), "%s %-s %Z%z|") == "1721995200 1721995200 |"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("kind", CHANGING)
def test_a_template_that_could_say_something_else_the_next_time_is_refused(kind: str, place: Path) -> None:
    give_template(place / "model", CHANGING[kind] + CHATML)
    with pytest.raises(UsageError, match=r"at random|differs each time") as caught:
        run_sweep([asked(place)], mirror=Unmirrored())
    assert caught.value.given and caught.value.remedy and not (place / "outputs").exists()


def test_chance_is_refused_while_training_too(place: Path) -> None:
    """By a template whose other names for it no check has found."""
    form = form_in(place / "model")
    form.tokens.chat_template = (
        "{% if '7' in messages[0].content %}{{ ['ab'] | map('ran' ~ 'dom') | join }}{% endif %}x"
    )
    form.prompts(["1"])
    with pytest.raises(Exception, match="draws at random"):
        form.prompts(["7"])


def test_an_address_in_the_question_is_no_fault_of_the_template(place: Path) -> None:
    form = form_in(place / "model")
    text = "What is <object at 0x7f0011223344>?"
    assert text in render(form.tokens, [text], date.fromisoformat(DAY))[0]


def test_named_templates_need_a_default_one(place: Path) -> None:
    """huggingface/transformers#36588: a tokenizer can have several templates."""
    (place / "model" / "chat_template.jinja").unlink()
    (place / "model" / "additional_chat_templates").mkdir()
    (place / "model" / "additional_chat_templates" / "tool_use.jinja").write_text(PLAIN)
    with pytest.raises(UsageError, match="multiple chat templates with no default"):
        preflight.check([asked(place)])
    give_template(place / "model", CHATML)
    assert "<|im_start|>" in form_in(place / "model").tokens.decode(form_in(place / "model").prompts(["1"])[0])


@pytest.mark.parametrize("template", ["<s>" + CHATML, "{{ bos_token }}" + CHATML])
def test_a_conversation_begins_with_one_bos_token(template: str, place: Path) -> None:
    """The template prints it, and the tokenizer does not add another one."""
    give_template(place / "model", template)
    form = form_in(place / "model")
    (ids,) = form.prompts(["1"])
    assert ids.count(form.tokens.bos_token_id) == 1 and ids[0] == form.tokens.bos_token_id


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (CHATML, False),
        (CHATML.partition("{% if add_generation_prompt")[0], True),
        (PLAIN, True),
        ("{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>"
         "{% endif %}{% endfor %}", False),
        ("{{ messages[0].content }}", False),
    ],
    ids=["opened", "ChatML without its end", "roles", "Mistral", "the text alone"],
)  # fmt: skip
def test_a_template_that_begins_no_answer_is_told(template: str, told: bool, place: Path) -> None:
    give_template(place / "model", template)
    notes = preflight.check([asked(place)])
    assert [("begins no answer" in note) for note in notes] == ([True] if told else [])


def test_a_token_that_the_model_does_not_embed_is_refused(place: Path) -> None:
    """A tokenizer that was given marks for a conversation, beside a base model that was not."""
    save_chat_model(place / "model", eos="<|endoftext|>", vocab_size=258)
    with pytest.raises(UsageError, match="the model embeds 258"):
        preflight.check([asked(place)])


def test_the_same_command_on_another_day_finds_its_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sgl-project/sglang#3296: it trained on other prompts under the same key."""
    give_template(place / "model", LLAMA_32 + CHATML)
    config = asked(place, steps=1, algorithm=SftConfig(prompts=2))
    at(date(2026, 1, 1), monkeypatch)
    assert run_sweep([config], mirror=Unmirrored())[0].status is Status.finished
    at(date(2026, 1, 2), monkeypatch)
    assert run_sweep([config], mirror=Unmirrored())[0].skipped
    described = RunFolder(config).described()
    assert described is not None and described["config"]["model"]["date"] == DAY


def test_another_form_of_the_same_files_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another version of transformers can give: such a run is not shown as done, nor continued."""
    config = asked(place, steps=1, algorithm=SftConfig(prompts=2))
    assert run_sweep([config], mirror=Unmirrored())[0].status is Status.finished
    recorded = form_in(place / "model").digest
    from tinylora.models import form

    said = form.say
    monkeypatch.setattr(form, "say", lambda *given, **more: said(*given, **more) + " ")
    form._form_of.cache_clear()
    with pytest.raises(UsageError, match=f"form_digest {recorded}, and this is (?!{recorded})"):
        run_sweep([config], mirror=Unmirrored())
    (config.folder / "summary.json").unlink()
    with pytest.raises(UsageError, match=f"form_digest {recorded}"):
        run_sweep([config], mirror=Unmirrored())
    form._form_of.cache_clear()
