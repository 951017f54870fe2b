"""Guesses the language of a text: by its script, or by common words where scripts are shared.

An unclear text is "unknown" rather than guessed wrongly.
"""

import numpy as np

from trainer_backend.data.checks.words import WordArrays

UNKNOWN = 0
_COMMON_WORDS = {
    "English": "the and of to is that it for was with this are be you not have what your can "
    "from how which they will would their there does when these about should were i my me we "
    "our us an or on in at by as has had could do did get got here who why where please "
    "thanks thank hello hi yes am been more some any new than then them she he his her him "
    "its into after again out up just like only order need want help sorry if but so all no "
    "make know",
    "German": "der die und das ist nicht ein eine ich zu den von mit sich auf für dem des "
    "wird auch wie sie es oder aber einen kann wir sind bei nach werden wenn mein meine "
    "meinen meiner dir du ihr ihre ihren ihnen uns unser unsere bitte danke hallo guten tag "
    "ja nein noch nur im am zum zur vom beim als dass daß war hat habe haben hatte wurde kein "
    "keine keinen einem einer eines mehr sehr schon hier dort wo was wer warum wann gibt "
    "können möchte muss über unter vor durch gegen ohne um bis dann doch mir mich dich diese "
    "dieser dieses alle nun aus",
    "French": "les des et est une dans pour qui que pas sur plus avec ce il vous nous au "
    "cette sont être ou mais du aux votre peut comme ces je elle tu on ils mon ma mes ton ta "
    "tes son sa ses notre nos vos un de la le en ai as avez avons ont suis êtes fait faire "
    "bonjour merci bien très tout tous toute aussi encore donc si ne rien quand comment où "
    "pourquoi quel quelle leur lui été avoir jamais ici bonne là mois jour jours compte aide "
    "peux pouvez voudrais nouveau autre deux fois svp toujours ça cela c qu n j d l s",
    "Spanish": "el los las una que en por con para es del se como más pero su al lo son está "
    "fue este esta muy sus cuando puede hay también y yo mi mis tu tus nos nuestro usted "
    "ustedes le les la un unos unas de o si no sí ha he han hemos era soy eres somos gracias "
    "hola qué cómo cuándo dónde quién cuál todo todos nada bien ahora aquí nunca hacer tiene "
    "tengo quiero dos esto eso ese esa cada sin sobre entre hasta desde uno favor señor "
    "señora cuenta pedido ayuda estoy puedo pueden podría nuevo nueva otro otra mes día días "
    "me te donde llegó",
    "Italian": "il che di è per una sono con non del della gli nel più come questo questa "
    "anche alla si le dei ma essere può nella delle ed perché io mi tu ti lui lei noi voi mio "
    "mia miei tuo tua suo sua nostro un uno lo la da in su a e o se no sì ho hai ha abbiamo "
    "avete hanno sei siamo era grazie ciao prego bene molto tutto tutti qui dove quando chi "
    "cosa mai fatto fare c dal dai al ai nei sul ci ne questi quello posso vorrei ordine "
    "conto aiuto puoi potete nuovo nuova altro altra mese giorno giorni ancora già due volte "
    "salve",
    "Portuguese": "que não uma os para com em é um do da dos por mais como você são ou ao seu "
    "sua isso pode também muito das está ser nos às eu me meu minha meus minhas tu ele ela "
    "nós eles uns de no na nas e se sim fui foi era sou tem tenho temos têm obrigado olá "
    "favor bem tudo todos aqui onde quando quem qual nunca fazer até pelo pela sobre sem este "
    "esta isto esse essa lhe quero agora conta ajuda estou posso podem poderia novo nova "
    "outro outra mês dia dias nada voce vc chegou bom boa mesmo",
    "Dutch": "het een van en dat is niet zijn voor met op te aan ook wordt naar maar deze bij "
    "uit kan je hij worden heeft wat hoe om ze ik mijn me wij we ons onze u uw zij hun hen er "
    "was waren heb hebt had hebben ben bent kunt kunnen wil moet moeten geen nog al ja nee "
    "dan als of in na over door tot waar wie waarom wanneer hoeveel graag dank bedankt hallo "
    "goed veel meer alle hier daar dit de nu nooit twee",
    "Polish": "nie się jest na że do jak to przez dla od są może ale które oraz czy ich tym "
    "ze być jego co jako był po tak już mój moja moje mnie mi cię pan pani my was wy oni ona "
    "on mam ma mają była było będzie jestem jesteś kiedy gdzie kto dlaczego ile proszę dzień "
    "dobry witam tylko bardzo nigdy dwa teraz przy bez ten ta te tego w z i a u lub albo "
    "jeśli gdy można moją nas nam",
    "Swedish": "och att det är som en på av för den till med inte har ett om kan jag du så "
    "från var eller vid men hur när också min mitt mina mig dig din ditt ni vi oss vår han "
    "hon de dem vara blev blir skulle ska skall varför vem tack hej nej mycket bara nu här "
    "där alltid aldrig finns får kunna utan mellan under efter genom två igen",
    "Finnish": "ja on ei se että hän oli mutta kuin ovat myös joka voi niin tai kun sen olla "
    "mitä ole jos tämä minä sinä vain nyt minun sinun hänen meidän teidän me te he kiitos hei "
    "kyllä en et emme ette eivät olen olet olemme olette kanssa miten missä milloin miksi "
    "kuka paljon hyvin vielä aina koska sekä joten tämän niitä kaikki oma ollut",
    "Catalan": "el la els les una que en per amb del al com més però jo meu meva seu seva és "
    "són està hi ha no sí gràcies hola bon dia on quan qui aquest aquesta també molt tot aquí "
    "mai fer vostè dos i o",
    "Romanian": "și este nu în la cu pe care din să un o mai sunt pentru sau ce fi au prin "
    "fost dar poate această acest ca după îl eu mi mă tu el ea noi voi ei mea meu nostru ești "
    "suntem am ai are avem vă rog bună ziua da unde când cine cum cât foarte doar acum aici "
    "două fără până fiecare tot toate",
    "Hungarian": "az és hogy nem egy is van ez meg csak mint vagy volt de ha már kell lehet "
    "azt mert ezt el ki még amely én te ő mi ti ők vagyok vagyunk voltam lesz nincs kérem jó "
    "napot hol mikor miért mennyi hogyan nagyon itt ott most soha két nekem neked minden "
    "tudom nyit ettől után előtt",
    "Turkish": "bir ve bu için ile çok olarak daha olan gibi var kadar ne değil en ama sonra "
    "ya da veya nasıl mi ise her şey ben sen biz siz onlar benim senin bizim sizin bana size "
    "yok evet hayır lütfen merhaba nerede kim neden kaç hangi şimdi burada çünkü hiç iki kez "
    "bunu şunu onu mı mu mü musunuz misiniz hem artık oldu",
    "Vietnamese": "và là của có không được một cho các những với trong này đã để người khi "
    "cũng từ như về bạn thể nhiều sẽ tôi anh chị chúng mình xin chào cảm ơn vui lòng ở đâu "
    "nào ai tại sao bao nhiêu thế gì rất chỉ bây giờ hai lần bị đang nên hoặc nếu thì",
    "Danish or Norwegian": "og at det er en som på af for den til med ikke har et jeg kan du "
    "der fra var eller men hvordan når også hvad være blive de min mit mine mig dig din dit "
    "vi os vores han hun dem blev bliver skulle skal hvor hvornår hvem hvorfor tak hej nej "
    "meget kun nu her altid aldrig findes får kunne uden mellem under efter igen mod hvilken "
    "hvis selv mitt meg deg ditt oss vår ble blir takk hei nei mye bare nå alltid aldri "
    "finnes uten mellom etter igjen mot av hva å",
    "Czech or Slovak": "je se na že to jsem jako ale by pro jsou nebo který jeho jak být "
    "které při také může není aby tak což však jen už můj moje mám má máte jsi jsme jste byl "
    "byla bylo bude děkuji prosím dobrý den kde kdy kdo proč kolik vám vás nás mi mě ne ano "
    "do od za po u k v z s o i a ten ta tento tato nikdy dva sa som si ako pre sú alebo ktorý "
    "ktorá byť pri tiež môže nie čo len moja môj bol bola bolo ďakujem deň kedy kto prečo "
    "koľko mňa áno",
    "Croatian or Serbian": "je se na da to sam si kako ali bi za su ili koji koja njegov biti "
    "pri također može nije što samo već moj moja imam imate bio bila bilo bit hvala molim "
    "dobar dan gdje kad tko zašto koliko vam vas nas mi me ne od iz po nikad dva s u i o ću "
    "ćeš će ćemo naučiti šta li jesam jesi jeste",
    "Indonesian or Malay": "yang dan di untuk dengan ini dari dalam tidak pada adalah itu "
    "akan ke juga atau bisa dapat oleh anda saya karena sebagai lebih kita ada aku kami "
    "mereka dia sudah belum bukan jangan tolong terima kasih halo mana kapan siapa kenapa "
    "mengapa berapa sangat hanya sekarang sini dua kali lagi semua telah sedang",
}  # of the most frequent words of each language, those of at most 8 bytes
_SCRIPTS = {
    "Russian or another in Cyrillic": ((0xD0, 0xD3),),
    "Greek": ((0xCE, 0xCF),),
    "Hebrew": ((0xD7, 0xD7),),
    "Arabic or another in its script": ((0xD8, 0xDB),),
    "Hindi or another of India": ((0xE0A4, 0xE0B7),),
    "Thai or Lao": ((0xE0B8, 0xE0BB),),
    "Korean": ((0xEAB0, 0xED9F),),
    "Japanese": ((0xE381, 0xE383),),
    "Chinese": ((0xE4B8, 0xE9BF), (0xE390, 0xE4B7)),
}  # ranges of the first one or two bytes in UTF-8
LANGUAGES = ("unknown", *_COMMON_WORDS, *_SCRIPTS)
_LETTERS = {
    "German": "ßäöü", "French": "çêœûîè", "Spanish": "ñ¿¡", "Italian": "ìòàè",
    "Portuguese": "ãõçêâ", "Polish": "łąęśżźćń", "Swedish": "åäö", "Finnish": "äö",
    "Danish or Norwegian": "æøå", "Czech or Slovak": "řůěčšžýľ", "Romanian": "ășțâî",
    "Hungarian": "őűöü", "Turkish": "ğışçöü", "Croatian or Serbian": "đčćšž", "Catalan": "çòèà",
    "Vietnamese": "đăâêơưãõ",
}  # fmt: skip
# Points for a word or letter of one language, of two, of more; points needed, and how many times
# those of the runner-up.
POINTS, MIN_POINTS, LEAD = (4, 2, 1), 6, 2
_SLOTS = 1 << 16
_FACTOR = np.uint64(0xD6E8FEB86659FD93)


def languages_of(words: WordArrays) -> np.ndarray:
    """uint8 (texts,): indices into LANGUAGES, UNKNOWN where the language is not clear."""
    found = _by_common_words(words)
    if (words.data >= 0x80).any():
        scripts = _by_script(words)
        found = np.where(scripts != UNKNOWN, scripts, found)
    return found


def _by_common_words(words: WordArrays) -> np.ndarray:
    slot = (words.head * _FACTOR >> np.uint64(48)).astype(np.int64)
    hit = np.flatnonzero((_KEYS[slot] == words.head) & (words.tail == 0) & (words.size <= 8))
    masks, texts = _MASKS[slot[hit]], words.text[hit]
    first = np.flatnonzero(words.data[:-1] >= 0xC2)
    if len(first):
        pair = words.data[first].astype(np.int32) << 8 | words.data[first + 1]
        first, pair = first[_LETTER_MASKS[pair] > 0], pair[_LETTER_MASKS[pair] > 0]
        masks = np.concatenate([masks, _LETTER_MASKS[pair]])
        of_letters = np.searchsorted(words.starts, first, side="right") - 1
        texts = np.concatenate([texts, of_letters])
    counts = _points(masks, texts, words.num_texts)
    best = counts.argmax(axis=1)
    most = counts.max(axis=1)
    np.put_along_axis(counts, best[:, None], 0, axis=1)
    sure = (most >= MIN_POINTS) & (most >= LEAD * counts.max(axis=1))
    return np.where(sure, best + 1, UNKNOWN).astype(np.uint8)


def _points(masks: np.ndarray, texts: np.ndarray, num_texts: int) -> np.ndarray:
    """int64 (texts, languages): the points of the words and letters with these masks."""
    bits = [(masks >> np.uint32(at)) & np.uint32(1) == 1 for at in range(len(_COMMON_WORDS))]
    shared = np.sum(bits, axis=0, dtype=np.int8) if bits else np.zeros(len(masks), np.int8)
    points = np.array([0, *POINTS])[np.minimum(shared, len(POINTS))]
    counts = np.zeros((num_texts, len(bits)), np.int64)
    for at, one in enumerate(bits):
        counts[:, at] = np.bincount(texts[one], points[one], num_texts)
    return counts


def _by_script(words: WordArrays) -> np.ndarray:
    """The language of texts with more than half of their letters in one non-Latin script."""
    data = words.data
    letters = (((data | 32) - np.uint8(97)) < 26) | (data >= 0xC3)  # a letter's first byte
    first = np.flatnonzero(data >= 0xC3)
    pair = data[first].astype(np.int32) << 8 | data[np.minimum(first + 1, len(data) - 1)]
    text = np.searchsorted(words.starts, first, side="right") - 1
    counts = np.zeros((words.num_texts, len(_SCRIPTS)), np.int64)
    for at, ranges in enumerate(_SCRIPTS.values()):
        for low, high in ranges:
            low, high = (low << 8, high << 8 | 0xFF) if high < 0x100 else (low, high)
            inside = text[(pair >= low) & (pair <= high)]
            counts[:, at] += np.bincount(inside, minlength=words.num_texts)
    japanese, chinese = list(_SCRIPTS).index("Japanese"), list(_SCRIPTS).index("Chinese")
    counts[:, japanese] += np.where(counts[:, japanese] > 0, counts[:, chinese], 0)  # kanji
    total = np.add.reduceat(np.append(letters, False), words.starts[:-1]) if len(counts) else 0
    best = counts.argmax(axis=1)
    clear = (counts.max(axis=1) >= 2) & (2 * counts.max(axis=1) > total)
    return np.where(clear, best + 1 + len(_COMMON_WORDS), UNKNOWN).astype(np.uint8)


def _table() -> tuple[np.ndarray, np.ndarray]:
    """(keys, masks): a hash table from a word's bytes to a bit mask of the languages with it."""
    keys, masks = np.zeros(_SLOTS, np.uint64), np.zeros(_SLOTS, np.uint32)
    for at, text in enumerate(_COMMON_WORDS.values()):
        for word in text.split():
            encoded = word.encode()
            if len(encoded) > 8:
                continue
            key = np.uint64(int.from_bytes(encoded, "little"))
            with np.errstate(over="ignore"):
                slot = int(key * _FACTOR >> np.uint64(48))
            if keys[slot] not in (0, key):
                continue  # a collision: the first word stays
            keys[slot] = key
            masks[slot] |= np.uint32(1 << at)
    return keys, masks


def _letters() -> np.ndarray:
    """uint32 (65536,): by the two bytes of a letter in UTF-8, a bit mask of its languages."""
    masks, names = np.zeros(1 << 16, np.uint32), list(_COMMON_WORDS)
    for name, letters in _LETTERS.items():
        for letter in letters:
            masks[int.from_bytes(letter.encode())] |= np.uint32(1 << names.index(name))
    return masks


_KEYS, _MASKS = _table()
_LETTER_MASKS = _letters()
