"""The most frequent short words of languages in Latin letters, as written without accents.

They decide between encodings where a text holds few letters beyond ASCII.
"""

import re
from collections import Counter
from collections.abc import Mapping

FREQUENT = {
    "English": "the of and to in is you that it for on are with as at be this have from or what",
    "French": "le la les de des du un une et en est que qui dans pour pas sur au ce il je ne vous",
    "German": "der die das und ist ein eine ich nicht zu den mit von es auf sich sie wie auch im",
    "Spanish": "el la los las de que y en un una por con no es se del al como para su lo mi hoy",
    "Portuguese": "o os de que do da em um uma para com no na os se dos por mais as como foi meu",
    "Italian": "il di che e la un una per non con del le si lo da mi dei nel della sono mio gli",
    "Dutch": "de het een en van ik is dat niet in op te zijn voor met die er aan hoe maar",
    "Swedish": "och att det i en jag som han den med var sig om till av ett hur mitt inte vi",
    "Danish, Norwegian": "og i det at en den til er som de med han af av for ikke der jeg hvor min",
    "Finnish": "ja on ei se ett oli en kun niin mutta ovat joka mit miten voi sen",
    "Icelandic": "og er sem til um hann vi en eg var ekki hvernig ef fyrir",
    "Catalan": "el la els les de que i en un una per amb no es del al com sobre",
    "Albanian": "dhe i e nga me per nuk se ka do si ku",
    "Polish": "i w na z do nie to jest jak o co ale od po za jego mnie gdzie czy dla ma",
    "Czech": "a je na se v to s z do ze jak co kde ale o po pro tak dnes jsem jsou by",
    "Slovak": "a je na sa v to s z do ako kde ale o po pre tak dnes som aj by",
    "Hungarian": "a az egy nem is hogy meg ha de van ez mi csak volt lesz kell hol mit",
    "Romanian": "de la cu nu este un o pe care din sau mai ce am cum e unde pentru fost",
    "Croatian, Slovene": "i u je na se da za od kako ali ne to su s iz gdje sam mi ste in kje",
    "Turkish": "bir ve bu da de ne mi gibi daha ama var kadar o ben sen hava nerede zaman",
    "Lithuanian": "ir yra kad su bet kaip ne tai ar o mano kas kur apie koks",
    "Latvian": "un ir ka ar no par bet uz tas es kas kur man nav",
    "Estonian": "ja on ei see et ta kui oli ma aga mis kas kus minu",
    "Vietnamese": "trong cho la toi khi thi nhung theo con nhu",
}
_WORDS = {language: frozenset(words.split()) for language, words in FREQUENT.items()}
_WORD = re.compile(r"(?<![^\W\d_])[a-z]{1,7}(?![^\W\d_])")
EACH, MOST = 1.2, 9.0  # added to a score for each frequent word, and at most


def word_counts(text: str) -> Mapping[str, int]:
    """How often each short word of plain letters stands in the text."""
    return Counter(_WORD.findall(text.lower()))


def words_score(language: str, counts: Mapping[str, int]) -> float:
    """What the frequent words of a language add to the score of a text."""
    words = _WORDS.get(language)
    if not words:
        return 0.0
    return min(MOST, EACH * sum(count for word, count in counts.items() if word in words))
