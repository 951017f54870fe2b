"""What the name of a column says, in many languages: who speaks in it, and as question or answer.

Cells are never looked at. A name that could mean two things means nothing here.
"""

import re
from dataclasses import dataclass, replace

ASK, ANSWER, UNCLEAR = "ask", "answer", "unclear"
PLAIN, GOOD, STRONG = 1, 2, 3  # how much a name says; 0: the subject of a message
# Kinds of a pair that only make sense together: a text and its summary, and so on.
DOCUMENT, SOURCE, INPUT = "document", "source", "input"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_QUESTION = _words(
    "question questions frage fragen pregunta preguntas pergunta perguntas domanda domande vraag "
    "vragen pytanie pytania fråga frågor spørgsmål spørsmål kysymys soru sorular вопрос вопросы "
    "питання otázka întrebare kérdés pertanyaan ερώτηση prompt prompts query queries ask asks "
    "asked instruction instructions anweisung instrucción istruzione q"
)
_REQUEST = _words(
    "request requests inquiry inquiries enquiry enquiries issue problem problems complaint "
    "complaints description anfrage anfragen anliegen beschwerde beschreibung problembeschreibung "
    "consulta consultas solicitud descripción demande demandes richiesta richieste descrizione "
    "pedido solicitação descrição verzoek omschrijving zgłoszenie zapytanie opis ärende talep "
    "запрос обращение описание"
)
_ANSWER = _words(
    "answer answers reply replies response responses antwort antworten rückmeldung respuesta "
    "respuestas resposta respostas réponse réponses reponse reponses risposta risposte antwoord "
    "antwoorden odpowiedź odpowiedzi odpowiedz svar vastaus cevap yanıt ответ ответы відповідь "
    "odpověď răspuns válasz jawaban απάντηση"
)
_SOLUTION = _words(
    "resolution solution solutions lösung lösungen solución soluzione solução oplossing "
    "rozwiązanie lösning çözüm решение completion"
)
_MESSAGE = _words(
    "message messages msg msgs nachricht nachrichten mensaje mensajes mensagem mensagens "
    "messaggio messaggi bericht wiadomość meddelande mesaj сообщение utterance zpráva üzenet"
)
_BODY = _words("text body content email mail mitteilung texto testo tekst inhalt says said")
_COMMENT = _words(
    "comment comments kommentar kommentare comentario commentaire review reviews feedback post "
    "tweet"
)
_SUBJECT = _words(
    "subject betreff asunto objet assunto oggetto onderwerp temat ämne konu тема title titel"
)
_ASKS = _words(
    "customer customers client clients user users visitor requester guest human caller buyer "
    "patient shopper enduser kunde kunden kundin nutzer anwender besucher gast cliente clientes "
    "usuario usuarios visitante usuário utilisateur visiteur utente klant klanten klient klienta "
    "kund kunds müşteri клиент клиента пользователь пользователя"
)
_ANSWERS = _words(
    "agent agents agente agentes our ours support staff team admin operator operador operatore "
    "оператор оператора bot chatbot assistant assistent assistente ai gpt llm model teammate we us "
    "company helpdesk unser unsere unserer unseres wir mitarbeiter sachbearbeiter notre nos "
    "nuestra nuestro nossa nosso nostra nostro onze vår vårt наш"
)
_TO = _words("to an für for al au aux à a ao alla allo aan dla till för na")
_ASIDE = _words(
    "id ids uuid guid key no nr num number numbers nummer número numéro numero numer номер n° № # "
    "date dates datum fecha data time times zeit zeitpunkt hora heure timestamp created updated "
    "closed opened modified at on by name names vorname nachname nom nombre nome naam phone tel "
    "telefon status state type typ kind category categories kategorie catégorie categoría "
    "priority priorität tag tags group gruppe channel kanal url urls link links score scores "
    "rating ratings bewertung csat nps count anzahl language sprache lang locale assignee owner "
    "sla hrs hours minutes mins seconds duration dauer length tokens version "
    "internal private intern interne interno hash index idx"
)
_DOCUMENTS = _words("article articles document documents passage text transcript dialogue artikel "
                    "artículo dokument texte texto testo body content")  # fmt: skip
_SUMMARY = _words("summary summaries tldr zusammenfassung résumé resumen resumo riassunto "
                  "samenvatting highlights abstract")  # fmt: skip
_SOURCES = _words("original source ausgangstext quelltext originaltext sentence satz informal raw "
                  "uncorrected before")  # fmt: skip
_TARGETS = _words("translation übersetzung traducción traduction tradução traduzione vertaling "
                  "corrected correction korrektur korrigiert rewritten rewrite revised formal "
                  "paraphrase simplified")  # fmt: skip
_INPUTS = _words("input inputs eingabe entrada entrée")
_OUTPUTS = _words("output outputs expected ideal desired gold ausgabe salida sortie target")
_LABELS = _words("label labels class klasse clase classe sentiment stimmung sentimiento "
                 "sentimento intent intention absicht emotion")  # fmt: skip
_BETTER = _words("final best approved accepted correct official corrected edited sent gold golden "
                 "ideal verified reviewed chosen richtige richtig endgültig")  # fmt: skip
_WORSE = _words("draft wrong incorrect bad rejected old previous suggested suggestion auto "
                "automatic entwurf falsche falsch incorrecta distractor second alternative "
                "original generated base baseline")  # fmt: skip
_SIGNS = {
    ASK: "提问|问题|問題|提問|質問|问句|咨询|諮詢|詢問|疑问|お問い合わせ|질문|문의|คำถาม|प्रश्न|"
    "سؤال|שאלה",
    ANSWER: "回答|答案|回复|回覆|答复|解答|返答|返信|応答|答え|解决方案|解决办法|解決策|"
    "답변|대답|응답|คำตอบ|उत्तर|جواب|إجابة|תשובה",
    "aside": "编号|編號|番号|日期|日付|时间|時間|日時|类型|類型|分类|分類|状态|狀態|状態|姓名|名称|"
    "邮箱|电话|评分|評価|満足|满意|번호|날짜|시간|유형|상태|이름|평점",
}  # in scripts without spaces between words, a word is looked for anywhere in the name
_ENDS = ("frage", "antwort", "nachricht", "beschreibung", "lösung")  # of German compounds
_CUT = re.compile(r"[^\w#°№]+|_|(?<=[a-zà-ÿ])(?=[A-ZÀ-Ý])")


@dataclass(frozen=True)
class Header:
    """What a name says: a side (ASK, ANSWER, UNCLEAR or ""), how strongly, of which kind of pair.

    `choice` is 1 for the better and -1 for the worse of several answers.
    """

    side: str = ""
    strength: int = 0
    pair: str = ""
    choice: int = 0
    bare: bool = False  # it only names a person who speaks
    label: bool = False  # it names classes


def read_header(name: str) -> Header:
    """What the name of a column says."""
    words = _split(name)
    signs = {one for one, pattern in _SIGNS.items() if re.search(pattern, name)}
    if "aside" in signs or words & _ASIDE:
        return Header(label=bool(words & _LABELS))
    if signs:
        return Header(*((signs.pop(), STRONG) if len(signs) == 1 else (UNCLEAR,)))
    found = _spoken(words) or _paired(words) or Header(label=bool(words & _LABELS))
    if found.side != ANSWER:
        return found
    if name.rstrip().endswith("?"):
        return Header(UNCLEAR)  # a question of a form about an answer
    return replace(found, choice=bool(words & _BETTER) - bool(words & _WORSE))


def _split(name: str) -> set[str]:
    words = {word.casefold() for word in _CUT.split(name) if word}
    for word in list(words):
        words.update(end for end in _ENDS if word.endswith(end) and not word.startswith("be"))
        words.update({"kunden"} if word.startswith("kunden") else ())
    if "#" in name:
        words.add("#")
    return {"answer"} if words == {"a"} else words


def _spoken(words: set[str]) -> Header | None:
    """By the words for questions, answers, messages and who speaks; None without any."""
    asker, answerer = bool(words & _ASKS), bool(words & _ANSWERS)
    asked, answered = bool(words & _QUESTION), bool(words & _ANSWER)
    ask = Header(UNCLEAR) if answerer and not asker else Header(ASK, STRONG)
    if asked and answered or {"q", "a"} <= words:
        return Header(UNCLEAR)
    if answered:
        return Header(ANSWER, STRONG) if not asker or words & _TO else Header(UNCLEAR)
    if asked:
        return ask
    if words & _REQUEST:
        return ask if asker or answerer else Header(ASK, GOOD)
    if words & _SOLUTION:
        return Header(ANSWER, GOOD)
    return _message(words, asker, answerer)


def _message(words: set[str], asker: bool, answerer: bool) -> Header | None:
    said = bool(words & (_MESSAGE | _BODY))
    if asker and answerer:
        return Header(UNCLEAR) if said else None
    if asker and words & _COMMENT:
        return Header(ASK, GOOD)
    if (asker or answerer) and (said or len(words) == 1):
        return Header(ASK if asker else ANSWER, STRONG, bare=not said)
    if words & _MESSAGE and not answerer:
        return Header(ASK, GOOD)
    return None


def _paired(words: set[str]) -> Header | None:
    """By words that tell a side only beside their counterpart; None without any."""
    if words & _SUBJECT:
        return Header(ASK)
    for pair, answers in ((DOCUMENT, _SUMMARY), (SOURCE, _TARGETS), (INPUT, _OUTPUTS)):
        if words & answers:
            return Header(ANSWER, PLAIN, pair)
    for pair, asks in ((SOURCE, _SOURCES), (INPUT, _INPUTS)):
        if words & asks:
            return Header(ASK, PLAIN, pair)
    texts = words & (_DOCUMENTS | _BODY | _COMMENT) and not words & _ANSWERS
    return Header(ASK, PLAIN, DOCUMENT) if texts else None
