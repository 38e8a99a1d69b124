"""Serve fake models: python -m tests.fakes.openai --port N --generate MODELS [--key KEY]."""

import argparse

from tests.fakes.command import FakeCommand
from tests.fakes.openai import OWN_FAULTS, OpenAIService


class OpenAICommand(FakeCommand[list[str]]):
    name = "openai"
    about = "Fake language models on loopback, by the API of OpenAI's chats."
    own_faults = OWN_FAULTS
    generates = ("MODELS", "how many models there are: fake-1, fake-2, ...")

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--key", help="let only this one in")

    def data(self, options: argparse.Namespace) -> list[str]:
        return [f"fake-{number}" for number in range(1, options.generate + 1)]

    def count(self, data: list[str]) -> object:
        return {"models": len(data)}

    def service(self, data: list[str], options: argparse.Namespace) -> OpenAIService:
        return OpenAIService(data, key=options.key)


COMMAND = OpenAICommand()

if __name__ == "__main__":
    COMMAND.main()
