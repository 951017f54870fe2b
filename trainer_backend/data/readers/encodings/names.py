"""The encodings a file may be read with, and their names in a sentence and on the page.

Which of them a file is in is not decided here.
"""

import codecs

ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
    "gb18030": "Chinese (GB18030)",
    "big5": "Chinese, traditional (Big5)",
    "cp950": "Chinese, traditional (Windows-950)",
    "big5hkscs": "Chinese, Hong Kong (Big5-HKSCS)",
    "shift_jis": "Japanese (Shift JIS)",
    "cp932": "Japanese (Windows-932)",
    "euc-jp": "Japanese (EUC-JP)",
    "iso2022-jp": "Japanese (ISO-2022-JP)",
    "euc-kr": "Korean (EUC-KR)",
    "cp949": "Korean (Windows-949)",
    "iso2022-kr": "Korean (ISO-2022-KR)",
    "latin-1": "Western European (Latin-1)",
    "cp1252": "Western European (Windows-1252)",
    "iso8859-15": "Western European (Latin-9)",
    "mac-roman": "Western European (Mac)",
    "cp850": "Western European (DOS 850)",
    "cp437": "Western European (DOS 437)",
    "cp1250": "Central European (Windows-1250)",
    "iso8859-2": "Central European (ISO 8859-2)",
    "mac-latin2": "Central European (Mac)",
    "cp852": "Central European (DOS 852)",
    "cp1251": "Cyrillic (Windows-1251)",
    "koi8-r": "Cyrillic (KOI8-R)",
    "koi8-u": "Cyrillic (KOI8-U)",
    "cp866": "Cyrillic (DOS 866)",
    "iso8859-5": "Cyrillic (ISO 8859-5)",
    "mac-cyrillic": "Cyrillic (Mac)",
    "cp1253": "Greek (Windows-1253)",
    "iso8859-7": "Greek (ISO 8859-7)",
    "mac-greek": "Greek (Mac)",
    "cp737": "Greek (DOS 737)",
    "cp1254": "Turkish (Windows-1254)",
    "iso8859-9": "Turkish (ISO 8859-9)",
    "mac-turkish": "Turkish (Mac)",
    "cp857": "Turkish (DOS 857)",
    "cp1255": "Hebrew (Windows-1255)",
    "iso8859-8": "Hebrew (ISO 8859-8)",
    "cp862": "Hebrew (DOS 862)",
    "cp1256": "Arabic (Windows-1256)",
    "iso8859-6": "Arabic (ISO 8859-6)",
    "cp720": "Arabic (DOS 720)",
    "cp1257": "Baltic (Windows-1257)",
    "iso8859-13": "Baltic (ISO 8859-13)",
    "cp874": "Thai (Windows-874)",
    "cp1258": "Vietnamese (Windows-1258)",
}  # by the name that --encoding takes, in the order of the page's list
_ALIASES = {"gbk": "gb18030", "gb2312": "gb18030", "hz": "", "tis-620": "cp874"}
_BY_CODEC = {codecs.lookup(name).name: name for name in ENCODINGS}


def known_encoding(name: str) -> str | None:
    """The key of ENCODINGS for a name as people write it ("GBK", "Windows-1252"); None if none.

    "utf-16-le" and the like stay as they are.
    """
    try:
        codec = codecs.lookup(name.strip()).name
    except (LookupError, ValueError):  # ValueError: a NUL character in the name
        return None
    if codec.startswith(("utf-16", "utf-32", "utf-8")):
        return codec
    return _BY_CODEC.get(codec) or _ALIASES.get(codec) or None


def encoding_name(encoding: str) -> str:
    """The encoding in a sentence: "Chinese (GB18030)", "UTF-8 with a byte order mark"."""
    if encoding == "utf-8-sig":
        return "UTF-8 with a byte order mark"
    return ENCODINGS.get(encoding) or encoding.upper()
