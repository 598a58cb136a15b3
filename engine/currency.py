"""The currencies that there are: codes and smallest coins, so that a mistyped code is found before it is booked."""

from __future__ import annotations

_IN_USE = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
    "GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
    "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB "
    "PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
    "TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER "
    "ZAR ZMW ZWG"
)
CODES = frozenset(_IN_USE.split())
"""Alphabetic codes in use. Source: ISO 4217, list one, 2025; without metals, test codes and units of account."""

_BY_MINOR_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_MINOR_DIGITS = {code: digits for digits, codes in _BY_MINOR_DIGITS.items() for code in codes.split()}


def minor_digits(currency: str) -> int:
    """Digits after the point of an amount: 0 for JPY, 3 for KWD, 2 for most. Source: ISO 4217, list one, 2025."""
    return _MINOR_DIGITS.get(currency, 2)


def nearest_code(text: str) -> str | None:
    """The code that was likely meant: all but one of its letters in place; None where there is none."""

    def num_equal(code: str) -> int:
        return sum(one == other for one, other in zip(code, text.upper(), strict=False))

    best = max(sorted(CODES), key=num_equal)
    return best if num_equal(best) >= len(best) - 1 else None
