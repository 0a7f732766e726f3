"""A mirror with 96 candidates of each category, invented: many topics, and per category a request around them."""

from pathlib import Path

from source_records import write_mirror

TOPICS = (
    """
volcanoes|sourdough bread|the stock market|penguins|jazz drumming|dental braces|sailing knots|tax returns|black holes
beekeeping|chess openings|concrete bridges|migraine|wedding vows|comets|tomato plants|prime numbers|lighthouse lamps
password managers|opera singing|coral reefs|train timetables|clay pottery|vaccines|kite flying|gravity|silk weaving
insurance claims|earthquakes|cheese making|typography|polar bears|marathon training|satellite dishes|folk dances
divorce law|dinosaur fossils|espresso machines|glaciers|violin strings|parking meters|photosynthesis|knitting patterns
river dams|asthma inhalers|map projections|butterflies|boxing gloves|nuclear fusion|puppet theatre|rice paddies
wine corks|sleepwalking|wind turbines|mosaic floors|bank robberies|hummingbirds|shoe laces|elections|rainbows
carpet cleaning|submarines|hay fever|origami|truffle hunting|cinema projectors|bicycle gears|hieroglyphs|icebergs
lawn mowers|ballet shoes|electric cars|sandcastles|lie detectors|mountain goats|perfume bottles|tidal waves
kindergarten songs|airport security|goldfish bowls|blacksmith forges|crossword puzzles|desert camels|piano tuning
snowboards|maple syrup|traffic lights|witchcraft trials|moon landings|barbecue sauce|courtroom sketches|yoga poses
fireworks|library catalogues|whale songs|stained glass|pension funds|circus acrobats
""".replace("\n", "|")
    .strip("|")
    .split("|")[:96]
)

FRAMES = {
    "coding": "Write a function that keeps a register of everything to do with {}.",
    "humanities": "What would a historian want to know first about {}, and where would she look?",
    "math": "Books on {0}: three cost 42 coins. What do seven about {0} cost?",
    "translation": "Translate: Ach, {0}! Nichts als {0} auf der Welt?",
    "qa": "who was the first to write about {}",
    "rag": "From the {0} handbook: {0} need patience. What do {0} need?",
    "reasoning": "If {0} fail, {0} are late. {0} are on time: did {0} fail?",
    "roleplay": "You are an old teacher who is tired of {}. A pupil asks about nothing else; answer her.",
    "stem": "Which physical quantity matters most in {}, and how is it measured?",
    "summarization": "Summarize: {0} again! We argued about {0} until noon.",
    "writing": "Write the opening lines of a story in which {} change somebody's mind.",
}
"""Category of the older benchmark -> a request. Its question ids 81 to 160 are those of conversations."""


def topical_mirror(folder: Path) -> Path:
    """Every topic in every frame, as records of one source; two turns in the categories that have them there."""
    rows = [
        {
            "question_id": 1000 + number,
            "category": category,
            "turns": [frame.format(topic), *(["And in one sentence?"] if number % 5 == 0 else [])],
        }
        for category, frame in FRAMES.items()
        for number, topic in enumerate(TOPICS)
    ]
    return write_mirror(folder, {"spec_bench/question.jsonl": rows})
