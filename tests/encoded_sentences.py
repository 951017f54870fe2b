"""Sentences of many languages, and the encodings their files come in."""

SENTENCES = {
    "Chinese": [
        ("周末图书馆几点开门？", "周六和周日上午九点开门，下午五点关门。"),
        ("怎样才能学好做饭", "多看，多练，从简单的菜开始"),
        ("这台电脑能修吗？", "可以，大约需要三天时间。"),
    ],
    "Chinese, traditional": [
        ("週末圖書館幾點開門？", "週六和週日上午九點開門，下午五點關門。"),
        ("怎樣才能學好做飯", "多看，多練，從簡單的菜開始"),
        ("這台電腦能修嗎？", "可以，大約需要三天時間。"),
    ],
    "Japanese": [
        ("図書館は週末も開いていますか？", "はい、土曜日と日曜日は朝九時から開いています。"),
        ("料理が上手になるには", "簡単なものから毎日作ってみましょう"),
        ("コーヒーとケーキをください", "かしこまりました。少々お待ちください。"),
    ],
    "Korean": [
        ("도서관은 주말에 몇 시에 열어요?", "토요일과 일요일에는 아홉 시에 엽니다."),
        ("요리를 잘하려면 어떻게 하나요", "쉬운 것부터 매일 만들어 보세요"),
        ("커피 한 잔 주세요", "네, 잠시만 기다려 주세요."),
    ],
    "Russian": [
        ("Во сколько открывается библиотека?", "В субботу она открывается в девять утра."),
        ("как научиться готовить", "начните с простых блюд и готовьте каждый день"),
        ("Можно починить этот компьютер?", "Да, это займёт около трёх дней."),
    ],
    "Ukrainian": [
        ("О котрій відкривається бібліотека?", "У суботу вона відкривається о дев'ятій."),
        ("як навчитися готувати їжу", "почніть із простих страв і готуйте щодня"),
    ],
    "Bulgarian": [
        ("Кога отваря библиотеката?", "В събота отваря в девет часа сутринта."),
        ("как да се науча да готвя", "започнете с лесни ястия и гответе всеки ден"),
    ],
    "Greek": [
        ("Τι ώρα ανοίγει η βιβλιοθήκη;", "Το Σάββατο ανοίγει στις εννέα το πρωί."),
        ("πώς μαθαίνω να μαγειρεύω", "ξεκινήστε με εύκολα φαγητά κάθε μέρα"),
    ],
    "Hebrew": [
        ("מתי נפתחת הספרייה?", "ביום ראשון היא נפתחת בתשע בבוקר."),
        ("איך לומדים לבשל", "מתחילים במנות קלות ומבשלים כל יום"),
    ],
    "Arabic": [
        ("متى تفتح المكتبة أبوابها؟", "تفتح يوم السبت في الساعة التاسعة صباحا."),
        ("كيف أتعلم الطبخ", "ابدأ بالأطباق السهلة واطبخ كل يوم"),
    ],
    "Turkish": [
        ("Kütüphane kaçta açılıyor?", "Cumartesi günü sabah dokuzda açılıyor."),
        ("yemek yapmayı nasıl öğrenirim", "kolay yemeklerle başlayın, her gün pişirin"),
    ],
    "Polish": [
        ("O której otwiera się biblioteka?", "W sobotę otwiera się o dziewiątej rano."),
        ("jak nauczyć się gotować", "zacznij od prostych dań, źle nie będzie"),
    ],
    "Czech": [
        ("Kdy se otevírá knihovna?", "V sobotu se otevírá v devět hodin ráno."),
        ("jak se naučím vařit", "začněte s jednoduchými jídly a vařte každý den"),
    ],
    "Hungarian": [
        ("Mikor nyit a könyvtár?", "Szombaton reggel kilenckor nyit, vasárnap később."),
        ("hogyan tanulhatok meg főzni", "kezdje egyszerű ételekkel, és főzzön minden nap"),
    ],
    "Croatian": [
        ("Kada se otvara knjižnica?", "U subotu se otvara u devet, a već u podne se zatvara."),
        ("kako ću naučiti kuhati", "počnite s lakšim jelima i kuhajte češće"),
    ],
    "French": [
        ("À quelle heure ouvre la bibliothèque ?", "Le samedi à neuf heures, même l’été."),
        ("comment apprendre à cuisiner", "commencez par des plats très simples, ça plaît ?"),
    ],
    "German": [
        ("Wann öffnet die Bücherei?", "Samstags um neun, sonntags nie – außer an Märkten."),
        ("wie lerne ich kochen", "fang mit leichten Gerichten an und übe täglich"),
    ],
    "Spanish": [
        ("¿A qué hora abre la biblioteca?", "El sábado abre a las nueve de la mañana."),
        ("cómo aprendo a cocinar", "empieza con platos fáciles y cocina cada día un poco más"),
    ],
    "Portuguese": [
        ("A que horas abre a biblioteca?", "Aos sábados abre às nove da manhã e não fecha."),
        ("como aprendo a cozinhar", "comece com pratos fáceis, não há pressão"),
    ],
    "Italian": [
        ("A che ora apre la biblioteca?", "Il sabato apre alle nove, però la domenica è chiusa."),
        ("come imparo a cucinare", "comincia con piatti facili, così è più semplice"),
    ],
    "Swedish": [
        ("När öppnar biblioteket?", "På lördagar öppnar det klockan nio."),
        ("hur lär jag mig laga mat", "börja med enkla rätter och öva varje dag"),
    ],
    "Danish": [
        ("Hvornår åbner biblioteket?", "Om lørdagen åbner det klokken ni."),
        ("hvordan lærer jeg at lave mad", "begynd med lette retter, og øv dig på dem"),
    ],
    "English": [
        ("When does the library open?", "It’s open from nine – except when it’s “closed”."),
        ("how do I learn cooking", "don’t worry… start with what’s easy"),
    ],
}  # fmt: skip  # (question, answer)

_WEST = ("latin-1", "cp1252", "mac-roman", "cp850")
_CENTRAL = ("cp1250", "iso8859-2", "cp852")
_CYRILLIC = ("cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic")
ENCODINGS_OF = {
    "Chinese": ("gb18030", "gbk", "gb2312", "utf-16-le", "utf-16-be", "utf-32-le"),
    "Chinese, traditional": ("big5", "cp950", "big5hkscs", "utf-16-le"),
    "Japanese": ("shift_jis", "cp932", "euc-jp", "iso2022-jp", "utf-16-le"),
    "Korean": ("euc-kr", "cp949", "utf-16-le"),
    "Russian": (*_CYRILLIC, "utf-16-le", "utf-16-be"),
    "Ukrainian": ("cp1251", "koi8-u", "utf-16-le"),
    "Bulgarian": ("cp1251", "cp866", "iso8859-5"),
    "Greek": ("cp1253", "iso8859-7", "utf-16-le"),
    "Hebrew": ("cp1255", "iso8859-8"),
    "Arabic": ("cp1256", "iso8859-6", "utf-16-le"),
    "Turkish": ("cp1254", "iso8859-9", "cp857"),
    "Polish": _CENTRAL,
    "Czech": _CENTRAL,
    "Hungarian": _CENTRAL,
    "Croatian": _CENTRAL,
    **dict.fromkeys(
        ("French", "German", "Spanish", "Portuguese", "Italian", "Swedish", "Danish"), _WEST
    ),
    "English": ("cp1252", "mac-roman"),
}
PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "…": "..."})


def encoded(text: str, encoding: str) -> bytes:
    """The text in the encoding; typographic signs that it lacks are written plainly."""
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding)
