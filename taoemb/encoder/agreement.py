"""Texts on which whatever computes vectors must agree with torch before it is used."""

from collections.abc import Sequence

import numpy as np

_LINES = (
    "a",
    "usb c",
    "red running shoes for men size 42",
    "sofa without arms, grey, oak legs, for a living room of 12 m²",
    "what lamp is good for reading at night?",
    '4K TV 55" under 500 €',
    "Laufschuhe für Damen, wasserdicht",
    "chaussures de course étanches pour femme",
    "zapatillas de correr baratas sin cordones",
    "tênis de corrida à prova d'água",
    "buty do biegania męskie",
    "ноутбук для игр с хорошей видеокартой",
    "حذاء رياضي للرجال",
    "נעלי ריצה לגברים",
    "पुरुषों के लिए जूते",
    "รองเท้าวิ่งผู้ชาย",
    "giày chạy bộ nam chống nước",
    "赤いランニングシューズ メンズ",
    "适合夏天的轻便跑鞋",
    "남성용 방수 운동화",
    "🎁 gift for a 5 year old 🦕",
    "iPhone15ProMax-case MagSafe|clear",
)
CHECK_TEXTS = (*_LINES, *(" ".join(_LINES[:count]) for count in (3, 6, 12, len(_LINES))))
"""Many scripts; from one token to beyond any release's limit."""


def lowest_cosine(reference_ND: np.ndarray, vectors_ND: np.ndarray, texts: Sequence[str]) -> tuple[float, str]:
    """The lowest cosine of vectors of the same texts, and its text; NaN counts as the lowest."""
    cosines_N = np.nan_to_num((reference_ND * vectors_ND).sum(1), nan=-1.0)
    lowest = int(cosines_N.argmin())
    return float(cosines_N[lowest]), texts[lowest]
