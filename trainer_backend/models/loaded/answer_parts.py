"""A model's answer taken apart: its reasoning, its text and its calls of tools.

Knows the forms in which model families write them. Nothing is generated here, and no template is
rendered.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

THOUGHTS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
_NAMES, _ARGUMENTS = ("name", "tool_name"), ("arguments", "parameters", "args")
# what stands around calls; each says that the JSON after it is a call
_MARKS = re.compile(
    r"</?tool_calls?>|</?function_?calls?>|\[/?TOOL_CALLS\]|<\|/?tool_calls?\|>|<\|python_tag\|>"
    r"|<\|tool_calls?_(?:start|end|begin|section_begin|section_end)\|>|<\|action_(?:start|end)\|>"
    r"|<\|plugin\|>|<\|(?:START|END)_ACTION\|>|<｜tool▁calls?▁(?:begin|end)｜>|<\|eom_id\|>"
    r"|</?minimax:tool_call>|</?｜DSML｜function_calls>|^Action:|functools(?=\[)",
    re.MULTILINE,
)
# a mark that has only begun to be written
_BEGUN = re.compile(r"(?:</?[\w|｜▁:=\"\- ]{0,40}|\[/?[A-Z_]{0,14})\Z")
_FENCE = re.compile(r"\s*```(?:json)?\s*")
_NAMED = (  # a name, then its arguments as JSON
    re.compile(r"(?:functions\.)?([\w.\-]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*"),
    re.compile(r"(?:function)?<｜tool▁sep｜>([\w.\-]+)\s*```json\s*"),
    re.compile(r"([\w.\-]+)<｜tool▁sep｜>\s*"),
    re.compile(r"([\w.\-]+)(?:\[CALL_ID\][\w\-]+)?\[ARGS\]\s*"),
    re.compile(r"\[TOOL_CALLS\]\s*([\w.\-]+)\s*(?=\{)"),
    re.compile(r"<function=([\w.\-]+)>\s*(?=\{)"),
)
_TAGGED = re.compile(
    r"<(?:function=([\w.\-]+)|invoke name=\"([^\"]+)\")>(.*?)</(?:function|invoke)>", re.DOTALL
)
_TAGGED_VALUE = re.compile(
    r"<parameter(?:=([\w.\-]+)| name=\"([^\"]+)\"[^>]*)>(.*?)</parameter>", re.DOTALL
)
_KEYED = re.compile(r"<tool_call>\s*([\w.\-]+)\s*((?:<arg_key>.*?</arg_value>\s*)*)</tool_call>", re.DOTALL)  # fmt: skip  # noqa: E501
_KEYED_VALUE = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_CHANNEL = re.compile(
    r"(?P<head>(?:<\|start\|>)?[^<]*<\|channel\|>.*?)<\|message\|>(?P<body>.*?)"
    r"(?:<\|(?:end|call|return)\|>|\Z)",
    re.DOTALL,
)
_TO = re.compile(r"to=(?:functions\.)?([\w.\-]+)")


@dataclass(frozen=True)
class Answer:
    """An answer's text without its reasoning and calls; a call is {"name", "arguments"}.

    `cut`: the model was stopped by the limit of tokens before it had ended. `tokens` are those it
    has written, `seconds` the time for those after the first; 0 where nobody has counted.
    """

    content: str
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    cut: bool = field(default=False, compare=False)
    tokens: int = field(default=0, compare=False)
    seconds: float = field(default=0.0, compare=False)

    def in_words(self) -> str:
        """The text and the calls, one call a line, as a person reads them."""
        return "\n".join(filter(None, [self.content, *map(call_in_words, self.calls)]))

    def as_message(self) -> dict[str, Any]:
        """The answer as a message of a conversation that goes on."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.calls:
            message["tool_calls"] = [
                {"id": f"call{at:05d}", "type": "function", "function": call}
                for at, call in enumerate(self.calls, 1)
            ]
        return {**message, "reasoning_content": self.reasoning} if self.reasoning else message


def read_answer(
    text: str,
    names: Sequence[str] = (),
    controls: Sequence[str] = (),
    in_thought: bool = False,
    growing: bool = False,
) -> Answer:
    """Take an answer apart; `text` has its special tokens, which are `controls`.

    `names` are those of the tools that the model was given: JSON without a mark around it is a call
    only under one of them. `in_thought`: the prompt has opened a thought.
    `growing`: more follows, so marks and calls that have only begun are left out.
    """
    if growing:
        text = _BEGUN.sub("", text)
    if "<|channel|>" in text:
        return _from_channels(text, controls)
    reasoning, rest = _split_thought(text, in_thought)
    found = list(_calls(rest, tuple(names)))
    if growing and not found:
        rest = _MARKS.split(rest, maxsplit=1)[0]
    for start, end, _ in reversed(found):
        rest = rest[:start] + rest[end:]
    content = _FENCE.sub("", _MARKS.sub("", rest)) if found else rest
    calls = [call for _, _, inside in found for call in inside]
    return Answer(_plain(content, controls), _plain(reasoning, controls), calls)


def leaves_thought_open(prompt: str) -> bool:
    """Whether the end of a prompt opens a thought, so that the answer begins inside it."""
    return any(prompt.rfind(start) > prompt.rfind(end) for start, end in THOUGHTS)


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of an assistant's message as {"name", "arguments"}."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [_call(str(one.get("name", "")), one.get("arguments")) for one in functions]


def tool_names(tools: Sequence[Any] | None) -> list[str]:
    """The names of tools, given as OpenAI's objects or as plain descriptions."""
    described = [one.get("function", one) for one in tools or () if isinstance(one, Mapping)]
    return [str(one["name"]) for one in described if isinstance(one, Mapping) and "name" in one]


def same_answer(given: Answer, expected: Answer) -> bool:
    """Whether an answer is right: the same calls, or without any the same text.

    Arguments are compared as objects; neither their order nor that of several calls counts.
    """
    if given.calls or expected.calls:
        return sorted(map(_key, given.calls)) == sorted(map(_key, expected.calls))
    return given.content == expected.content


def call_in_words(call: dict[str, Any]) -> str:
    """A call as one line: get_weather({"city": "Paris"})."""
    return f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})"


def _key(call: dict[str, Any]) -> str:
    return json.dumps(_whole(call), sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    """Values with 3.0 as 3: JSON does not tell them apart."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(text: str, controls: Sequence[str]) -> str:
    for word in controls:
        text = text.replace(word, "")
    return text.strip()


def _split_thought(text: str, in_thought: bool) -> tuple[str, str]:
    """(reasoning, the rest); a thought that is still open is all reasoning."""
    for start, end in THOUGHTS:
        if end in text:
            thought, _, rest = text.partition(end)
            return thought.replace(start, "", 1), rest
        if text.lstrip().startswith(start):
            return text.lstrip()[len(start) :], ""
    return (text, "") if in_thought else ("", text)


def _from_channels(text: str, controls: Sequence[str]) -> Answer:
    """An answer in gpt-oss's channels: analysis, commentary with calls, final."""
    said: dict[str, list[str]] = {"analysis": [], "final": []}
    calls = []
    for part in _CHANNEL.finditer(text):
        head, body = part["head"], part["body"]
        target = _TO.search(head)
        if target:
            calls.append({"name": target[1], "arguments": _value(body)})
        else:
            said["analysis" if "analysis" in head else "final"].append(_plain(body, controls))
    return Answer("\n".join(said["final"]), "\n".join(said["analysis"]), calls)


# Calls: (start, end, calls) of each place in the text that holds some

_Found = tuple[int, int, list[dict[str, Any]]]


def _calls(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """The places of a text that hold calls, in order; no two overlap."""
    for find in (_in_tags, _after_names, _in_json, _in_python, _below_names):
        found = [one for one in find(text, names) if one[2]]
        if found:
            yield from found
            return


def _in_tags(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """Qwen3-Coder's and Anthropic's tags for each argument, GLM-4.5's keys and values."""
    for match in _TAGGED.finditer(text):
        pairs = _TAGGED_VALUE.findall(match[3])
        if pairs or not match[3].strip():
            arguments = {one or other: _value(value) for one, other, value in pairs}
            yield match.start(), match.end(), [_call(match[1] or match[2], arguments)]
    for match in _KEYED.finditer(text):
        arguments = {key.strip(): _value(value) for key, value in _KEYED_VALUE.findall(match[2])}
        yield match.start(), match.end(), [_call(match[1], arguments)]


def _after_names(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """A name, a mark between, the arguments as JSON: DeepSeek, Mistral, Kimi."""
    for pattern in _NAMED:
        found = []
        for match in pattern.finditer(text):
            value, end = _json_at(text, match.end())
            if isinstance(value, dict):
                found.append((match.start(), end, [_call(match[1], value)]))
        if found:
            yield from found
            return


def _in_json(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """Objects, or a list of them, with a name and arguments: Hermes, Mistral, Llama 3.1, Cohere."""
    marked, at = _MARKS.search(text), 0
    while (start := _next_json(text, at)) >= 0:
        value, end = _json_at(text, start)
        calls = _as_calls(value)
        if calls and (marked or all(call["name"] in names for call in calls)):
            yield start, end, calls
        at = max(end, start + 1)


def _in_python(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """A list of Python calls: [get_weather(city="Paris")]."""
    for match in re.finditer(r"\[\s*[A-Za-z_][\w.]*\(", text):
        for end in _ends_of_list(text, match.start()):
            calls = _python_calls(text[match.start() : end])
            if calls and (_MARKS.search(text) or all(call["name"] in names for call in calls)):
                yield match.start(), end, calls
                return
            if calls:
                break


def _below_names(text: str, names: tuple[str, ...]) -> Iterator[_Found]:
    """The name of a known tool on a line of its own, then its arguments: GLM-4."""
    for match in re.finditer(r"^[ \t]*(?:<\|assistant\|>)?([\w.\-]+)[ \t]*\n\s*(?=\{)", text, re.M):
        value, end = _json_at(text, match.end())
        if match[1] in names and isinstance(value, dict):
            yield match.start(), end, [_call(match[1], value)]


def _call(name: str, arguments: Any) -> dict[str, Any]:
    value = _value(arguments) if isinstance(arguments, str) else arguments
    return {"name": name.strip(), "arguments": {} if value in (None, "") else value}


def _value(text: str) -> Any:
    """A value written as JSON, or else the text itself."""
    text = text.strip("\n").strip() if text.strip()[:1] in tuple('{["') else text.strip("\n")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _next_json(text: str, at: int) -> int:
    places = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
    return min(places, default=-1)


def _json_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at a place of a text and its end; (None, at) if there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def _as_calls(value: Any) -> list[dict[str, Any]]:
    """The calls in a JSON value; empty if it holds anything else."""
    items = value if isinstance(value, list) else [value]
    calls = []
    for item in items:
        inner = item.get("function", item) if isinstance(item, dict) else None
        inner = inner if isinstance(inner, dict) else item
        name = next((inner[key] for key in _NAMES if isinstance(inner, dict) and key in inner), "")
        if isinstance(item, dict) and isinstance(item.get("function"), str):
            name, inner = item["function"], item
        if not (isinstance(name, str) and name and any(key in inner for key in _ARGUMENTS)):
            return []
        calls.append(_call(name, next(inner[key] for key in _ARGUMENTS if key in inner)))
    return calls


def _ends_of_list(text: str, start: int) -> Iterator[int]:
    """Places after each “]” behind `start`, where a list may end."""
    at = text.find("]", start)
    while at >= 0:
        yield at + 1
        at = text.find("]", at + 1)


def _python_calls(text: str) -> list[dict[str, Any]]:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    calls = []
    for one in tree.elts if isinstance(tree, ast.List) else []:
        if not isinstance(one, ast.Call) or one.args:
            return []
        try:
            arguments = {word.arg: _python_value(word.value) for word in one.keywords if word.arg}
        except ValueError:
            return []
        calls.append(_call(ast.unparse(one.func), arguments))
    return calls


def _python_value(node: ast.expr) -> Any:
    """A literal; true, false and null are read as JSON writes them. Raises ValueError."""
    words = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.Name) and node.id in words:
        return words[node.id]
    return ast.literal_eval(node)
