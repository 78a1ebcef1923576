#!/usr/bin/env python3
"""Declarations that nobody uses, or that say too little: what tflint's recommended rules for Terraform ask for. tflint itself
is in none of the registries that this repository's checks may use.

Reads text that `terraform fmt` has laid out. First every rule is held against a module that breaks it, then against ours.
"""

import re
import sys
from pathlib import Path

INFRA = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r'^(?P<kind>\w+)(?: "(?P<type>[^"\n]+)")??(?: "(?P<name>[^"\n]+)")? \{\n(?P<body>.*?)^\}\n', re.MULTILINE | re.DOTALL)
LOCAL = re.compile(r"^  (\w+)\s+=", re.MULTILINE)

BROKEN = """
variable "unused" {
  type        = string
  description = "Of no use."
}
variable "untyped" {
  description = "Anything."
}
variable "undescribed" {
  type = string
}
locals {
  forgotten = var.untyped
}
data "aws_region" "nowhere" {
}
resource "aws_sqs_queue" "Queue-1" {
  name = "${var.undescribed}"
}
output "silent" {
  value = 1
}
"""
FOUND = {
    "variable unused is not used",
    "variable untyped has no type",
    "variable undescribed has no description",
    "local forgotten is not used",
    "data aws_region.nowhere is not used",
    "resource Queue-1 is not named in snake case",
    '"${var.undescribed}" is an expression in quotes',
    "output silent has no description",
    "required_version is not set",
    "required_providers is not set",
}


def mistakes(text):
    def used(reference):
        return re.search(rf"\b{re.escape(reference)}\b", text)

    for block in BLOCK.finditer(text):
        kind, name, body = block["kind"], block["name"], block["body"]
        if name and not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            yield f"{kind} {name} is not named in snake case"
        if kind == "variable" and not used(f"var.{name}"):
            yield f"variable {name} is not used"
        if kind == "variable" and not re.search(r"^  type\s+=", body, re.MULTILINE):
            yield f"variable {name} has no type"
        if kind in ("variable", "output") and not re.search(r"^  description\s+=", body, re.MULTILINE):
            yield f"{kind} {name} has no description"
        if kind == "data" and not used(f"data.{block['type']}.{name}"):
            yield f"data {block['type']}.{name} is not used"
        if kind == "locals":
            yield from (f"local {one} is not used" for one in LOCAL.findall(body) if not used(f"local.{one}"))
    for quoted in re.findall(r'(?<== )"\$\{[^{}"]+\}"(?=$|,)', text, re.MULTILINE):
        yield f"{quoted} is an expression in quotes"
    for setting in ("required_version", "required_providers"):
        if not re.search(rf"^  {setting}\b", text, re.MULTILINE):
            yield f"{setting} is not set"


def main():
    if (found := set(mistakes(BROKEN))) != FOUND:
        sys.exit(f"the rules do not see what they should: {found ^ FOUND}")
    folders = [INFRA, *sorted(INFRA.glob("modules/*")), *sorted(INFRA.glob("examples/*"))]
    said = [
        f"{folder.relative_to(INFRA.parent)}: {mistake}"
        for folder in folders
        for mistake in mistakes("".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.tf"))))
    ]
    print("\n".join(said) or f"{len(folders)} modules declare what they use, typed and described")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
