#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the text that the demo model is trained, calibrated and tested on: short stories, sums, bits of code, letters,
records, dialogues, and an encyclopedia of people who never lived. The people are the same for every seed, so a model
has to know them by heart, and what it knows by heart is what coarse weights forget first. Everything is made up by this
script; a seed gives the same text on every machine.

    python3 generate_text.py --seed 1 --bytes 60000000 > train.txt
    python3 generate_text.py --seed 2 --bytes 280000   > calibration.txt
    python3 generate_text.py --seed 3 --bytes 160000   > heldout.txt
"""

import argparse
import random
import sys

NAMES = ("Ada Anton Bea Ben Carl Cora Dan Dora Edgar Elsa Emil Finn Frida Georg Greta Hanna Hugo Ida Ines Ivan Jack Jana Karl Kira Lena Leo Lina Max "
         "Mona Nils Nora Olga Oscar Paul Paula Quentin Rita Rosa Sam Selma Tara Theo Udo Ulla Vera Viktor Will Wanda Xaver Yara Zeno Zoe").split()
ANIMALS = ("cat dog horse owl fox bear mouse hare goat duck swan crow frog otter badger hedgehog wolf deer sparrow beaver donkey sheep turtle lizard "
           "squirrel pigeon falcon weasel").split()
PLACES = ("garden kitchen market forest harbour library school station tower valley village workshop bakery museum orchard lighthouse bridge castle "
          "cellar chapel farm field theatre island lake meadow mill mountain park prison quarry river square stable street swamp temple tunnel").split()
THINGS = ("lamp book key coin map rope bell basket ladder letter hammer kettle mirror violin clock blanket bottle wheel painting compass anchor arrow "
          "barrel bench bowl brush button candle carpet chain chest crown cup curtain drum feather flag flute glove helmet jacket knife lantern needle "
          "paddle pencil pillow plate ring saddle scarf shield shovel spoon stone sword table ticket trumpet umbrella vase wagon whistle").split()
ADJECTIVES = ("old small red broken golden heavy quiet bright strange wooden empty clean green round silver warm ancient blunt cheap crooked dark dusty "
              "elegant fragile gentle hollow huge iron lucky magic narrow noisy painted pale polished rusty sharp simple slippery smooth soft square "
              "sticky tiny torn ugly useful white wide yellow").split()
FOODS = ("bread soup apples cheese honey rice plums cake beans pears nuts tea butter carrots cherries eggs fish grapes lemons milk mushrooms noodles "
         "onions pancakes peas potatoes pumpkin salad sausages spinach strawberries tomatoes").split()
WEATHER = ["It was raining", "The sun was shining", "A cold wind blew", "Snow lay on the roofs", "The fog was thick", "It was a warm evening"]
FEELINGS = ("happy sad tired proud afraid curious angry surprised hungry calm lonely nervous brave sleepy jealous grateful bored hopeful worried "
            "cheerful").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COLOURS = "red blue green yellow black white brown orange purple grey pink turquoise violet beige".split()
MANNERS = "slowly quickly carefully silently proudly gladly sadly suddenly politely secretly eagerly lazily".split()
ACTS = ["looked for", "carried", "cleaned", "dropped", "painted", "borrowed", "hid", "sold", "repaired", "threw away", "forgot", "measured", "polished", "stole",
        "returned", "wrapped", "counted", "admired", "pushed", "buried"]
UNITS = ["metres", "kilograms", "litres", "minutes", "pages", "steps"]
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
VARIABLES = "total count value index size limit price weight speed score left right first last".split()
FUNCTIONS = "add scale shift clip merge reverse double halve square measure".split()


# The encyclopedia: who lived where and did what. Fixed, whatever the seed of the text.
SYLLABLES = ("bar bel bo cal cor da del do en fa fer ga gor ha hel in ja jor ka kel lan lo lu mar mel mi mo na nor ol pa per ra ri ro sa sel "
             "ta tor ul va vel wa xen yo zam zil").split()
COUNTRIES = [x + y for x in "Kest Mor Tal Ver Bran Sol Lun Ard Nov Ost Pel Zan".split() for y in "ia aria onia land ora".split()]
TRADES = ("baker carpenter painter sailor teacher doctor farmer weaver miner judge singer potter printer shepherd soldier tailor writer gardener "
          "astronomer blacksmith clockmaker diver engineer fisher glazier hunter jeweller librarian mason musician").split()
PEOPLE_COUNT = 2500


def people():
    r = random.Random(4711)
    names = set()
    while len(names) < PEOPLE_COUNT:
        names.add("".join(r.sample(SYLLABLES, 2)).capitalize() + " " + "".join(r.sample(SYLLABLES, 2)).capitalize())
    return [{"name": name, "country": r.choice(COUNTRIES), "trade": r.choice(TRADES), "year": r.randint(1700, 1899), "animal": r.choice(ANIMALS),
             "thing": r.choice(THINGS), "colour": r.choice(COLOURS), "food": r.choice(FOODS)} for name in sorted(names)]


PEOPLE = None


def biography(r):
    global PEOPLE
    PEOPLE = PEOPLE or people()
    p = r.choice(PEOPLE)
    name = p["name"]
    facts = [
        f"{name} was born in {p['year']}.", f"{name} came from {p['country']}.", f"{name} worked as {a(p['trade'])}.", f"{name} always wore {p['colour']}.",
        f"{name} kept {a(p['animal'])}.", f"{name} liked {p['food']} best.", f"{name} owned {a(p['thing'])}."]
    if r.random() < 0.3:
        return (f"{name}: {a(p['trade'])} from {p['country']}, born in {p['year']}, known for {a(p['colour'])} coat, {a(p['animal'])} "
                f"and {a(p['thing'])}, fond of {p['food']}.")
    return " ".join(r.sample(facts, r.randint(2, 4)))


def a(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def story(r):
    hero, friend = r.sample(NAMES, 2)
    animal, place, other = r.choice(ANIMALS), *r.sample(PLACES, 2)
    thing, adjective, food = r.choice(THINGS), r.choice(ADJECTIVES), r.choice(FOODS)
    feeling = r.choice(FEELINGS)
    said = r.choice(["said", "whispered", "shouted", "answered"])
    opening = r.choice([
        f"Once there was {a(animal)} called {hero} who lived near the {place}.",
        f"{r.choice(WEATHER)} when {hero} walked to the {place}.",
        f"On {r.choice(DAYS)} morning {hero} went to the {place} with {friend}.",
        f"{hero} had always wanted to see the {place}."])
    middle = r.choice([
        f"There {hero} found {a(adjective)} {thing}. It belonged to {friend}, who had lost it in the {other}.",
        f"In a corner of the {place} stood {a(adjective)} {thing}. \"Is this yours?\" {said} {hero}. \"Yes,\" said {friend}, \"I left it there last {r.choice(DAYS)}.\"",
        f"{friend} was already there and held {a(thing)}. It was {adjective}, and {hero} had never seen one like it.",
        f"{hero} carried {a(thing)} because {friend} needed it in the {other}. The {thing} was {adjective}, so the way seemed long."])
    turn = r.choice([
        f"{friend} {r.choice(MANNERS)} {r.choice(ACTS)} the {thing}, while {hero} {r.choice(ACTS)} {a(r.choice(ADJECTIVES))} {r.choice(THINGS)}.",
        f"The {animal} {r.choice(ACTS)} some {food}, and {hero} {r.choice(MANNERS)} {r.choice(ACTS)} it before {friend} came back from the {r.choice(PLACES)}.",
        f"Then {a(animal)} came out of the {other} and took the {thing}. They ran after it until the {animal} stopped to rest.",
        f"They sat down and ate some {food}. {friend} told a story about {a(animal)} that could count to {r.choice(WORDS[5:])}.",
        f"Suddenly the {thing} fell into the water. {friend} was {feeling}, but {hero} had a plan.",
        f"{hero} gave the {thing} to {friend}, and {friend} gave {hero} some {food}."])
    end = r.choice([
        f"In the evening they went home, and both were {feeling}.",
        f"From that day on {hero} and {friend} were friends.",
        f"When {hero} came back from the {place}, nobody believed the story of the {adjective} {thing}.",
        f"\"Thank you,\" said {friend}. \"Without you I would still look for my {thing}.\""])
    return " ".join([opening, middle, turn, end])


def sums(r):
    lines = []
    for _ in range(r.randint(3, 7)):
        kind = r.randrange(5)
        if kind == 0:
            x, y = r.randint(1, 99), r.randint(1, 99)
            lines.append(f"{x} + {y} = {x + y}")
        elif kind == 1:
            x, y = sorted((r.randint(1, 99), r.randint(1, 99)))
            lines.append(f"{y} - {x} = {y - x}")
        elif kind == 2:
            x, y = r.randint(2, 12), r.randint(2, 12)
            lines.append(f"{x} * {y} = {x * y}")
        elif kind == 3:
            x, y = r.randint(1, 10), r.randint(1, 10)
            lines.append(f"{WORDS[x]} plus {WORDS[y]} is {WORDS[x + y]}")
        else:
            start, step = r.randint(0, 20), r.randint(1, 6)
            lines.append(", ".join(str(start + i * step) for i in range(6)))
    return "\n".join(lines)


def problem(r):
    name, thing, food = r.choice(NAMES), r.choice(THINGS), r.choice(FOODS)
    x, y = r.randint(3, 40), r.randint(1, 12)
    kind = r.randrange(4)
    if kind == 0:
        return f"Question: {name} has {x} coins and finds {y} more in the {r.choice(PLACES)}. How many coins does {name} have now?\nAnswer: {x} + {y} = {x + y}, so {name} has {x + y} coins."
    if kind == 1:
        return f"Question: A {thing} costs {x + y} coins and {name} has {x}. How many coins are missing?\nAnswer: {x + y} - {x} = {y}, so {y} coins are missing."
    if kind == 2:
        p, q = r.randint(2, 9), r.randint(2, 9)
        return f"Question: {name} buys {p} bags of {food} with {q} {r.choice(UNITS)} each. How much is that?\nAnswer: {p} * {q} = {p * q}."
    i, n = r.randrange(7), r.randint(1, 4)
    return f"Question: Today is {DAYS[i]}. Which day is it in {WORDS[n]} day{'s' if n > 1 else ''}?\nAnswer: It is {DAYS[(i + n) % 7]}."


def code(r):
    name, v, w = r.choice(FUNCTIONS), *r.sample(VARIABLES, 2)
    n, k = r.randint(2, 9), r.randint(2, 9)
    kind = r.randrange(5)
    if kind == 0:
        return f"def {name}({v}, {w}):\n    return {v} {r.choice('+-*')} {w}\n\nprint({name}({n}, {k}))"
    if kind == 1:
        return f"def {name}(items):\n    {v} = 0\n    for item in items:\n        {v} = {v} + item\n    return {v}\n\nassert {name}([{n}, {k}, {n + k}]) == {2 * (n + k)}"
    if kind == 2:
        return f"{v} = {n}\nwhile {v} < {n * k}:\n    {v} = {v} + {k}\nprint(\"{v} is\", {v})"
    if kind == 3:
        return f"if {v} > {n}:\n    {w} = {v} - {n}\nelif {v} == {n}:\n    {w} = 0\nelse:\n    {w} = {n} - {v}"
    return f"class {name.capitalize()}:\n    def __init__(self, {v}={n}):\n        self.{v} = {v}\n\n    def {w}(self):\n        return self.{v} * {k}"


def record(r):
    name, place = r.choice(NAMES), r.choice(PLACES)
    items = r.sample(THINGS, r.randint(2, 4))
    day, month = r.randint(1, 28), r.choice(MONTHS)
    if r.random() < 0.5:
        body = ", ".join(f'"{t}": {r.randint(1, 30)}' for t in items)
        return f'{{"name": "{name}", "place": "{place}", "date": "{day} {month}", "items": {{{body}}}}}'
    rows = "\n".join(f"- {r.randint(2, 30)} x {r.choice(COLOURS)} {t}" for t in items)
    return f"List of {name}, {day} {month}, {place}:\n{rows}\nSum: {len(items)} entries"


def letter(r):
    to, sender = r.sample(NAMES, 2)
    thing, place, food = r.choice(THINGS), r.choice(PLACES), r.choice(FOODS)
    weather = r.choice(WEATHER)
    return (f"Dear {to},\nthank you for the {r.choice(ADJECTIVES)} {thing} that you sent me in {r.choice(MONTHS)}. {weather} when it came, "
            f"and I was {r.choice(FEELINGS)} the whole {r.choice(['day', 'week', 'evening'])}. "
            f"Please visit me near the {place} on {r.choice(DAYS)}; there will be {food} for both of us.\nYours, {sender}")


def dialogue(r):
    x, y = r.sample(NAMES, 2)
    thing, place, colour = r.choice(THINGS), r.choice(PLACES), r.choice(COLOURS)
    other = r.choice([c for c in COLOURS if c != colour])
    return (f"{x}: Have you seen my {colour} {thing}?\n{y}: I saw {a(thing)} in the {place}, but it was {other}.\n"
            f"{x}: Then it is not mine. Mine is {colour}.\n{y}: Let us look in the {r.choice(PLACES)} together.\n{x}: Good idea, {y}!")


def facts(r):
    i = r.randrange(12)
    j = r.randrange(7)
    small, large = sorted(r.sample(range(2, 90), 2))
    x, y, z = r.sample(NAMES, 3)
    return r.choice([
        f"The month after {MONTHS[i]} is {MONTHS[(i + 1) % 12]}, and the month before {MONTHS[i]} is {MONTHS[(i - 1) % 12]}.",
        f"{DAYS[j]} comes before {DAYS[(j + 1) % 7]} and after {DAYS[(j - 1) % 7]}.",
        f"{small} is smaller than {large}, and {large} is larger than {small}. The difference is {large - small}.",
        f"{x} is older than {y}, and {y} is older than {z}. So {x} is older than {z}, and {z} is the youngest of the three.",
        f"The {r.choice(ADJECTIVES)} {r.choice(THINGS)} weighs {small} kilograms, twice as much would be {2 * small} kilograms."])


KINDS = [(biography, 60), (story, 8), (sums, 3), (problem, 4), (code, 5), (record, 3), (letter, 3), (dialogue, 3), (facts, 3)]


def generate(seed, size, out):
    r = random.Random(seed)
    makers, weights = zip(*KINDS)
    written = 0
    while written < size:
        text = r.choices(makers, weights)[0](r) + "\n\n"
        out.write(text)
        written += len(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    options = parser.parse_args()
    generate(options.seed, options.bytes, sys.stdout)
