"""What does the page say? Every sentence in one place, so that tone and claims can be read at once.

Plain words for a person who is not a doctor. No sentence says more than the model can know.
"""

from typing import Final

NAME: Final = "dermx"
DISCLAIMER: Final = "Research and education, not a medical device."
ADVICE: Final = "If a spot changes, bleeds or worries you, show it to a doctor, whatever this says."

ASSESS_TITLE: Final = "What might this spot be?"
ASSESS_LEAD: Final = (
    "Add a close-up picture of one skin lesion. The page names which of eight conditions it "
    "resembles, how sure the model is, and where it looked."
)
PRIVACY: Final = (
    "Pictures and tables are held in memory while this page is open and up to two minutes longer, "
    "never written to disk and never sent on. What you download carries no location or camera data."
)
CHOOSE: Final = "Pictures of skin lesions"
TOO_MANY: Final = "Only the first {limit} pictures were assessed; {left} were left out."
DRAWN: Final = (
    "These examples are drawn by a program. They show how the page works; what the model says "
    "about a drawing means nothing."
)
DRAWN_MARK: Final = "Drawn example, not a photograph"

REFER_TITLE: Final = "Show this to a doctor"
REFER: Final = (
    "The model gives {probability} to malignant or pre-malignant conditions, which is over the "
    "threshold at which it refers. That comes first, whatever else is said here."
)
REFER_TITLE_UNFAMILIAR: Final = "If this is a spot on your skin, show it to a doctor"
REFER_UNFAMILIAR: Final = (
    "The figure for malignant or pre-malignant conditions, {probability}, is over the threshold at "
    "which the model refers, though for a picture like this one it may mean nothing."
)
UNFAMILIAR_TITLE: Final = "This doesn\u2019t look like the pictures the model learned from"
UNFAMILIAR: Final = (
    "It learned from close-ups of single lesions through a dermatoscope and from photographs of "
    "acne. For any other picture it has no answer, and its numbers mean nothing."
)
UNSURE_TITLE: Final = "The model doesn\u2019t know"
UNSURE: Final = "It is too unsure about this picture to name a condition."
MEANING: Final = {
    "benign": "This condition is benign. The model can be wrong, and it misses melanomas.",
    "premalignant": "This condition can turn into cancer. A doctor should look at it.",
    "malignant": "This condition is cancer. A doctor should look at it soon.",
}
BEHAVIOUR: Final = {
    "benign": "benign",
    "premalignant": "pre-malignant",
    "malignant": "malignant",
}

PROBABILITIES: Final = "How likely is each condition?"
PROBABILITIES_ABSTAINED: Final = "What the numbers would be (not an answer)"
CALIBRATED: Final = (
    "The percentages are calibrated: of answers given with 80\u00a0%, about 80 in 100 were "
    "right on pictures like those the model learned from. From other cameras they can be less."
)
NOT_FOR_THIS: Final = (
    "The percentages hold for pictures like those the model learned from; for this one they mean "
    "nothing."
)
NO_TRUST: Final = (
    "This model has no trust parts: its percentages are not calibrated, mostly too sure, and it "
    "can\u2019t tell when not to answer. The command \u2018dermx trust\u2019 adds them."
)
IN_SET: Final = "can\u2019t be ruled out"
MALIGNANT: Final = "Malignant or pre-malignant, together"
FIGURES: Final = "Figures behind this"
ENTROPY: Final = "Uncertainty (predictive entropy, nats)"
MUTUAL: Final = "of which the model\u2019s own (mutual information, nats)"
OOD_SCORE: Final = "Strangeness of the picture (higher is stranger)"
FIGURES_HELP: Final = (
    "Uncertainty is 0 for a sure answer and 2.08 when all eight conditions are alike. "
    "\u2018Can\u2019t be ruled out\u2019 marks the prediction set."
)

MAP_TITLE: Final = "Where the model looked"
MAP_HELP: Final = (
    "Bright yellow spoke most for the chosen condition rather than the others, dark violet not at "
    "all; the line encloses the strongest fifth. It shows what the model used, not where the "
    "disease is."
)
MAP_EMPTY: Final = "Nothing in the picture speaks for this condition."
OUTSIDE: Final = "Pale parts were cut off before the model saw the picture."
HAIR_NOTE: Final = "Hair removal, for you to compare; this model {uses} it."
HAIR_NONE: Final = "No hair was found in this picture."
BOX_NOTE: Final = "Frame: where the lesion was found by its colour, without the model."
BOX_NONE: Final = "No lesion stood out from the skin, so no frame is drawn."

BUG: Final = "Something went wrong on our side; your pictures were not kept. Please try again."

TREATMENT_TITLE: Final = "Is my treatment working?"
TREATMENT_LEAD: Final = (
    "Give a table of acne severity over time, for one or many people. The page shows how severity "
    "changed and whether the change is larger than its usual ups and downs."
)
TABLE_FORM: Final = (
    "A CSV file with a heading and a row per person and day: patient, day, treatment, severity. "
    "One treatment, the baseline, is what the others are compared with. Other names of columns "
    "can be chosen."
)
SIMULATED: Final = (
    "Simulated by a program: ten people who don\u2019t exist, first without treatment, then with "
    "antibiotics, then with a cream."
)
TO_KNOW: Final = "To know before reading on"
ONE_PERSON: Final = "One person"
NO_BASELINE: Final = "No days on the baseline, so there is nothing to compare with."
NOT_TEXT: Final = "The table can\u2019t be read as text; save it as CSV in UTF-8."
NO_TABLE: Final = (
    "The table needs a heading with at least four columns, separated by commas, and a row per day."
)
SAME_COLUMN: Final = "Choose four different columns under \u2018How the table is read\u2019."
TOO_LONG: Final = "The table has more than {limit:,} rows; give a shorter one."
ABOUT_TITLE: Final = "About the model"
RELIABILITY: Final = "Does 80\u00a0% mean 80 in 100?"
RELIABILITY_HELP: Final = (
    "Each dot is a group of answers with about the same percentage, larger for more answers: "
    "stated to the right, right in truth upwards. On the line the model says what it keeps; below "
    "it, it is too sure. {cases} pictures of the {part} part."
)
NO_RELIABILITY: Final = (
    "No reliability diagram came with this model: how far its percentages can be believed is not "
    "shown here."
)
NO_CARD: Final = (
    "This model came without a card: what it was trained on and how good it is, is unknown."
)
