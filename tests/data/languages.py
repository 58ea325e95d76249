"""Small catalogues in several languages, drawn from a seed: brand, product, a feature, a model and a colour each."""

import random
from typing import Any

SHOPS: dict[str, dict[str, Any]] = {
    "de": {
        "title": "{brand} {model} {thing} {feature} {colour}",
        "brands": ("Müller", "Adler", "Bergmann", "Krüger"),
        "colours": ("Schwarz", "Weiß", "Rot"),
        "things": {
            "Laufschuhe": ("mit Dämpfung", "für Straßen", "leicht"),
            "Kaffeemaschine": ("mit Mahlwerk", "automatisch", "kompakt"),
            "Handyhülle": ("für iPhone", "stoßfest", "magnetisch"),
            "Rucksack": ("wasserdicht", "20 l", "für Wanderungen"),
        },
    },
    "ja": {
        "title": "{brand} {thing}{feature} {model} {colour}",
        "brands": ("ソニー", "パナソニック", "エレコム"),
        "colours": ("ブラック", "ホワイト", "レッド"),
        "things": {
            "ワイヤレスヘッドホン": ("重低音", "折りたたみ式", "長時間再生"),
            "ワイヤレスマウス": ("静音", "充電式", "薄型"),
            "モバイルバッテリー": ("急速充電", "大容量", "軽量"),
            "電気ケトル": ("温度調節", "おしゃれ", "大容量"),
        },
    },
    "zh": {
        "title": "{brand}{thing}{feature}{model}{colour}",
        "brands": ("索尼", "小米", "华为", "漫步者"),
        "colours": ("黑色", "白色", "红色"),
        "things": {
            "蓝牙耳机": ("降噪", "运动", "入耳式"),
            "无线鼠标": ("静音", "办公", "游戏"),
            "手机壳": ("防摔", "透明", "硅胶"),
            "电热水壶": ("不锈钢", "保温", "家用"),
        },
    },
    "ar": {
        "title": "{thing} {feature} {brand} {colour} {model}",
        "brands": ("نايك", "سامسونج", "هواوي"),
        "colours": ("أسود", "أبيض", "أحمر"),
        "things": {
            "حذاء رياضي": ("للرجال", "خفيف", "للجري"),
            "سماعة لاسلكية": ("مع ميكروفون", "مقاومة للماء"),
            "حقيبة ظهر": ("من الجلد", "للسفر"),
            "ماكينة قهوة": ("مع خزان", "كهربائية"),
        },
    },
    "th": {
        "title": "{thing}{feature} {brand} {model} {colour}",
        "brands": ("โซนี่", "ซัมซุง", "เสียวหมี่"),
        "colours": ("สีดำ", "สีขาว", "สีแดง"),
        "things": {
            "หูฟัง": ("ไร้สาย", "กันน้ำ", "ตัดเสียงรบกวน"),
            "เมาส์": ("ไร้สาย", "เกมมิ่ง", "เงียบ"),
            "เคสมือถือ": ("กันกระแทก", "ใส", "กันน้ำ"),
        },
    },
    "en": {
        "title": "{brand} {model} {thing} {feature} {colour}",
        "brands": ("Acme", "Bolt", "Corvo"),
        "colours": ("Black", "White", "Red"),
        "things": {
            "running shoes": ("with grip", "for men", "light"),
            "coffee maker": ("with grinder", "for two cups", "compact"),
            "phone case": ("for iPhone", "magnetic", "with strap"),
            "backpack": ("waterproof", "for hiking", "20 l"),
        },
    },
}


def records(language: str, count: int = 120, seed: int = 0, first: int = 0) -> list[dict[str, Any]]:
    """Item records as `Catalogue.records` gives them, ids from `first` on."""
    shop, rng = SHOPS[language], random.Random(seed)
    made = []
    for number in range(first, first + count):
        thing = rng.choice(list(shop["things"]))
        said = {
            "thing": thing,
            "brand": rng.choice(shop["brands"]),
            "feature": rng.choice(shop["things"][thing]),
            "colour": rng.choice(shop["colours"]),
            "model": f"{rng.choice('BDGK')}{rng.choice('XZ')}{rng.randint(100, 999)}",
        }
        attributes = {"colour": said["colour"], "wireless": "yes", "net_weight": "1.5"}
        blank = {"category": None, "description": None, "price": None}
        title = shop["title"].format(**said)
        made.append(
            {"item_id": f"i{number}", "title": title, "brand": said["brand"], "attributes": attributes, **blank}
        )
    return made
