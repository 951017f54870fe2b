"""Guesses the language of a text: by its script, or by common words where scripts are shared.

An unclear text is "unknown" rather than guessed wrongly.
"""

import numpy as np

from trainer_backend.data.checks.words import WordArrays

UNKNOWN = 0
_COMMON_WORDS = {
    "English": "the and of to is that it for was with this are be you not have what your can "
    "from how which they will would their there does when these about should were",
    "German": "der die und das ist nicht ein eine ich zu den von mit sich auf für dem des wird "
    "auch wie sie es oder aber einen kann wir sind bei nach werden wenn",
    "French": "les des et est une dans pour qui que pas sur plus avec ce il vous nous au cette "
    "sont être ou mais du aux votre peut comme ces je elle",
    "Spanish": "el los las una que en por con para es del se como más pero su al lo son está fue "
    "este esta muy sus cuando puede hay también y",
    "Italian": "il che di è per una sono con non del della gli nel più come questo questa anche "
    "alla si le dei ma essere può nella delle ed perché",
    "Portuguese": "que não uma os para com em é um do da dos por mais como você são ou ao seu sua "
    "isso pode também muito das está ser nos às",
    "Dutch": "het een van en dat is niet zijn voor met op te aan ook wordt naar maar deze bij "
    "uit kan je hij worden heeft wat hoe om ze",
    "Polish": "nie się jest na że do jak to przez dla od są może ale które oraz czy ich tym ze "
    "być jego co jako był po tak już",
    "Swedish": "och att det är som en på av för den till med inte har ett om kan jag du så från "
    "var eller vid men hur när också",
    "Danish": "og at det er en som på af for den til med ikke har et jeg kan du der fra var "
    "eller men hvordan når også hvad være blive de",
    "Finnish": "ja on ei se että hän oli mutta kuin ovat myös joka voi niin tai kun sen olla "
    "mitä ole jos tämä minä sinä vain nyt",
    "Czech": "je se na že to jsem jako ale by pro jsou nebo který jeho jak být které při také "
    "může není aby tak což však jen už",
    "Romanian": "și este nu în la cu pe care din să un o mai sunt pentru sau ce fi au prin fost "
    "dar poate această acest ca după îl",
    "Hungarian": "az és hogy nem egy is van ez meg csak mint vagy volt de ha már kell lehet azt "
    "mert ezt el ki még amely",
    "Turkish": "bir ve bu için ile çok olarak daha olan gibi var kadar ne değil en ama sonra ya "
    "da veya nasıl mi ise her şey",
    "Indonesian": "yang dan di untuk dengan ini dari dalam tidak pada adalah itu akan ke juga atau "
    "bisa dapat oleh anda saya karena sebagai lebih kita ada",
    "Vietnamese": "và là của có không được một cho các những với trong này đã để người khi cũng từ "
    "như về bạn thể nhiều sẽ",
}  # about two dozen of the most frequent words of each language
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
MIN_HITS, LEAD = 3, 2  # common words needed, and how many times those of the runner-up
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
    counts = np.zeros((words.num_texts, len(_COMMON_WORDS)), np.int32)
    for at in range(len(_COMMON_WORDS)):
        with_word = texts[(masks >> np.uint32(at)) & np.uint32(1) == 1]
        counts[:, at] = np.bincount(with_word, minlength=words.num_texts)
    best = counts.argmax(axis=1)
    most = counts.max(axis=1)
    np.put_along_axis(counts, best[:, None], 0, axis=1)
    sure = (most >= MIN_HITS) & (most >= LEAD * counts.max(axis=1))
    return np.where(sure, best + 1, UNKNOWN).astype(np.uint8)


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


_KEYS, _MASKS = _table()
