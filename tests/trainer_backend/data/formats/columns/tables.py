"""Tables as people export them: headers, rows, and which columns a person means. Data only.

`right` is (prompt, answer), or None where nobody could be certain from names and texts.
"""

from dataclasses import dataclass

from tests.trainer_backend.data.formats.columns.support_texts import ASKS, REPLIES

SIZE = 6


@dataclass(frozen=True)
class Table:
    """A table; `columns` maps each header to its cells."""

    name: str
    columns: dict[str, tuple[str, ...]]
    right: tuple[str, str] | None

    def rows(self) -> list[dict[str, str]]:
        """The rows, as a reader of files gives them."""
        names = list(self.columns)
        cells = zip(*self.columns.values(), strict=True)
        return [dict(zip(names, line, strict=True)) for line in cells]


def ids(pattern: str = "T-{}", start: int = 1000) -> tuple[str, ...]:
    return tuple(pattern.format(start + n) for n in range(SIZE))


def of(*values: str) -> tuple[str, ...]:
    """The values, in turn, until the column is full."""
    return tuple(values[n % len(values)] for n in range(SIZE))


DATES = ids("2024-03-{}", 10)
TIMES = ids("2024-03-{}T09:15:00Z", 10)
GERMAN_DATES = ids("{}.03.24", 10)
MAILS = ids("anna{}@example.org", 1)
LINKS = ids("https://help.example.org/a/{}")
PEOPLE = ("Anna Weber", "Ben Ito", "Cleo Marsh", "Dan Novak", "Eva Lund", "Finn Kay")
SUBJECTS = ("Password", "Lost parcel", "New address", "Charged twice", "App crash", "Discount")
STATES, PRIORITIES = of("open", "closed", "closed"), of("high", "low", "low")
NOTES = ("Called her back on Monday morning.", "Waits for the courier to answer us.",
         "Checked with the warehouse, all fine.", "Asked finance to look into this.",
         "Known bug, see the tracker for it.", "Marketing knows the terms of this.")  # fmt: skip
PLACES = ("Rome lies on the Tiber and is the capital of Italy since 1871.",
          "Oslo lies on a fjord and is the capital of Norway since 1814.",
          "Lima lies on the coast and is the capital of Peru since 1821.",
          "Bern lies on the Aare and is the seat of government since 1848.",
          "Riga lies on the Daugava and is the capital of Latvia.",
          "Doha lies on the Gulf and is the capital of Qatar since 1971.")  # fmt: skip
FEELINGS = of("positive", "negative", "negative")
EN, DE, ES, FR = ASKS["en"], ASKS["de"], ASKS["es"], ASKS["fr"]
EN_A, DE_A, ES_A, FR_A = REPLIES["en"], REPLIES["de"], REPLIES["es"], REPLIES["fr"]


def table(name: str, right: tuple[str, str] | None, **columns: tuple[str, ...]) -> Table:
    return Table(name, columns, right)


def pair(language: str, ask: str, answer: str) -> Table:
    """Two columns, in a language, with a number before them."""
    columns = {"#": ids("{}", 1), ask: ASKS[language], answer: REPLIES[language]}
    return Table(f"{language}: {ask}, {answer}", columns, (ask, answer))


HELPDESKS = (
    Table("support export, odd headers", {
        "Ticket #": ids(), "created (UTC)": DATES, "Betreff / Subject": SUBJECTS,
        "Customer msg.": EN, "assg.": of("AW", "BI"), "Our reply (final)": EN_A,
        "CSAT?": of("5", "", "4")}, ("Customer msg.", "Our reply (final)")),
    Table("Zendesk, no reply in it", {
        "Ticket ID": ids("{}"), "Subject": SUBJECTS, "Description": EN, "Status": STATES,
        "Priority": PRIORITIES, "Requester email": MAILS, "Created at": TIMES}, None),
    Table("Zendesk with the public reply", {
        "Id": ids("{}"), "Subject": SUBJECTS, "Description": EN, "Latest public reply": EN_A,
        "Assignee": PEOPLE, "Satisfaction rating": of("good", "bad"), "Solved at": TIMES},
        ("Description", "Latest public reply")),
    Table("Freshdesk", {
        "Ticket ID": ids("{}"), "Subject": SUBJECTS, "Description": EN, "Agent": PEOPLE,
        "First response time (in hrs)": of("1.2", "0.4"), "Agent response": EN_A,
        "Resolution status": of("Within SLA", "SLA violated")}, ("Description", "Agent response")),
    Table("Freshdesk, times of a response only", {
        "Ticket ID": ids("{}"), "Description": EN, "First response time": TIMES,
        "Resolution time (in hrs)": of("1.2", "0.4"), "Full name": PEOPLE}, None),
    Table("Intercom", {
        "conversation_id": ids("{}"), "user_email": MAILS, "user_message": EN,
        "admin_name": PEOPLE, "admin_reply": EN_A, "created_at": TIMES},
        ("user_message", "admin_reply")),
    Table("Help Scout", {
        "Conversation Number": ids("{}"), "Customer Name": PEOPLE, "Customer Email": MAILS,
        "Customer Message": EN, "Support Reply": EN_A, "Tags": of("vip", "")},
        ("Customer Message", "Support Reply")),
    Table("Salesforce cases", {
        "Case Number": ids("0000{}"), "Account Name": PEOPLE, "Subject": SUBJECTS,
        "Description": EN, "Resolution": EN_A, "Date/Time Closed": TIMES},
        ("Description", "Resolution")),
    Table("HubSpot", {
        "Ticket ID": ids("{}"), "Ticket name": SUBJECTS, "Ticket description": EN,
        "Resolution": EN_A, "Pipeline": of("Support"), "Create date": DATES},
        ("Ticket description", "Resolution")),
    Table("Jira", {
        "Issue key": ids("SUP-{}"), "Summary": SUBJECTS, "Description": EN,
        "Reporter": PEOPLE, "Status": STATES, "Created": TIMES}, None),
    Table("live chat", {
        "Chat ID": ids("c{}"), "Visitor": PEOPLE, "Visitor message": EN,
        "Operator": PEOPLE, "Operator message": EN_A, "Duration": of("00:03:10", "00:12:01")},
        ("Visitor message", "Operator message")),
    Table("a draft and the final reply", {
        "Customer question": EN, "Draft reply": NOTES, "Final reply": EN_A},
        ("Customer question", "Final reply")),
    Table("notes beside the reply", {
        "Customer email": MAILS, "Message": EN, "Internal note": NOTES, "Reply": EN_A},
        ("Message", "Reply")),
    Table("the mail and the answer to it", {
        "Received": DATES, "From": MAILS, "Email body": EN, "Answered by": PEOPLE,
        "Answer sent": EN_A}, ("Email body", "Answer sent")),
    Table("mails without answers", {
        "From": MAILS, "To": MAILS, "Subject": SUBJECTS, "Body": EN, "Sent": TIMES}, None),
    Table("German service desk", {
        "Vorgangsnr.": ids("V{}"), "Eingang": GERMAN_DATES, "Betreff": SUBJECTS,
        "Anfrage des Kunden": DE, "Bearbeiter": PEOPLE, "Unsere Antwort": DE_A,
        "Erledigt": of("ja", "nein")}, ("Anfrage des Kunden", "Unsere Antwort")),
    Table("German, message and solution", {
        "Kundennr.": ids("{}"), "Nachricht": DE, "Lösung": DE_A, "Status": STATES},
        ("Nachricht", "Lösung")),
    Table("French service desk", {
        "N° de ticket": ids("{}"), "Date de création": GERMAN_DATES, "Objet": SUBJECTS,
        "Message du client": FR, "Notre réponse": FR_A}, ("Message du client", "Notre réponse")),
    Table("Spanish service desk", {
        "Fecha": GERMAN_DATES, "Nombre": PEOPLE, "Consulta del cliente": ES,
        "Respuesta del agente": ES_A}, ("Consulta del cliente", "Respuesta del agente")),
)  # fmt: skip
FORMS = (
    Table("form with a question and an answer", {
        "Timestamp": TIMES, "Email address": MAILS, "What is your question?": EN,
        "Answer from the team": EN_A}, ("What is your question?", "Answer from the team")),
    Table("survey", {
        "Timestamp": TIMES, "How satisfied are you?": of("5", "4", "3"),
        "Did our answer help you?": of("Yes", "No"), "Any other comments?": NOTES}, None),
    Table("survey with a question and free comments", {
        "Timestamp": TIMES, "Your question": EN, "Did the answer help?": of("Yes", "No"),
        "Comments": NOTES}, None),
    Table("job applications", {
        "Name": PEOPLE, "Email": MAILS, "Why do you apply?": NOTES, "Start date": DATES}, None),
    Table("contacts", {
        "First Name": PEOPLE, "Email": MAILS, "Phone": ids("+49 170 {}"), "City": of("Rome"),
        "Notes": NOTES}, None),
    Table("orders", {
        "Order ID": ids("{}"), "Date": DATES, "SKU": ids("A{}"), "Amount": ids("{}.50"),
        "Currency": of("EUR"), "Shipped to": PEOPLE}, None),
    Table("ids called like a question", {
        "question": ids("Q{}"), "question_text": EN, "answer": EN_A}, ("question_text", "answer")),
    Table("users called user", {
        "user": ids("u_{}"), "customer message": EN, "response": EN_A},
        ("customer message", "response")),
    Table("what the customer answered", {
        "Our question": EN, "Customer response": NOTES, "Date": DATES}, None),
)  # fmt: skip
SHEETS = (
    pair("en", "Question", "Answer"),
    pair("de", "Frage", "Antwort"),
    pair("es", "Pregunta", "Respuesta"),
    pair("fr", "Question", "Réponse"),
    pair("it", "Domanda", "Risposta"),
    pair("pt", "Pergunta", "Resposta"),
    pair("nl", "Vraag", "Antwoord"),
    pair("pl", "Pytanie", "Odpowiedź"),
    pair("sv", "Fråga", "Svar"),
    pair("tr", "Soru", "Cevap"),
    pair("zh", "问题", "回答"),
    pair("zh", "用户提问", "客服回复"),
    pair("ja", "質問", "回答"),
    pair("ko", "질문", "답변"),
    pair("ru", "Вопрос", "Ответ"),
    pair("ru", "Вопрос клиента", "Ответ оператора"),
    pair("en", "Q", "A"),
    pair("en", "Ask", "Response text"),
    pair("de", "Kundenfrage", "Musterantwort"),
    pair("en", "FAQ question", "FAQ answer"),
    Table("FAQ with category and link", {
        "Category": of("Account", "Orders"), "FAQ": EN, "Approved answer": EN_A, "URL": LINKS,
        "Last updated": DATES}, None),
    Table("FAQ with question, category and link", {
        "Category": of("Account", "Orders"), "User question": EN, "Approved answer": EN_A,
        "URL": LINKS, "Last updated": DATES}, ("User question", "Approved answer")),
    Table("quiz", {
        "Question": EN, "Correct answer": EN_A, "Wrong answer 1": NOTES, "Wrong answer 2": DE,
        "Points": of("1", "2")}, ("Question", "Correct answer")),
    Table("two languages side by side", {
        "Question (EN)": EN, "Question (DE)": DE, "Answer (EN)": EN_A, "Answer (DE)": DE_A}, None),
    Table("an instruction sheet", {
        "Task": ids("{}"), "User prompt": EN, "Ideal response": EN_A, "Reviewer": PEOPLE},
        ("User prompt", "Ideal response")),
    Table("evaluation sheet", {
        "Test id": ids("t{}"), "Input text": EN, "Expected output": EN_A,
        "Pass?": of("yes", "no")}, ("Input text", "Expected output")),
    Table("original and corrected", {
        "Original sentence": NOTES, "Corrected sentence": EN_A},
        ("Original sentence", "Corrected sentence")),
    Table("text and its summary", {
        "Article text": PLACES, "Summary": SUBJECTS, "Published": DATES},
        ("Article text", "Summary")),
)  # fmt: skip
TRANSLATIONS = (
    Table("languages as headers", {"English": EN, "German": DE}, None),
    Table("codes as headers", {"en": EN, "de": DE, "id": ids("{}")}, None),
    Table("a source text and its translation", {
        "Segment": ids("{}"), "Source text": EN, "Translation": DE},
        ("Source text", "Translation")),
    Table("Quelltext und Übersetzung", {
        "Nr.": ids("{}"), "Ausgangstext": DE, "Übersetzung": EN}, ("Ausgangstext", "Übersetzung")),
)  # fmt: skip
CLASSES = (
    Table("reviews with their sentiment", {
        "Review ID": ids("{}"), "Review": NOTES, "Sentiment": FEELINGS}, ("Review", "Sentiment")),
    Table("text and label", {"text": EN, "label": of("billing", "app")}, ("text", "label")),
    Table("messages with their intent", {
        "Date": DATES, "Message": EN, "Intent": of("refund", "login")}, ("Message", "Intent")),
    Table("tickets with several classes", {
        "Description": EN, "Category": of("billing", "app"), "Priority": PRIORITIES,
        "Queue": of("first", "second")}, None),
    Table("numbers only", {"x": ids("{}", 1), "y": ids("{}", 2), "z": ids("{}.5")}, None),
    Table("columns without telling names", {"Column1": EN, "Column2": EN_A}, None),
    Table("products", {
        "SKU": ids("A{}"), "Title": SUBJECTS, "Description": NOTES, "Price": ids("{}.99")}, None),
    Table("news", {
        "Headline": SUBJECTS, "Body": PLACES, "Author": PEOPLE, "Published": DATES}, None),
)  # fmt: skip
MORE = (
    Table(
        "post",
        {
            "Post Title": SUBJECTS,
            "Post Body": EN,
            "Accepted Answer": EN_A,
            "Answer count": of("1", "2"),
        },
        ("Post Body", "Accepted Answer"),
    ),
    Table(
        "reviews2",
        {"Review text": EN, "Rating": of("5", "1"), "Reply": EN_A, "Reply date": DATES},
        ("Review text", "Reply"),
    ),
    Table(
        "feedback",
        {"User Query": EN, "Bot Response": EN_A, "User Feedback": NOTES},
        ("User Query", "Bot Response"),
    ),
    Table("hc3", {"Question": EN, "Human answer": NOTES, "ChatGPT answer": EN_A}, None),
    Table("model vs human", {"Query": EN, "Model reply": EN_A, "Human response": NOTES}, None),
    Table("first last", {"Message": EN, "First reply": EN_A, "Last reply": NOTES}, None),
    Table(
        "nl",
        {"Vraag van klant": ASKS["nl"], "Antwoord aan klant": REPLIES["nl"], "Datum": DATES},
        ("Vraag van klant", "Antwoord aan klant"),
    ),
    Table("kundenantwort", {"Unsere Frage": DE, "Kundenantwort": DE_A}, None),
    Table(
        "zh2",
        {"问题编号": ids(), "问题描述": ASKS["zh"], "解决方案": REPLIES["zh"], "处理时间": DATES},
        ("问题描述", "解决方案"),
    ),
    Table("expected", {"Question": EN, "Expected": EN_A, "Notes": NOTES}, ("Question", "Expected")),
    Table(
        "source", {"Source": of("Wikipedia", "News"), "Target": DE, "Text": EN}, ("Text", "Target")
    ),
    Table(
        "typed",
        {
            "Ticket": ids(),
            "Betreff": SUBJECTS,
            "Frage": DE,
            "Antwort am": GERMAN_DATES,
            "Antwort von": PEOPLE,
            "Antwort": DE_A,
        },
        ("Frage", "Antwort"),
    ),
    Table(
        "api log",
        {
            "Request id": ids("r{}"),
            "Request": ids("GET /a/{}"),
            "Response code": of("200", "404"),
            "Response time": ids("{}"),
        },
        None,
    ),
    Table("prices", {"Ask": ids("{}.5"), "Bid": ids("{}.4"), "Response": of("ok")}, None),
    Table(
        "meeting",
        {"Meeting": SUBJECTS, "Transcript": PLACES, "Summary": NOTES},
        ("Transcript", "Summary"),
    ),
    Table("whatsapp", {"Date": DATES, "Sender": PEOPLE, "Message": EN}, None),
    Table(
        "survey monkey",
        {
            "Respondent ID": ids("{}"),
            "Collector": of("web"),
            "Open-Ended Response": NOTES,
            "Response": of("Agree", "Disagree"),
        },
        None,
    ),
    Table("interview", {"Interviewer": EN, "Candidate": EN_A}, None),
    Table(
        "hr",
        {"Employee question": EN, "HR answer": EN_A, "Department": of("IT", "HR")},
        ("Employee question", "HR answer"),
    ),
    Table(
        "medical", {"Patient complaint": EN, "Doctor's advice": EN_A, "Age": of("34", "50")}, None
    ),
    Table(
        "medical2",
        {"Patient question": EN, "Doctor answer": EN_A},
        ("Patient question", "Doctor answer"),
    ),
    Table("legal", {"Clause": NOTES, "Explanation": EN_A, "Page": of("1", "2")}, None),
    Table(
        "code",
        {"Task description": EN, "Solution code": EN_A, "Language": of("py", "js")},
        ("Task description", "Solution code"),
    ),
    Table(
        "outlook",
        {
            "Subject": SUBJECTS,
            "Body": EN,
            "From: (Name)": PEOPLE,
            "From: (Address)": MAILS,
            "To: (Name)": PEOPLE,
            "Reply": EN_A,
        },
        ("Body", "Reply"),
    ),
    Table(
        "order msg",
        {"Order no.": ids("{}"), "Buyer message": EN, "Seller reply": EN_A},
        ("Buyer message", "Seller reply"),
    ),
    Table(
        "camel",
        {"customerMessage": EN, "agentReply": EN_A, "createdAt": TIMES, "ticketId": ids()},
        ("customerMessage", "agentReply"),
    ),
    Table(
        "UPPER",
        {"CUSTOMER_MESSAGE": EN, "AGENT_REPLY": EN_A, "CREATED_AT": TIMES},
        ("CUSTOMER_MESSAGE", "AGENT_REPLY"),
    ),
    Table("empty replies", {"Customer message": EN, "Agent reply": of("")}, None),
    Table(
        "mostly ids",
        {"Question": ids("Q-{}"), "Reply": EN_A, "Customer says": EN},
        ("Customer says", "Reply"),
    ),
    Table(
        "canned",
        {"Shortcut": of("/hi", "/bye", "/ok"), "Canned response": EN_A, "Folder": of("a", "b")},
        None,
    ),
    Table("macro", {"Macro title": SUBJECTS, "Macro comment": EN_A}, None),
    Table("kb", {"Article title": SUBJECTS, "Article body": PLACES, "Section": of("A", "B")}, None),
    Table("intents", {"utterance": EN, "intent": of("a b", "c d"), "entities": NOTES}, None),
    Table("intents2", {"utterance": EN, "intent": of("a b", "c d")}, ("utterance", "intent")),
    Table("cz", {"Otázka": ASKS["pl"], "Odpověď": REPLIES["pl"]}, ("Otázka", "Odpověď")),
    Table(
        "it",
        {
            "Domanda del cliente": ASKS["it"],
            "Risposta dell'operatore": REPLIES["it"],
            "Data": DATES,
        },
        ("Domanda del cliente", "Risposta dell'operatore"),
    ),
    Table(
        "pt",
        {
            "Mensagem do cliente": ASKS["pt"],
            "Resposta do atendente": REPLIES["pt"],
            "Nota": of("5", "3"),
        },
        ("Mensagem do cliente", "Resposta do atendente"),
    ),
    Table(
        "fr2",
        {"Demande": FR, "Réponse apportée": FR_A, "Statut": of("clos", "ouvert")},
        ("Demande", "Réponse apportée"),
    ),
    Table(
        "es2",
        {"Pregunta frecuente": ES, "Respuesta": ES_A, "Fecha de respuesta": DATES},
        ("Pregunta frecuente", "Respuesta"),
    ),
    Table("de2", {"Kundenmail": DE, "Antwortmail": DE_A}, None),
    Table(
        "de3",
        {"Frage des Kunden": DE, "Antwort Support": DE_A, "Antwortzeit": of("2 h", "3 h")},
        ("Frage des Kunden", "Antwort Support"),
    ),
    Table("both in one", {"Q&A": EN, "Answer": EN_A}, None),
    Table("names", {"Customer": PEOPLE, "Agent": PEOPLE, "Transcript": PLACES}, None),
    Table(
        "status q",
        {
            "Question status": of("open", "done"),
            "Question title": SUBJECTS,
            "Question body": EN,
            "Answer body": EN_A,
        },
        ("Question body", "Answer body"),
    ),
    Table(
        "so",
        {
            "question_id": ids(),
            "question_title": SUBJECTS,
            "question_text": EN,
            "answer_id": ids(),
            "answer_text": EN_A,
            "answer_score": of("3", "4"),
        },
        ("question_text", "answer_text"),
    ),
)
TABLES = (*HELPDESKS, *FORMS, *SHEETS, *TRANSLATIONS, *CLASSES, *MORE)
