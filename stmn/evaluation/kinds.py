"""What kind of scores a protocol describes: a network's logits or not, and which hand-crafted features were added."""

from typing import Any, Literal

#: improved dense trajectories; the built-in histograms over a grid; scores of features that are not named
Features = Literal["idt", "grid", "given"]
#: what people call scores that were fused with an SVM's on these features
FEATURE_WORDS: dict[Features, str] = {"idt": "IDT", "grid": "SVM on a grid", "given": "given scores"}


def holds_logits(protocol: dict[str, Any]) -> bool:
    """True if scores are a network's logits, or averages of them, so that their softmax is a confidence.

    Distances from an SVM's planes, scores of unit length and scores of unknown origin are not.
    """
    if "idt" in protocol:
        return False
    if parts := protocol.get("parts"):
        return all(holds_logits(part) for part in parts)
    return "average" in protocol or protocol.get("scores") == "before_softmax"


def find_features(protocol: dict[str, Any]) -> Features | None:
    """Which features' scores were averaged with a network's, by the protocol of the result.

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
    # before features were named, the built-in SVM was known by its words alone
    return "grid" if found == "grid" or str(idt.get("words", "")).endswith("histograms over a grid") else "given"
