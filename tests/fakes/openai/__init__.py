"""An endpoint of language models that speaks as OpenAI's does; what it answers follows from what
it is asked.
"""

from tests.fakes.openai.service import OWN_FAULTS, OpenAIService, serve

__all__ = ["OWN_FAULTS", "OpenAIService", "serve"]
