"""Numbers of the published benchmark (arXiv 2604.09557) that ours are set beside."""

from typing import Final

MEAN_TOKENS: Final = {
    "coding": 218,
    "humanities": 99,
    "math": 131,
    "multilingual": 160,
    "qa": 11,
    "rag": 806,
    "reasoning": 164,
    "roleplay": 464,
    "stem": 115,
    "summarization": 581,
    "writing": 619,
}
"""Mean input tokens per conversation of each category, o200k_base."""
