"""Words that PTB tokenisation treats in a way of their own."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# What the COCO caption evaluation drops after tokenisation.
PUNCTUATION = frozenset(_words("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"))

# Keep their full stop: months, days, states, companies, degrees. In any case.
ABBREVIATIONS = _words("""
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn
    tenn va vt wis wisc wyo inc co cos corp ltd plc rt bancorp bhd assn univ intl sys tel est ext sq
    jr sr bros esq blvd rd etc al seq bldg ed.d ph.d
""")

# The same, but common words unless they are capitalised.
CAPITALISED_ABBREVIATIONS = _words("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")

# Keep their full stop: titles, and what else stands before a name.
TITLES = _words("""
    mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj
    sgt cpl pvt capt st ste ave pres lieut hon brig comdr cmdr pfc spc supt supts det mt ft adj adv
    asst assoc ens insp mlle mme msgr sfc vs alex wm jos cie cf treas ph invt elec natl dept
""")

# Keep their full stop before a number only.
BEFORE_NUMBERS = _words("ca fig figs prop no nos art arts bldg pp op")

# After an acronym these begin a new sentence.
SENTENCE_OPENERS = _words("""
    About According Additionally After An A As At But Earlier He Her Here However If In It Last Many
    More Mr. Ms. Now Once One Other Our She Since So Some Such That The Then There These They This
    We When While What Yet You
""")

FILE_EXTENSIONS = _words("""
    bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl
    png ppt ps py sql tar txt wav x xml zip
""")
