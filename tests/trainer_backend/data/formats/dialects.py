"""Ways in which people write messages, and what a row of each becomes: data for tests and docs."""

import json
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """One way to write a conversation.

    `keys` are the words a person would search for, `row` is one row of a file, `messages` and
    `tools` are what it becomes. `said` are the findings it causes (their first words); a row that
    is refused has no messages, and `said` begins with the reason. `columns` maps roles to columns
    where a person has to choose them.
    """

    name: str
    keys: str
    row: dict[str, Any]
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    said: tuple[str, ...] = ()
    columns: dict[str, str] | None = None


def user(content: str = "Rate of C?", **more: Any) -> Message:
    return {"role": "user", "content": content, **more}


def bot(content: str = "It is 7.", **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def system(content: str = "Be brief.") -> Message:
    return {"role": "system", "content": content}


def tool(content: str = "7", **more: Any) -> Message:
    return {"role": "tool", "content": content, **more}


def call(arguments: dict[str, Any], name: str = "rate", **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


C, D = {"cur": "C"}, {"cur": "D"}
ASK = {"from": "human", "value": "Rate of C?"}
TELL = {"from": "gpt", "value": "It is 7."}
SCHEMA = {"type": "object", "properties": {"cur": {"type": "string"}}, "required": ["cur"]}
FUNCTION = {"name": "rate", "description": "Get a rate", "parameters": SCHEMA}
TOOLS = ({"type": "function", "function": FUNCTION},)
CALLING = (user(), bot("", tool_calls=[call(C)]), tool(), bot())
CALLING_ID = (
    user(),
    bot("", tool_calls=[call(C, id="c1")]),
    tool(tool_call_id="c1", name="rate"),
    bot(),
)


def chat(*turns: Any, column: str = "messages", **columns: Any) -> dict[str, Any]:
    return {column: list(turns), **columns}


PLAIN = (
    Dialect("OpenAI chat", "messages role content", chat(system(), user(), bot()),
            (system(), user(), bot())),
    Dialect("OpenAI o-series: a developer message", "developer",
            chat({"role": "developer", "content": "Be brief."}, user(), bot()),
            (system(), user(), bot())),
    Dialect("ShareGPT", "conversations from value human gpt",
            chat(ASK, TELL, column="conversations"),
            (user(), bot())),
    Dialect("ShareGPT with other names", "chatgpt system_prompt bing bard",
            chat({"from": "system_prompt", "value": "Be brief."}, ASK,
                 {"from": "chatgpt", "value": "It is 7."}, column="conversations"),
            (system(), user(), bot())),
    Dialect("OpenAssistant", "prompter assistant text",
            chat({"role": "prompter", "text": "Rate of C?"},
                 {"role": "assistant", "text": "It is 7."}),
            (user(), bot())),
    Dialect("Cohere, for fine-tuning", "Chatbot User System",
            chat({"role": "System", "content": "Be brief."},
                 {"role": "User", "content": "Rate of C?"},
                 {"role": "Chatbot", "content": "It is 7."}),
            (system(), user(), bot())),
    Dialect("Cohere chat history", "chat_history USER CHATBOT message",
            chat({"role": "USER", "message": "Rate of C?"},
                 {"role": "CHATBOT", "message": "It is 7."}, column="chat_history"),
            (user(), bot()), columns={"messages": "chat_history"}),
    Dialect("Role and text", "role text", chat({"role": "user", "text": "Rate of C?"},
            {"role": "assistant", "text": "It is 7."}), (user(), bot())),
    Dialect("Speaker and utterance", "speaker utterance author",
            chat({"speaker": "User", "utterance": "Rate of C?"},
                 {"speaker": "Assistant", "utterance": "It is 7."}, column="dialogue"),
            (user(), bot())),
    Dialect("LangChain", "type human ai data",
            chat({"type": "human", "data": {"content": "Rate of C?"}},
                 {"type": "ai", "data": {"content": "It is 7."}}),
            (user(), bot())),
    Dialect("Role and text as lists", "list of pairs",
            chat(["human", "Rate of C?"], ["gpt", "It is 7."]), (user(), bot())),
    Dialect("Question and answer in one turn (Firefly)", "conversation human assistant",
            {"conversation": [{"human": "Rate of C?", "assistant": "It is 7."},
                              {"human": "And D?", "assistant": "8."}]},
            (user(), bot(), user("And D?"), bot("8."))),
    Dialect("The role as a key", "user assistant", chat({"user": "Rate of C?"},
            {"assistant": "It is 7."}), (user(), bot())),
    Dialect("A table of messages", "role content columns",
            {"messages": {"role": ["user", "assistant"], "content": ["Rate of C?", "It is 7."]}},
            (user(), bot())),
    Dialect("JSON text", "json string", {"messages": json.dumps([user(), bot()])}, (user(), bot())),
    Dialect("JSON text, encoded twice", "escaped json",
            {"messages": json.dumps(json.dumps([user(), bot()]))}, (user(), bot())),
    Dialect("Python text in a CSV (pandas)", "csv repr single quotes",
            {"messages": str([user("What's C?"), bot()])}, (user("What's C?"), bot())),
    Dialect("Python text of an array (pandas, Parquet to CSV)", "numpy array dtype=object",
            {"messages": f"[{user()!r}\n {bot()!r}]"}, (user(), bot())),
)  # fmt: skip

PARTS = (
    Dialect("OpenAI parts", "content type text",
            chat(user([{"type": "text", "text": "Rate "}, {"type": "text", "text": "of C?"}]),
                 bot()),
            (user(), bot())),
    Dialect("OpenAI Responses API", "input_text output_text function_call_output call_id reasoning",
            chat({"type": "message", "role": "user",
                  "content": [{"type": "input_text", "text": "Rate of C?"}]},
                 {"type": "reasoning",
                  "summary": [{"type": "summary_text", "text": "Look it up."}]},
                 {"type": "function_call", "call_id": "c1", "name": "rate",
                  "arguments": '{"cur": "C"}'},
                 {"type": "function_call_output", "call_id": "c1", "output": "7"},
                 {"type": "message", "role": "assistant",
                  "content": [{"type": "output_text", "text": "It is 7."}]}),
            (user(), bot("", reasoning_content="Look it up.", tool_calls=[call(C, id="c1")]),
             tool(tool_call_id="c1", name="rate"), bot())),
    Dialect("OpenAI refusal", "refusal",
            chat(user(), {"role": "assistant", "content": None, "refusal": "I cannot say."}),
            (user(), bot("I cannot say."))),
    Dialect("Anthropic blocks", "tool_use tool_result tool_use_id input thinking signature",
            chat(user([{"type": "text", "text": "Rate of C?"}]),
                 bot([{"type": "thinking", "thinking": "Look it up.", "signature": "x"},
                      {"type": "text", "text": "One moment."},
                      {"type": "tool_use", "id": "c1", "name": "rate", "input": C},
                      {"type": "tool_use", "id": "c2", "name": "rate", "input": D}]),
                 user([{"type": "tool_result", "tool_use_id": "c1", "content": "7"},
                       {"type": "tool_result", "tool_use_id": "c2",
                        "content": [{"type": "text", "text": "8"}]},
                       {"type": "text", "text": "Go on."}]),
                 bot([{"type": "text", "text": "It is 7."}]),
                 system="Be brief."),
            (system(), user(),
             bot("One moment.", reasoning_content="Look it up.",
                 tool_calls=[call(C, id="c1"), call(D, id="c2")]),
             tool(tool_call_id="c1", name="rate"), tool("8", tool_call_id="c2", name="rate"),
             user("Go on."), bot())),
    Dialect("Anthropic, reasoning that is encrypted", "redacted_thinking",
            chat(user(), bot([{"type": "redacted_thinking", "data": "Em9="},
                              {"type": "text", "text": "It is 7."}])),
            (user(), bot()), said=("Reasoning that is encrypted is left out.",)),
    Dialect("Bedrock Converse, Nova", "toolUse toolResult toolUseId reasoningContent schemaVersion",
            chat(user([{"text": "Rate of C?"}]),
                 bot([{"reasoningContent": {"reasoningText": {"text": "Look it up."}}},
                      {"toolUse": {"toolUseId": "c1", "name": "rate", "input": C}}]),
                 user([{"toolResult": {"toolUseId": "c1", "content": [{"json": {"rate": 7}}]}}]),
                 bot([{"text": "It is 7."}]), system=[{"text": "Be brief."}]),
            (system(), user(),
             bot("", reasoning_content="Look it up.", tool_calls=[call(C, id="c1")]),
             tool('{"rate":7}', tool_call_id="c1", name="rate"), bot())),
    Dialect("Gemini, Vertex AI",
            "contents parts model functionCall functionResponse systemInstruction",
            chat({"role": "user", "parts": [{"text": "Rate of C?"}]},
                 {"role": "model", "parts": [{"text": "Look it up.", "thought": True},
                                             {"functionCall": {"name": "rate", "args": C}}]},
                 {"role": "user", "parts": [{"functionResponse": {"name": "rate",
                                                                 "response": {"rate": 7}}}]},
                 {"role": "model", "parts": [{"text": "It is 7."}]},
                 column="contents", systemInstruction={"parts": [{"text": "Be brief."}]}),
            (system(), user(), bot("", reasoning_content="Look it up.", tool_calls=[call(C)]),
             tool('{"rate":7}', name="rate"), bot())),
    Dialect("Mistral, thinking as a list", "thinking",
            chat(user(), bot([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                              {"type": "text", "text": "It is 7."}])),
            (user(), bot(reasoning_content="Hm."))),
    Dialect("DeepSeek, Qwen: reasoning beside the answer", "reasoning_content",
            chat(user(), bot(reasoning_content="Hm.")), (user(), bot(reasoning_content="Hm."))),
    Dialect("gpt-oss: thinking beside the answer", "thinking",
            chat(user(thinking=None), bot(thinking="Hm.")), (user(), bot(reasoning_content="Hm."))),
    Dialect("OpenRouter, vLLM: reasoning beside the answer", "reasoning reasoning_details",
            chat(user(), bot(reasoning="Hm.", reasoning_details=[
                {"type": "reasoning.text", "text": "Hm."}])),
            (user(), bot(reasoning_content="Hm."))),
    Dialect("R1: reasoning in the text", "<think>", chat(user(), bot("<think>Hm.</think>It is 7.")),
            (user(), bot("<think>Hm.</think>It is 7."))),
    Dialect("A part that is not read", "document",
            chat(user([{"type": "document", "source": {}}, {"type": "text", "text": "Sum it up."}]),
                 bot()),
            said=("A message holds something other than text (“document”).",)),
    Dialect("Sound or film", "input_audio video",
            chat(user([{"type": "input_audio", "input_audio": {"data": "x"}}]), bot()),
            said=("A message holds audio or video",)),
    Dialect("Text under a name nobody knows", "body",
            chat({"role": "user", "body": "Rate of C?"}, bot()),
            said=("A message has no text under a name that is known; it has “body”.",)),
)  # fmt: skip

CALLS = (
    Dialect("OpenAI tools", "tool_calls tool_call_id function arguments",
            chat(user(), bot(None, tool_calls=[{"id": "c1", "type": "function", "function": {
                "name": "rate", "arguments": '{"cur": "C"}'}}]),
                tool(tool_call_id="c1"), bot(), tools=list(TOOLS)),
            CALLING_ID, TOOLS),
    Dialect("OpenAI functions, the older form", "function_call functions role function",
            chat(user(), bot(None, function_call={"name": "rate", "arguments": '{"cur": "C"}'}),
                 {"role": "function", "name": "rate", "content": "7"}, bot(), functions=[FUNCTION]),
            (user(), bot("", tool_calls=[call(C)]), tool(name="rate"), bot()), TOOLS),
    Dialect("ShareGPT with calls (LLaMA-Factory, Glaive, APIGen)",
            "function_call observation tools",
            chat(ASK, {"from": "function_call",
                       "value": '{"name": "rate", "arguments": {"cur": "C"}}'},
                 {"from": "observation", "value": "7"}, TELL, column="conversations",
                 tools=json.dumps([FUNCTION])),
            CALLING, TOOLS),
    Dialect("Several calls in one function_call", "parallel calls",
            chat(ASK, {"from": "function_call", "value": json.dumps(
                     [{"name": "rate", "arguments": C}, {"name": "rate", "arguments": D}])},
                 {"from": "observation", "value": "7 and 8"}, TELL, column="conversations"),
            (user(), bot("", tool_calls=[call(C), call(D)]), tool("7 and 8"), bot())),
    Dialect("ms-swift", "tool_call tool_response",
            chat(user(), bot("One moment."),
                 {"role": "tool_call", "content": '{"name": "rate", "arguments": {"cur": "C"}}'},
                 {"role": "tool_call", "content": '{"name": "rate", "arguments": {"cur": "D"}}'},
                 {"role": "tool_response", "content": "7"},
                 {"role": "tool_response", "content": "8"}, bot()),
            (user(), bot("One moment.", tool_calls=[call(C), call(D)]), tool(), tool("8"), bot())),
    Dialect("Hermes, NousResearch", "<tool_call>",
            chat(ASK, {"from": "gpt", "value": '<tool_call>{"name": "rate"}</tool_call>'},
                 {"from": "tool", "value": "7"}, TELL, column="conversations"),
            (user(), bot('<tool_call>{"name": "rate"}</tool_call>'), tool(), bot())),
    Dialect("ToolACE: calls as text", "system conversations user assistant tool",
            {"system": "Be brief.", "conversations": [
                {"from": "user", "value": "Rate of C?"},
                {"from": "assistant", "value": '[rate(cur="C")]'}, {"from": "tool", "value": "7"},
                {"from": "assistant", "value": "It is 7."}]},
            (system(), user(), bot('[rate(cur="C")]'), tool(), bot())),
    Dialect("Cohere: calls and results", "tool_calls parameters tool_results outputs tool_plan",
            chat({"role": "USER", "message": "Rate of C?"},
                 {"role": "CHATBOT", "message": "One moment.",
                  "tool_calls": [{"name": "rate", "parameters": C}]},
                 {"role": "TOOL", "tool_results": [
                     {"call": {"name": "rate", "parameters": C}, "outputs": [{"rate": 7}]}]},
                 {"role": "CHATBOT", "message": "It is 7."}),
            (user(), bot("One moment.", tool_calls=[call(C)]), tool('[{"rate":7}]', name="rate"),
             bot())),
    Dialect("Cohere v2: a plan before the call", "tool_plan",
            chat(user(), {"role": "assistant", "tool_plan": "I will look it up.", "tool_calls": [
                    {"id": "c1", "type": "function",
                     "function": {"name": "rate", "arguments": '{"cur": "C"}'}}]},
                 tool([{"type": "document", "document": {"data": "7"}}], tool_call_id="c1"), bot()),
            (user(), bot("", reasoning_content="I will look it up.", tool_calls=[call(C, id="c1")]),
             tool(tool_call_id="c1", name="rate"), bot())),
    Dialect("Ollama: arguments as an object", "tool_calls arguments object",
            chat(user(), bot("", tool_calls=[{"function": {"name": "rate", "arguments": C}}]),
                 tool({"rate": 7}), bot()),
            (user(), bot("", tool_calls=[call(C)]), tool('{"rate":7}'), bot())),
    Dialect("LangChain calls", "args tool_calls type tool_call",
            chat({"type": "human", "content": "Rate of C?"},
                 {"type": "ai", "content": "", "tool_calls": [
                     {"name": "rate", "args": C, "id": "c1", "type": "tool_call"}]},
                 {"type": "tool", "content": "7", "tool_call_id": "c1"},
                 {"type": "ai", "content": "It is 7."}),
            CALLING_ID),
    Dialect("Calls as JSON text", "tool_calls json string",
            chat(user(), bot(None, tool_calls=json.dumps([{"name": "rate", "arguments": C}])),
                 tool(), bot()),
            CALLING),
    Dialect("Nulls of a table (Parquet, Arrow) in arguments", "null arguments parquet",
            chat(user(tool_calls=None), bot(None, tool_calls=[call({"cur": "C", "day": None})]),
                 tool(tool_calls=None), bot(tool_calls=None)),
            CALLING, said=("Nulls in the arguments of calls were taken for arguments",)),
    Dialect("Parts as JSON text", "content json string parts",
            chat(user(json.dumps([{"type": "text", "text": "Rate of C?"}])), bot()),
            (user(), bot()), said=("The text of messages is a list of parts",)),
    Dialect("An answer that is an object", "content json object",
            chat(user(), bot({"rate": 7})), (user(), bot('{"rate":7}')),
            said=("The text of messages is an object",)),
    Dialect("Ids, times and other keys about a message", "id timestamp uuid",
            chat(user(), bot(timestamp=5)), (user(), bot(timestamp=5)),
            said=("Not read in messages: “timestamp”.",)),
    Dialect("Explicit nulls in arguments", "null arguments",
            chat(user(), bot(None, tool_calls=[call({"cur": "C", "day": None})]), tool(), bot()),
            (user(), bot("", tool_calls=[call({"cur": "C", "day": None})]), tool(), bot())),
)  # fmt: skip

TOOL_FORMS = (
    Dialect("Anthropic tools", "tools input_schema",
            chat(user(), bot(), tools=[{"name": "rate", "description": "Get a rate",
                                        "input_schema": SCHEMA}]),
            (user(), bot()), TOOLS),
    Dialect("OpenAI Responses tools", "tools type function name",
            chat(user(), bot(), tools=[{"type": "function", **FUNCTION}]), (user(), bot()), TOOLS),
    Dialect("Gemini tools", "functionDeclarations",
            chat(user(), bot(), tools=[{"functionDeclarations": [FUNCTION]}]),
            (user(), bot()), TOOLS),
    Dialect("Bedrock tools", "toolConfig toolSpec inputSchema",
            chat(user(), bot(), toolConfig={"tools": [{"toolSpec": {
                "name": "rate", "description": "Get a rate", "inputSchema": {"json": SCHEMA}}}]}),
            (user(), bot()), TOOLS),
)  # fmt: skip

MARKS = (
    Dialect("AgentInstruct, ms-swift: loss", "loss true false null",
            chat({"from": "human", "loss": None, "value": "Rules."},
                 {"from": "gpt", "loss": False, "value": "OK."}, ASK, {**TELL, "loss": True},
                 column="conversations"),
            (user("Rules."), bot("OK.", train=False), user(), bot())),
    Dialect("Axolotl: train, training, train_on_turn", "train training train_on_turn",
            chat(user("Rules."), bot("OK.", train_on_turn=False), user(), bot(training=True)),
            (user("Rules."), bot("OK.", train=False), user(), bot())),
    Dialect("OpenAI, Mistral: weight", "weight loss_weight loss_scale 0 1",
            chat(user("Rules."), bot("OK.", weight=0), user(), bot(weight=1)),
            (user("Rules."), bot("OK.", train=False), user(), bot())),
    Dialect("torchtune: masked", "masked",
            chat(user("Rules."), bot("OK.", masked=True), user(), bot(masked=False)),
            (user("Rules."), bot("OK.", train=False), user(), bot())),
    Dialect("A weight between 0 and 1", "weight loss_weight fraction",
            chat(user(), bot(loss_weight=0.5)),
            said=("A message has “loss_weight” other than true, false, 0 or 1.",)),
    Dialect("A mark that could mean both", "mask loss_mask",
            chat(user(), bot(mask=1)), said=("A message has “mask”, which could mean",)),
    Dialect("A mark on a message of the user", "weight train user",
            chat(user(weight=1), bot(weight=1)), (user(), bot()),
            said=("Messages that are no answers are marked to be learned",)),
)  # fmt: skip

ASKED = (
    Dialect("A role nobody knows", "role expert wizard",
            chat({"role": "expert", "content": "Hm."}, bot()), said=("Unknown role “expert”.",)),
    Dialect("A list of texts without roles", "list of strings",
            chat("Rate of C?", "It is 7."), said=("A message is a text without a role.",),
            columns={"messages": "messages"}),
    Dialect("Two texts in one message", "content text",
            chat({"role": "user", "content": "Rate of C?", "text": "Rate of D?"}, bot()),
            said=("A message has “content” and “text”, and they differ.",)),
)  # fmt: skip

DIALECTS: tuple[Dialect, ...] = PLAIN + PARTS + CALLS + TOOL_FORMS + MARKS + ASKED
