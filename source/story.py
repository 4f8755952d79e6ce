"""The story the generated shop tells: every rate and weight, in one place.

Weights are relative and whole where they can be. What an analysis should find is
written here; `tests/source/test_effects.py` finds it again in the data.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """A market: how many customers, how active, how ready to buy, how loyal.

    Attributes:
        share: weight among customers.
        activity: weight of a customer's sessions.
        conversion: weight of a customer's orders beside the activity.
        tiers: weights of bronze, silver, gold, platinum.
        top_level: ending of the e-mail addresses.
        first, last: names, with the letters people really have.
    """

    name: str
    share: int
    activity: float
    conversion: float
    tiers: tuple[int, int, int, int]
    top_level: str
    first: tuple[str, ...]
    last: tuple[str, ...]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


REGIONS = (
    Region(
        "British Isles", 20, 1.25, 1.10, (52, 27, 15, 6), "co.uk",
        _names("Olivia Amelia George Harry Siân Aoife Callum Niamh Oisín Priya Imran Zoë"),
        _names("Smith O'Brien Jones Ó'Súilleabháin Taylor Patel Khan MacLeod Davies Byrne Wright Begum"),
    ),
    Region(
        "DACH", 18, 1.05, 1.35, (48, 28, 17, 7), "de",
        _names("Jürgen Anna Lukas Käthe Björn Sophie Maximilian Ümit Gisela Felix Rösli Heidi"),
        _names("Müller Schmidt Schröder Weiß Groß Huber Öztürk Fischer Jäger Bühler Vogel Keller"),
    ),
    Region(
        "France", 14, 1.00, 1.00, (58, 25, 12, 5), "fr",
        _names("Léa Chloé Jérôme François Hélène Théo Noël Inès Maëlle Benoît Amélie Gaël"),
        _names("Dubois Lefèvre Moreau Béranger Garçon Girard Noël Benoît Leroy Rémond Da-Silva D'Angély"),
    ),
    Region(
        "Nordics", 10, 1.30, 1.20, (45, 29, 18, 8), "se",
        _names("Åsa Björn Søren Freja Øystein Linnéa Mikkel Aino Väinö Guðrún Sigríður Lars"),
        _names("Åkesson Sørensen Bjørnstad Lindqvist Mäkinen Jónsdóttir Håkansson Østergård Virtanen Nyström Dahl Þórsson"),
    ),
    Region(
        "Iberia", 10, 0.85, 0.80, (66, 22, 9, 3), "es",
        _names("José María Íñigo Begoña João Inês Núria Xoán Andrés Conceição Martín Lucía"),
        _names("García Fernández Muñoz Gonçalves Araújo Ibáñez Núñez Simões Peña López Carvalho Güell"),
    ),
    Region(
        "Italy", 10, 0.80, 0.90, (62, 24, 10, 4), "it",
        _names("Niccolò Giulia Matteo Chiara Lorenzo Sofia Andrea Martina Davide Elena Noè Zaira"),
        _names("Rossi Esposito D'Amico Niccolò De-Luca Ferrari Bianchi Dell'Acqua Conti Greco Cantù Fois"),
    ),
    Region(
        "Benelux", 7, 1.10, 1.15, (54, 26, 14, 6), "nl",
        _names("Daan Sanne Joris Zoë Loïc Femke Anaïs Thijs Maarten Noémie Jörg Liesbeth"),
        _names("De-Vries Janssens Van-'t-Hoff Peeters Willems Dupont Muller Bakker Maes Wouters Visser Reuter"),
    ),
    Region(
        "Central Europe", 6, 0.70, 0.75, (70, 20, 8, 2), "pl",
        _names("Łukasz Żaneta Jiří Tomáš Zsófia Győző Małgorzata Ľudmila Křištof István Agnieszka Šárka"),
        _names("Kowalski Wiśniewska Dvořák Nováková Szőke Ďurica Łęcki Horváth Černý Zieliński Tóth Ježek"),
    ),
    Region(
        "Balkans", 3, 0.60, 0.60, (76, 17, 6, 1), "gr",
        _names("Γιώργος Ελένη Иван Мария Đorđe Živka Ștefan Ioana Νίκος Боян Luka Ćiro"),
        _names("Παπαδόπουλος Иванов Đoković Ćosić Țurcanu Ionescu Νικολαΐδης Петрова Šarić Žunić Popa Димитров"),
    ),
    Region(
        "Baltics", 2, 0.75, 0.70, (72, 19, 7, 2), "ee",
        _names("Mārtiņš Žygimantas Õnne Jānis Eglė Ülle Kārlis Rūta Pärtel Inga Ģirts Aistė"),
        _names("Bērziņš Kazlauskienė Õunapuu Kalniņa Jokūbaitis Tamm Žukauskas Ozoliņš Sepp Šimkus Põder Liepa"),
    ),
)  # fmt: skip

# Letters that are no Latin letter with an accent, as people write them in addresses.
LATIN = {
    **dict(zip("øđłßþðæœıіə", ("o", "d", "l", "ss", "th", "d", "ae", "oe", "i", "i", "e"))),
    **dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω",
               ("a", "v", "g", "d", "e", "z", "i", "th", "i", "k", "l", "m", "n", "x",
                "o", "p", "r", "s", "s", "t", "u", "f", "ch", "ps", "o"))),
    **dict(zip("абвгдежзийклмнопрстуфхцчшщъьюя",
               ("a", "b", "v", "g", "d", "e", "zh", "z", "i", "y", "k", "l", "m", "n",
                "o", "p", "r", "s", "t", "u", "f", "h", "ts", "ch", "sh", "sht", "a",
                "y", "yu", "ya"))),
}  # fmt: skip

TIER_ACTIVITY = (1.0, 1.5, 2.2, 3.4)
TIER_CONVERSION = (1.0, 1.25, 1.6, 2.1)

# Years of age at the start of the range: (from, to exclusive, weight).
AGES = (
    (14, 18, 4), (18, 25, 14), (25, 35, 24), (35, 45, 20), (45, 55, 16),
    (55, 65, 12), (65, 89, 10),
)  # fmt: skip
# Classes of behaviour: under 25, 25-44, 45-64, 65 and more, unknown.
AGE_CLASSES = (25, 45, 65)
AGE_UNKNOWN = 4
AGE_ACTIVITY = (1.30, 1.15, 0.90, 0.65, 0.95)
AGE_CONVERSION = (0.60, 1.20, 1.15, 0.85, 1.00)
# Moves while browsing: view, search, click, add_to_cart, wishlist, review.
BROWSING = (
    (40, 8, 30, 9, 22, 3),
    (40, 16, 24, 16, 9, 5),
    (36, 26, 18, 12, 5, 10),
    (30, 38, 12, 8, 2, 17),
    (38, 20, 22, 12, 8, 7),
)
# Devices: mobile, desktop, tablet.
DEVICE_WEIGHTS = (
    (84, 10, 6), (64, 26, 10), (40, 42, 18), (22, 48, 30), (55, 33, 12),
)  # fmt: skip
BROWSE_LENGTHS = (20, 18, 14, 11, 9, 7, 6, 4, 3, 2, 2, 1, 1, 1, 1)
ORDER_LINES = (56, 22, 11, 6, 3, 2)
# Per mille of the bought products that were searched for, clicked and reviewed.
BUY_SEARCHED, BUY_CLICKED, BUY_REVIEWED = 150, 350, 60
# Most of a block's interactions that may belong to orders; the rest is browsing.
BUYING_SHARE = 0.8

# Time: January to December, Monday to Sunday, the 24 hours of a UTC day.
MONTHS = (88, 80, 90, 94, 97, 95, 90, 92, 103, 112, 178, 138)
WEEKDAYS = (96, 92, 93, 97, 106, 114, 102)
HOURS = (
    10, 6, 4, 3, 4, 8, 18, 34, 46, 52, 56, 60, 66, 62, 56, 54, 58, 66, 78, 92, 96, 80,
    50, 24,
)  # fmt: skip
# Growth of the daily traffic: twice as much after this many days.
DOUBLING_DAYS = 1100

CATEGORIES = (
    "Electronics", "Home & Kitchen", "Fashion", "Toys & Games", "Beauty",
    "Sports & Outdoors", "Books", "Garden", "Grocery", "Pet Supplies",
)  # fmt: skip
CATEGORY_SHARES = (12, 16, 20, 9, 10, 9, 10, 5, 6, 3)
# Typical price in cents.
CATEGORY_PRICES = (8900, 3400, 2900, 2200, 1500, 3900, 1300, 2700, 650, 1400)
# The category that each month pulls forward, January to December.
SEASONAL = (5, 4, 2, 7, 7, 7, 5, 6, 6, 1, 0, 3)
# Of 1,024 products looked at: seasonal, the region's own favourites, unknown ids.
SEASONAL_SHARE, REGIONAL_SHARE, UNKNOWN_SHARE = 230, 420, 1
NOUNS = (
    _names("Headphones Charger Lautsprecher Tastatur Caméra Monitor"),
    _names("Kettle Pan Wok Crêpière Lampe Teapot"),
    _names("Jacket Scarf Größe-L-Hemd Béret Sneaker Cardigan"),
    _names("Puzzle Robot Dollhouse Jeu-d'échecs Kite Marbles"),
    _names("Crème Shampoo Sérum Lipstick Balsam Soap"),
    _names("Tent Yoga-Mat Bicycle-Bell Skischuh Rucksack Dumbbell"),
    _names("Novel Atlas Cookbook Größenwahn-Roman Diary Comic"),
    _names("Rose Spade Hängematte Watering-Can Trellis Birdhouse"),
    _names("Café Honey Jalapeños Pâté Müsli Tea"),
    _names("Leash Catnip Aquarium Näpfchen Birdseed Basket"),
)
ADJECTIVES = _names(
    "Red Blue Petite Große Classic Mini Deluxe Organic Vintage Slim Señorita Smart "
    "Cosy Élégant Rustic Nordic"
)

# Order statuses once an order has settled, per mille: delivered, cancelled, returned.
SETTLED = (860, 62, 78)
SETTLED_AFTER_DAYS = 8

# Dirt, as "one in so many" where not said otherwise.
ORPHAN_SESSIONS = 1024  # sessions and orders whose customer nobody lists
ORPHAN_LINES = 2048  # orders with one more line, of an order below 0 that never came
# Whom an orphan names: nobody who will ever be listed, else the newcomers of a later
# day would take the ids of years ago. In the last days it may be one about to come.
NOBODY, COMING_DAYS, COMING_BITS = 0, 3, 2
NULL_BIRTH_DATES = 33
NULL_PRODUCTS = 256  # beside searches, which name no product
DOUBLE_SENT = 256  # clicks, searches, carts and wishes sent twice in their place
LATE_DAY, LATE_WEEK = 80, 340  # recorded up to 2 days late, up to 10 days late
TWIN_CUSTOMERS, TWIN_PRODUCTS = 300, 200  # same content under another id
FREE_PRODUCTS = 500  # price zero
