"""What the keys of a keyboard type, by its layout. Codes: Linux, `include/uapi/linux/input-event-codes.h`.

A layout is what the device is set to: a scanner presses keys, and a German one presses the key beside the
right shift for a hyphen. Characters of the third level (AltGr) are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

LayoutName = Literal["us", "uk", "de", "fr"]
_NUMBER_BLOCK = {
    55: ("*", "*"),
    71: ("789-456+1230.", "789-456+1230."),
    98: ("/", "/"),
    117: ("=", "="),
    121: (",", ","),
}
_TELEPHONE = {512: ("0123456789*#", "0123456789*#")}
"""KEY_NUMERIC_0 to KEY_NUMERIC_POUND: keypads with the keys of a telephone."""
_ROWS: dict[LayoutName, dict[int, tuple[str, str]]] = {
    "us": {
        2: ("1234567890-=", "!@#$%^&*()_+"),
        16: ("qwertyuiop[]", "QWERTYUIOP{}"),
        30: ("asdfghjkl;'`", 'ASDFGHJKL:"~'),
        43: ("\\zxcvbnm,./", "|ZXCVBNM<>?"),
        86: ("\\", "|"),
    },
    "uk": {
        2: ("1234567890-=", '!"£$%^&*()_+'),
        16: ("qwertyuiop[]", "QWERTYUIOP{}"),
        30: ("asdfghjkl;'`", "ASDFGHJKL:@¬"),
        43: ("#zxcvbnm,./", "~ZXCVBNM<>?"),
        86: ("\\", "|"),
    },
    "de": {
        2: ("1234567890ß´", '!"§$%&/()=?`'),
        16: ("qwertzuiopü+", "QWERTZUIOPÜ*"),
        30: ("asdfghjklöä^", "ASDFGHJKLÖÄ°"),
        43: ("#yxcvbnm,.-", "'YXCVBNM;:_"),
        86: ("<", ">"),
    },
    "fr": {
        2: ("&é\"'(-è_çà)=", "1234567890°+"),
        16: ("azertyuiop^$", "AZERTYUIOP¨£"),
        30: ("qsdfghjklmù²", "QSDFGHJKLM%²"),
        43: ("*wxcvbn,;:!", "µWXCVBN?./§"),
        86: ("<", ">"),
    },
}


def keys_of(layout: LayoutName) -> Mapping[int, tuple[str, str]]:
    """What each key types, alone and with shift."""
    rows = {**_ROWS[layout], 57: (" ", " "), **_NUMBER_BLOCK, **_TELEPHONE}
    return {
        first + offset: pair
        for first, (plain, shifted) in rows.items()
        for offset, pair in enumerate(zip(plain, shifted, strict=True))
    }
