"""Words that the Penn Treebank tokeniser treats in a way of their own.

They were found by giving the program candidates and keeping those that it treats differently from
other words: all strings of up to five letters, 130,000 English words with their beginnings and
plurals, common abbreviations and contractions, and the hard cases of the tests. Upper and lower
case are alike where nothing else is said.
"""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


#: Tokens that the caption evaluation removes (pycocoevalcap 1.2, `ptbtokenizer.py`). The brackets
#: never match, because the tokens are in lower case by then.
PUNCTUATION = frozenset(_words("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"))

#: Abbreviations, such as titles, that another word follows: the full stop is theirs.
TITLES = _words("""
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs
    elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl
    pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm
""")

#: Abbreviations that may also end a sentence: the full stop is theirs even there.
ABBREVIATIONS = _words("""
    al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont
    neb nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va
    vt wed wis wisc wyo
""")

#: Abbreviations of that kind that would be words if they did not begin with a capital.
CAPITALISED_ABBREVIATIONS = _words("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")

#: Abbreviations only in front of a number: "fig. 5".
NUMBERED_ABBREVIATIONS = _words("art ca fig figs no nos op ph pp prop")

#: Capitalised, they begin a new sentence after a single letter: "plan b. The dog".
SENTENCE_STARTERS = _words("""
    a about according additionally after an as at but earlier he her here however if in it last
    many more now once one other our she since so some such that the their then there these they
    this we what when while yet you
""")

#: Words that are two tokens.
ASSIMILATED = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
}

#: One token in spite of the apostrophe, which may be straight or curly.
WITH_APOSTROPHE = _words("cap'n c'est dunkin' ol' somethin' 'cause 'em 'n' 'til 'till")

#: One token only with a straight apostrophe.
WITH_STRAIGHT_APOSTROPHE = _words("c'mon e'er ev'ry li'l nat'l nor'easter s'mores cont'd.")

#: Endings of file names.
FILE_EXTENSIONS = _words("""
    bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php
    pl png ppt ps py sql tar txt wav x xml zip
""")

#: What the program writes for a symbol.
SYMBOL_SPELLINGS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "¢": "cents",
    "£": "#",
    "¤": "$",
    "₠": "$",
    "€": "$",
    "\x80": "$",
    "¼": "1/4",
    "½": "1/2",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
}

#: What it writes for an HTML entity; the other entities that it knows stay as they are.
ENTITY_SPELLINGS = {
    "&amp;": "&",
    "&apos;": "'",
    "&gt;": ">",
    "&lt;": "<",
    "&md;": "--",
    "&mdash;": "--",
    "&nbsp;": "",
    "&ndash;": "--",
    "&quot;": "''",
}
