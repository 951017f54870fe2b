"""How often languages use their letters: what tells a right decoding of bytes from a wrong one.

Each alphabet is written from the most to the least frequent letter; of Latin alphabets only the
letters beyond ASCII count. Of Chinese, Japanese and Korean the most frequent characters are listed,
the legacy standards of each (GB 2312, Big5, JIS X 0208, KS X 1001) tell common from rare.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ROUND_QUOTES = "“”„‚‘’«»‹›"
USUAL_SIGNS = ROUND_QUOTES + "–—…•€§°·№\u00a0"
SIGN, OTHER_SIGN, CONTROL, FOREIGN = -4.5, -8.0, -16.0, -9.0  # log probabilities of a character

WESTERN = {
    "English": "’“”–é…‘—ïñöèüç",
    "French": "éàèêçùâîôûëïœ",
    "German": "üäöß",
    "Spanish": "óíáéñúü¿¡",
    "Portuguese": "ãçáéóêíõâúôà",
    "Italian": "èàòùéì",
    "Dutch": "ëéïöèüó",
    "Swedish": "äåöé",
    "Danish, Norwegian": "øåæéòô",
    "Finnish": "äöå",
    "Icelandic": "ðáíþöóæéúý",
    "Catalan": "éàóèíçòúïü",
    "Albanian": "ëç",
}
CENTRAL = {
    "Polish": "łęąóżśćńź",
    "Czech": "íáěéřčžýšůúňťďó",
    "Slovak": "áíéčšžýúľťôňďóäĺŕ",
    "Hungarian": "éáőöóüíúű",
    "Romanian": "ăîâșțşţ",
    "Croatian, Slovene": "čšžćđ",
    "German": "üäöß",
    "Albanian": "ëç",
}
TURKISH = {"Turkish": "ıüşçğöİâî", "German": "üäöß", "French": "éàèêçùâîôûëïœ"}
BALTIC = {
    "Lithuanian": "ėšžąįųčūę",
    "Latvian": "āīēšūņļčģžķ",
    "Estonian": "äõüöšž",
}
CYRILLIC = {
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "Ukrainian": "оанивіертслкдумпязьбгйчхцїжюшщєфґ",
    "Bulgarian": "аиоетнрсвлкдпмзягъбучжщйцхшфюь",
    "Serbian": "аиоенрсјтукдвлмпзгбчшцљњхћжђфџ",
    "Belarusian": "анісеркоылтдупямвзьцгжбўчэшйюхфё",
}
GREEK = {"Greek": "αοιετσνηυρπκμλςόάίωέγδήύθφύχβώξζψϊϋΐ"}
HEBREW = {"Hebrew": "יוהלאתרבמשנעדחקפםכגןטסזצךףץְִֶַָֹ"}
ARABIC = {
    "Arabic": "اليمنرتوبعدةسفهكقحجشصطخضذثزىءغأإئؤآًُِّ،؟",
    "Persian": "انیرده‌متوسبشکلگزخفچقپعحجطصغضژئذثظء،؟",
}
THAI = {"Thai": "านรอกเ่งมยลว้ดทสตะปบิคหแีจพขใไผชุณูโัึืธ์ถศภษซฟญฝฉ"}
VIETNAMESE = {"Vietnamese": "àáảãạăâêôơưđếềệộờớụ̉̀́̃̉éíóúèìòùõĩũ"}

SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发"
    "后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但"
    "因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手"
    "应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教"
    "儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目"
    "太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却"
    "界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清"
    "今切院让识候带导争运请答问您谢吗呢吧怎哪谁买卖吃喝早晚店钱元"
)
TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發"
    "後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但"
    "因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手"
    "應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世位次度門任常先海通教"
    "兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目"
    "太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻"
    "界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清"
    "今切院讓識候帶導爭運請答問您謝嗎呢吧怎哪誰買賣吃喝早晚店錢元嘅係唔咗喺"
)
JAPANESE_KANJI = (
    "日一人年大国本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書"
    "先名川千水半男西電校語土木聞食車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手"
    "力問代明動京目通言理体田主題意不作用度強公持野以思家世多正安院心界教文元重近考画海売知道集別物"
    "使品計死特私始朝運終台広住無真有口少町料工建空急止送切転研足究楽起着店病質待試族銀早映親験英医"
    "仕去味写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服夕借曜飲肉貸堂鳥飯勉冬"
    "昼茶弟牛魚兄犬妹姉漢表性的要現法成対政部定実全関回数当方最初内選民物合化連保次必変取説情"
)
HIRAGANA = (
    "のいるしてにをはたとがでなかもすらこりれさうっまよあくきんけだつえそみおせちめわどゃじろ"
)
KOREAN = (
    "이다는을의에가고지하한로기사도은리서어인를자나대시아그해있정수으보제과일것라주장전부상들원게만여"
    "조스구면국동요마문무적우성경유습니안까와세생년중화모소관오공비신선말방진내분계용거입당위물실미학"
    "행려드차간히되재개발상합통연된던월않없때었였했겠십트단영회명식집알잘못더또새같요네"
)


@dataclass(frozen=True)
class Alphabet:
    """The log probability of each character in one language; others go to `rest`."""

    language: str
    known: Mapping[str, float]
    rest: Callable[[str], float]

    def score(self, character: str) -> float:
        """The log probability of a character beyond ASCII."""
        found = self.known.get(character)
        return self.rest(character) if found is None else found


def _ranked(letters: str, share: float, ratio: float) -> dict[str, float]:
    """Log probabilities that fall by `ratio` from letter to letter and sum to `share`."""
    order = list(dict.fromkeys(letters))
    total = sum(ratio**rank for rank in range(len(order)))
    return {letter: math.log(share * ratio**rank / total) for rank, letter in enumerate(order)}


def _frequent(letters: str, share: float) -> dict[str, float]:
    """The same for thousands of characters: by Zipf's law."""
    order = list(dict.fromkeys(letters))
    total = sum(1 / (rank + 20) for rank in range(len(order)))
    return {letter: math.log(share / (rank + 20) / total) for rank, letter in enumerate(order)}


def _sign(character: str) -> float:
    """The log probability of a character that no alphabet knows."""
    if character in USUAL_SIGNS:
        return SIGN
    if character.isprintable():
        return FOREIGN if character.isalpha() else OTHER_SIGN
    return CONTROL


def alphabetic(alphabets: Mapping[str, str], ratio: float) -> list[Alphabet]:
    """An Alphabet for each language; capitals are rarer than small letters."""
    made = []
    for language, letters in alphabets.items():
        known = _ranked(letters, 0.97, ratio)
        for letter in list(known):
            capital = letter.upper()
            if len(capital) == 1 and capital != letter:
                known.setdefault(capital, known[letter] - 1.5)
        made.append(Alphabet(language, known, _sign))
    return made


def _in_standard(character: str, codec: str, common_before: int) -> int:
    """0: a common character of the standard, 1: a rare one, 2: not in it."""
    try:
        lead = character.encode(codec)[0]
    except UnicodeEncodeError:
        return 2
    return int(lead >= common_before)


def _is_wide_sign(character: str) -> bool:
    return (
        character in "，。：；！？、“”‘’《》（）「」『』【】…—～·ー・" or "！" <= character <= "～"
    )


def _is_kana(character: str) -> bool:
    return "\u3040" <= character <= "\u30ff"


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3"


def _is_ideograph(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def _unusual(character: str) -> float:
    """A character that Chinese, Japanese and Korean text rarely holds."""
    if not character.isprintable() or "\ue000" <= character <= "\uf8ff":
        return CONTROL
    if character >= "\U0001f300":
        return -9.0  # emoji
    return -12.0


def _chinese(codec: str, common_before: int) -> Callable[[str], float]:
    levels = (-9.0, -12.5, -14.5)

    def rest(character: str) -> float:
        if _is_ideograph(character):
            return levels[_in_standard(character, codec, common_before)]
        return -4.5 if _is_wide_sign(character) else _unusual(character)

    return rest


def _japanese(character: str) -> float:
    if _is_kana(character):
        return -5.5
    if _is_ideograph(character):
        return (-9.0, -13.0, -15.0)[_in_standard(character, "euc_jp", 0xD0)]
    if "\uff61" <= character <= "\uff9f":
        return -7.5  # half-width katakana
    return -4.5 if _is_wide_sign(character) else _unusual(character)


def _korean(character: str) -> float:
    if _is_hangul(character):
        return (-8.5, -8.5, -13.0)[_in_standard(character, "euc_kr", 0xC9)]
    return -5.5 if character in ROUND_QUOTES + "…·" else min(_unusual(character), -12.0)


CHINESE_SIMPLIFIED = [Alphabet("Chinese", _frequent(SIMPLIFIED, 0.6), _chinese("gb2312", 0xD8))]
CHINESE_TRADITIONAL = [Alphabet("Chinese", _frequent(TRADITIONAL, 0.6), _chinese("big5", 0xC9))]
JAPANESE = [
    Alphabet(
        "Japanese",
        _frequent(JAPANESE_KANJI, 0.3) | _frequent(HIRAGANA, 0.5),
        _japanese,
    )
]
KOREAN_ALPHABET = [Alphabet("Korean", _frequent(KOREAN, 0.7), _korean)]
