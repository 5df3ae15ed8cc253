"""The kind of scores that a protocol describes: whether logits, and which hand-crafted features were added."""

from typing import Any, Literal

#: improved dense trajectories; the built-in histograms over a grid; features that the scores file does not name
Features = Literal["idt", "grid", "given"]
#: words for the scores of an SVM on these features
FEATURE_WORDS: dict[Features, str] = {"idt": "IDT", "grid": "SVM on a grid", "given": "given scores"}


def holds_logits(protocol: dict[str, Any]) -> bool:
    """True if scores are a network's logits or averages of them, so their softmax is a confidence.

    An SVM's signed distances, L2-normalised scores and scores of unknown origin are not.
    """
    if "idt" in protocol:
        return False
    if parts := protocol.get("parts"):
        return all(holds_logits(part) for part in parts)
    return "average" in protocol or protocol.get("scores") == "before_softmax"


def find_features(protocol: dict[str, Any]) -> Features | None:
    """Return the features whose scores were averaged with a network's, by the protocol of the result.

    They are improved dense trajectories only if the SVM's scores file says so (`"features": "idt"` in its protocol).

    Returns:
        None if none were.
    """
    if "idt" not in protocol:
        return None
    idt = protocol["idt"] if isinstance(protocol["idt"], dict) else {}
    found = str(idt.get("features", "")).lower()
    if found == "idt":
        return "idt"
    # older protocols don't name features: the built-in SVM is recognised by its words
    return "grid" if found == "grid" or str(idt.get("words", "")).endswith("histograms over a grid") else "given"
