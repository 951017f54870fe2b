"""Ways in which files spread an example over columns and rows: data for tests and docs."""

import json
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
Talk = tuple[Message, ...]


@dataclass(frozen=True)
class Shape:
    """One way to spread examples over columns.

    `keys` are the words a person would search for, `rows` the rows of a file, `talks` the messages
    (or `texts` the texts) they become, in order; rows that are left out give none. `said` are words
    of the sentence, the notes or the findings. With `asks` the file is not trained on as it is:
    `talks` is what `columns` (as --columns takes them) or `chosen` (--chosen) make of it.
    """

    name: str
    keys: str
    rows: tuple[dict[str, Any], ...]
    talks: tuple[Talk, ...] = ()
    texts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    asks: bool = False
    columns: str = ""
    chosen: bool = False


def user(content: str = "Where is Rome?", **more: Any) -> Message:
    return {"role": "user", "content": content, **more}


def bot(content: str = "In Italy.", **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def system(content: str = "Be brief.") -> Message:
    return {"role": "system", "content": content}


ASK, YES, NO = "Where is Rome?", "In Italy.", "On the moon."
HUMAN, GPT = {"from": "human", "value": ASK}, {"from": "gpt", "value": YES}
PAIRS = [["Hi", "Hello"], ["Ready?", "Yes."]]
EARLIER = (user("Hi"), bot("Hello"), user("Ready?"), bot("Yes."))
LONG = "Rome lies on the Tiber in the middle of Italy, and is its capital since 1871."
THOUGHT = "Rome is the capital of a country in the south of Europe, so the answer is Italy."
CALL = {"name": "weather", "arguments": {"city": "Rome"}}
CALLS = [{"type": "function", "function": CALL}]


def row(**columns: Any) -> tuple[dict[str, Any], ...]:
    return (columns,)


def one(*messages: Message) -> tuple[Talk, ...]:
    return (messages,)


PAIR = (
    Shape("Prompt and completion", "prompt completion response",
          row(prompt=ASK, response=YES), one(user(), bot()), said=("prompt from “prompt”",)),
    Shape("Question and answer", "question answer",
          row(question=ASK, answer=YES), one(user(), bot())),
    Shape("FLAN, T0, P3", "inputs targets",
          row(inputs=ASK, targets=YES, task="geo"), one(user(), bot()),
          said=("Not used: “task”.",)),
    Shape("OpenOrca", "system_prompt question response",
          row(id="1", system_prompt="Be brief.", question=ASK, response=YES),
          one(system(), user(), bot()), said=("System message from “system_prompt”.",)),
    Shape("Alpaca", "instruction input output",
          row(instruction="Answer.", input=ASK, output=YES),
          one(user(f"Answer.\n\n{ASK}"), bot())),
    Shape("Dolly", "instruction context response category",
          row(instruction=ASK, context=LONG, response=YES, category="qa"),
          one(user(f"{ASK}\n\n{LONG}"), bot())),
    Shape("Question about a text", "question context answer passage",
          row(context=LONG, question=ASK, answer=YES), one(user(f"{ASK}\n\n{LONG}"), bot()),
          said=("prompt from “question” followed by “context”",)),
    Shape("Question about a passage", "passage question answer",
          row(passage="In Italy.", question=ASK, answer=YES),
          one(user(f"{ASK}\n\nIn Italy."), bot()), said=("followed by “passage”",)),
    Shape("SQuAD", "context question answers text answer_start",
          row(id="1", title="Rome", context=LONG, question=ASK,
              answers={"text": ["Italy", "in Italy"], "answer_start": [35, 32]}),
          one(user(f"{ASK}\n\n{LONG}"), bot("Italy")),
          said=("answer from “answers.text”", "only the first is used")),
    Shape("LLaMA-Factory with history", "history instruction input output system",
          row(instruction=ASK, input="", output=YES, system="Be brief.", history=PAIRS),
          one(system(), *EARLIER, user(), bot()), said=("Earlier turns from “history”",)),
    Shape("History as text in a CSV", "history json text",
          row(instruction=ASK, input="", output=YES, history=json.dumps(PAIRS)),
          one(*EARLIER, user(), bot())),
    Shape("History of messages", "chat_history role content",
          row(question=ASK, answer=YES, chat_history=[user("Hi"), bot("Hello")]),
          one(user("Hi"), bot("Hello"), user(), bot())),
    Shape("History of questions and answers", "history question answer",
          row(question=ASK, answer=YES, history=[{"question": "Hi", "answer": "Hello"}]),
          one(user("Hi"), bot("Hello"), user(), bot())),
    Shape("No history in the first rows", "history empty",
          row(instruction=ASK, input="", output=YES, history=[]), one(user(), bot()),
          said=("Earlier turns from “history”",)),
    Shape("History as a transcript", "history User Assistant",
          row(question=ASK, answer=YES, history="User: Hi\nAssistant: Hello"),
          one(user("Hi"), bot("Hello"), user(), bot())),
    Shape("History that cannot be read", "history list of texts",
          row(question=ASK, answer=YES, history=["Hi", "Hello"]), one(user(), bot()), asks=True,
          said=("“history” holds text that would be left out",),
          columns="prompt=question,completion=answer"),
    Shape("Several texts to rest on (RAG)", "documents contexts question answer",
          row(question=ASK, documents=["Italy.", "Rome."], answer=YES),
          one(user(f"{ASK}\n\nItaly.\n\nRome."), bot()), said=("followed by “documents”",)),
    Shape("Input and context", "instruction input context output",
          row(instruction=ASK, input="Rome", context="Italy", output=YES), asks=True,
          said=("“input”, “context” hold text that would be left out",)),
    Shape("Lists as answers", "answers list json",
          row(question=ASK, answer=["Italy", "EU"]), one(user(), bot('["Italy","EU"]')),
          said=("its JSON is learned as text",)),
    Shape("Reasoning beside the answer (medical-o1)", "Question Complex_CoT Response reasoning",
          row(Question=ASK, Complex_CoT=THOUGHT, Response=YES),
          one(user(), bot(reasoning_content=THOUGHT)),
          said=("The answer’s reasoning from “Complex_CoT”.",)),
    Shape("A rationale beside the answer", "rationale explanation question answer",
          row(question=ASK, answer=YES, rationale=THOUGHT),
          one(user(), bot(reasoning_content=THOUGHT)), asks=True,
          said=("“rationale” holds text that would be left out",),
          columns="prompt=question,completion=answer,reasoning=rationale"),
    Shape("A text that no name explains", "unused column",
          row(question=ASK, answer=YES, lore=LONG), one(user(f"{ASK}\n\n{LONG}"), bot()),
          asks=True, said=("“lore” holds text that would be left out",),
          columns="prompt=question,completion=answer,input=lore"),
    Shape("xLAM: answers that are calls", "query tools answers",
          row(id=0, query=ASK, answers=json.dumps([CALL]),
              tools=json.dumps([{"name": "weather", "description": "d", "parameters": {}}])),
          one(user(), bot("", tool_calls=CALLS)), said=("Tools from “tools”.",)),
    Shape("Other names", "columns Spalte",
          row(eins=ASK, zwei=YES), one(user(), bot()), asks=True,
          said=("The columns could mean more than one thing",),
          columns="prompt=eins,completion=zwei"),
)  # fmt: skip

CHATS = (
    Shape("Messages and the answer beside them (Dolphin-R1)", "messages answer reasoning",
          row(messages=[system(), user()], reasoning=THOUGHT, answer=YES, model="R1"),
          one(system(), user(), bot(reasoning_content=THOUGHT)),
          said=("answer from “answer”", "reasoning from “reasoning”")),
    Shape("Capybara", "conversation input output",
          row(source="x", conversation=[{"input": ASK, "output": YES}]), one(user(), bot())),
    Shape("A transcript in one text (Glaive)", "chat USER ASSISTANT system endoftext",
          row(system="Be brief.", chat=f"USER: {ASK}\n\n\nASSISTANT: {YES} <|endoftext|>"),
          one(system(), user(), bot()), asks=True, columns="messages=chat,system=system",
          said=("“chat” is a conversation in one text",)),
    Shape("UltraChat", "prompt prompt_id messages",
          row(prompt=ASK, prompt_id="1", messages=[user(), bot()]), one(user(), bot())),
)  # fmt: skip

PREFERENCE = (
    Shape("DPO: texts", "prompt chosen rejected DPO ORPO",
          row(prompt=ASK, chosen=YES, rejected=NO), one(user(), bot()), asks=True, chosen=True,
          said=("preference data: “chosen” holds chosen answers, “rejected” rejected ones",)),
    Shape("DPO: messages (UltraFeedback)", "chosen rejected score_chosen",
          row(prompt=ASK, chosen=[user(), bot()], rejected=[user(), bot(NO)]),
          one(user(), bot()), asks=True, chosen=True, said=("preference data",)),
    Shape("DPO: the answers as messages (TRL)", "prompt chosen rejected conversational",
          row(prompt=[user()], chosen=[bot()], rejected=[bot(NO)]), one(user(), bot()),
          asks=True, chosen=True, said=("preference data",)),
    Shape("DPO: no prompt (hh-rlhf)", "chosen rejected Human Assistant",
          row(chosen=f"\n\nHuman: {ASK}\n\nAssistant: {YES}",
              rejected=f"\n\nHuman: {ASK}\n\nAssistant: {NO}"),
          one(user(), bot()), asks=True, chosen=True, said=("preference data",)),
    Shape("DPO: ShareGPT (LLaMA-Factory)", "conversations chosen rejected from value",
          row(conversations=[HUMAN], chosen=GPT, rejected={"from": "gpt", "value": NO}),
          one(user(), bot()), asks=True, chosen=True, said=("preference data",)),
    Shape("DPO: Alpaca (LLaMA-Factory)", "instruction input chosen rejected",
          row(instruction="Answer.", input=ASK, chosen=YES, rejected=NO),
          one(user(f"Answer.\n\n{ASK}"), bot()), asks=True, chosen=True,
          said=("preference data",)),
    Shape("DPO: OpenAI", "input preferred_output non_preferred_output",
          row(input={"messages": [user()]}, preferred_output=[bot()],
              non_preferred_output=[bot(NO)]),
          one(user(), bot()), asks=True, chosen=True, said=("preference data",)),
    Shape("DPO: Orca", "system question chosen rejected",
          row(system="Be brief.", question=ASK, chosen=YES, rejected=NO),
          one(system(), user(), bot()), asks=True, chosen=True, said=("preference data",)),
    Shape("KTO: pairs", "prompt completion label true false KTO",
          ({"prompt": ASK, "completion": NO, "label": False},
           {"prompt": ASK, "completion": YES, "label": True}),
          one(user(), bot()), asks=True, chosen=True,
          said=("preference data: “label” marks answers as good or bad (1 of 2 as bad)",)),
    Shape("KTO: messages", "messages label kto_tag",
          ({"messages": [user(), bot(NO)], "kto_tag": "false"},
           {"messages": [user(), bot()], "kto_tag": "true"}),
          one(user(), bot()), asks=True, chosen=True, said=("“kto_tag” marks answers",)),
    Shape("KTO: numbers", "instruction output label 0 1",
          ({"instruction": ASK, "input": "", "output": YES, "label": 1},
           {"instruction": ASK, "input": "", "output": NO, "label": 0}),
          one(user(), bot()), asks=True, chosen=True, said=("“label” marks answers",)),
    Shape("Several scored answers", "completions score UltraFeedback",
          row(instruction=ASK, completions=[{"response": YES, "score": 5},
                                            {"response": NO, "score": 1}]),
          one(user(), bot()), asks=True, chosen=True,
          said=("“completions” holds several answers with scores",)),
    Shape("Answers and their scores as lists", "responses scores",
          row(prompt=ASK, responses=[NO, YES], scores=[1, 2]), one(user(), bot()),
          asks=True, chosen=True, said=("“responses” holds several answers with scores",)),
    Shape("Two answers and a winner (arena, reward models)", "response_a response_b winner",
          row(prompt=ASK, response_a=YES, response_b=NO, winner="a"), asks=True,
          said=("“response_a” and “response_b” are rivals, “winner” says which wins",)),
    Shape("Messages and a rejected answer (ms-swift)", "messages rejected_response",
          row(messages=[user(), bot()], rejected_response=NO), one(user(), bot()),
          asks=True, chosen=True, said=("“rejected_response” holds rejected answers",)),
    Shape("One prompt, several answers with a score", "prompt response score rating",
          ({"prompt": ASK, "response": YES, "score": 5},
           {"prompt": ASK, "response": NO, "score": 1}),
          one(user(), bot()), asks=True, chosen=True,
          said=("one prompt has several answers, each with its “score”",)),
)  # fmt: skip

SINGLE = (
    Shape("OpenAssistant, flat", "message_id parent_id role text rank prompter",
          ({"message_id": "a", "parent_id": None, "role": "prompter", "text": ASK, "rank": None},
           {"message_id": "b", "parent_id": "a", "role": "assistant", "text": NO, "rank": 1},
           {"message_id": "c", "parent_id": "a", "role": "assistant", "text": YES, "rank": 0}),
          one(user(), bot()),
          said=("chained by “parent_id” into 1 conversations", "(rows 2)")),
    Shape("One message in each row", "conversation_id turn role content",
          ({"conversation_id": 1, "turn": 2, "role": "assistant", "content": YES},
           {"conversation_id": 1, "turn": 1, "role": "user", "content": ASK},
           {"conversation_id": 2, "turn": 1, "role": "user", "content": "Hi"},
           {"conversation_id": 2, "turn": 2, "role": "assistant", "content": "Hello"}),
          ((user(), bot()), (user("Hi"), bot("Hello"))),
          said=("chained by “conversation_id” into 2 conversations", "that of “turn”")),
    Shape("One message in each row, and no conversation", "role content rows",
          ({"role": "user", "content": ASK}, {"role": "assistant", "content": YES}),
          asks=True, said=("Each row is one message",)),
)  # fmt: skip

OTHER = (
    Shape("Plain text", "text", row(text=LONG), texts=(LONG,), said=("Plain text from “text”",)),
    Shape("Text written with a chat template", "<|im_start|> ChatML rendered",
          row(text=f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{YES}<|im_end|>\n"),
          texts=(f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n{YES}<|im_end|>\n",),
          said=("is written with a chat template already (ChatML",)),
    Shape("Prompts written with a chat template", "[INST] Llama 2 Mistral",
          row(prompt=f"<s>[INST] {ASK} [/INST]", response=YES),
          one(user(f"<s>[INST] {ASK} [/INST]"), bot()),
          said=("(Llama 2 or Mistral: “[INST]”), and the model’s own is put around it",)),
    Shape("axolotl segments", "segments label text",
          row(segments=[{"label": False, "text": ASK}, {"label": True, "text": YES}]),
          asks=True,
          said=("“segments” cuts each text into parts", "Write each row as two columns")),
    Shape("Tokens", "input_ids labels attention_mask",
          row(input_ids=[1, 2, 3], labels=[-100, 2, 3]), asks=True,
          said=("The rows are tokens already (“input_ids”, “labels”)", "SFTTrainer")),
    Shape("Language pairs", "translation en fr opus wmt",
          row(translation={"en": "Rome", "fr": "Rome?"}), one(user("Rome"), bot("Rome?")),
          asks=True, said=("“translation” holds one text in several languages (“en”, “fr”)",),
          columns="prompt=translation.en,completion=translation.fr"),
    Shape("Multiple choice (MMLU, MedMCQA)", "choices options answer opa opb opc opd cop",
          row(question=ASK, choices=["Italy", "Spain"], answer=0), asks=True,
          said=("pick one of several choices, “choices”",)),
    Shape("Multiple choice in columns", "opa opb opc opd cop exp",
          row(question=ASK, opa="Italy", opb="Spain", opc="Peru", opd="Chad", cop=0), asks=True,
          said=("pick one of several choices, “opa”",)),
    Shape("LLaVA without the images", "image conversations <image>",
          row(id="1", image="a.jpg", conversations=[
              {"from": "human", "value": f"<image>\n{ASK}"}, GPT]),
          one(user(f"<image>\n{ASK}"), bot()),
          said=("The images that “image” names are not in the upload.",
                "Texts contain marks of images")),
    Shape("Missing values as text", "NaN None null N/A",
          row(prompt=ASK, response="NaN"), one(user(), bot("NaN")),
          said=("only a mark for a missing value",)),
)  # fmt: skip

SHAPES: tuple[Shape, ...] = PAIR + CHATS + PREFERENCE + SINGLE + OTHER
