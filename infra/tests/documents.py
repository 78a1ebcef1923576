#!/usr/bin/env python3
"""Keeps what is written about the module true of it.

  documents.py                      writes the tables of variables and outputs into infra/README.md
  documents.py --check              refuses tables that are out of date, more than 25 variables, more than four required
                                    ones, more than six set-up steps, an alarm without a paragraph, a metric of a log
                                    line that nobody logs, a fleet's setting without a row, settings of the supervisor
                                    that are not those of instance/README.md
  documents.py --configuration PLAN compares the configuration document of tests/document.tftest.hcl (PLAN is the output of
                                    `terraform test -json -verbose`) with tests/configuration.json, which a test of the
                                    core crate reads as the functions would; with --write, writes that file
"""

import json
import re
import sys
from pathlib import Path

INFRA = Path(__file__).resolve().parent.parent
README = INFRA / "README.md"
DEPLOYING = INFRA.parent / "README.md"
SUPERVISOR = INFRA.parent / "instance/README.md"
CONFIGURATION = INFRA / "tests/configuration.json"

# Settings for simulated instances.
TESTS_ONLY = {"BOOTED_AT_SECONDS", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL"}

VARIABLES_MAX, REQUIRED_MAX, STEPS_MAX = 25, 4, 6

BLOCK = re.compile(r'^(?P<kind>variable|output) "(?P<name>\w+)" \{\n(?P<body>.*?)^\}\n', re.MULTILINE | re.DOTALL)


def blocks(file):
    return list(BLOCK.finditer((INFRA / file).read_text(encoding="utf-8")))


def attribute(block, name):
    """The text of an attribute of the block itself, over as many lines as it has."""
    match = re.search(rf"^  {name}\s+= (?P<value>.*?)(?=^  \w+\s*(?:=|\{{)|^\Z)", block["body"], re.MULTILINE | re.DOTALL)
    return match["value"].strip() if match else None


def description(block):
    return json.loads(attribute(block, "description"))


def short(default):
    """A default in a cell: objects and lists of several lines only by their kind."""
    return f"`{default}`" if "\n" not in default else "see variables.tf"


def variables_table():
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for block in sorted(blocks("variables.tf"), key=lambda block: attribute(block, "default") is not None):
        default = attribute(block, "default")
        rows.append(f"| `{block['name']}` | {'**required**' if default is None else short(default)} | {description(block)} |")
    return "\n".join(rows)


def outputs_table():
    rows = ["| output | meaning |", "|---|---|"]
    rows += [f"| `{block['name']}` | {description(block)} |" for block in blocks("outputs.tf")]
    return "\n".join(rows)


def filled(text):
    for name, table in (("variables", variables_table()), ("outputs", outputs_table())):
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL)
    return text


def section(text, heading):
    match = re.search(rf"^## {heading}\n(?P<body>.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return match["body"] if match else ""


def check():
    wrong = []
    text = README.read_text(encoding="utf-8")
    if filled(text) != text:
        wrong.append("infra/README.md: the tables are out of date; run infra/tests/documents.py")
    variables = blocks("variables.tf")
    required = [block["name"] for block in variables if attribute(block, "default") is None]
    steps = re.findall(r"^\d+\. ", section(DEPLOYING.read_text(encoding="utf-8"), "Deploying"), re.MULTILINE)
    for what, count, most in (("variables", len(variables), VARIABLES_MAX), ("required variables", len(required), REQUIRED_MAX), ("set-up steps", len(steps), STEPS_MAX)):
        print(f"{what}: {count} of at most {most}")
        if not 0 < count <= most:
            wrong.append(f"{count} {what}, and at most {most} are allowed")
    alarms = section(text, "Alarms")
    source = (INFRA / "modules/observability/main.tf").read_text(encoding="utf-8")
    source = source[source.index("  alarms = merge(") : source.index("  queries = {")]
    names = re.findall(r"^      ([a-z][a-z-]+) = \{$", source, re.MULTILINE) + re.findall(r'"([a-z-]+)-\$\{function\}" =>', source)
    wrong += [f"infra/README.md, Alarms: no paragraph begins with **{name}" for name in names if f"\n**{name}" not in alarms]
    print(f"alarms with a paragraph: {len(names)}")
    lines = "".join(file.read_text(encoding="utf-8") for file in (INFRA.parent / "shared").rglob("*.rs"))
    beginnings = re.findall(r'\$\.message = \\"([^"*]+)\*\\"', (INFRA / "modules/observability/main.tf").read_text(encoding="utf-8"))
    wrong += [f"observability: nobody logs a line that begins with {text!r}" for text in beginnings if f'"{text}' not in lines]
    print(f"log lines that metrics are made of: {len(beginnings)}")
    known = set(re.findall(r"`([A-Z0-9_]+)`", "".join(re.findall(r"^\| (`[A-Z0-9_]+`.*?) \|", section(SUPERVISOR.read_text(encoding="utf-8"), "Settings"), re.MULTILINE))))
    ours = set(re.findall(r"^      ([A-Z0-9_]+) +=", (INFRA / "launch.tf").read_text(encoding="utf-8"), re.MULTILINE)) | {"IDLE_MAXIMUM_SECONDS", *TESTS_ONLY}
    taken = set(re.findall(r"^      ([A-Z0-9_]+) +=", (INFRA / "variables.tf").read_text(encoding="utf-8"), re.MULTILINE))
    wrong += [f"fleets[].supervisor_settings: {name} is in one of variables.tf and instance/README.md only" for name in sorted(taken ^ (known - ours))]
    print(f"settings of the supervisor that a fleet may have: {len(taken)}")
    fleets = next(block for block in variables if block["name"] == "fleets")
    settings = re.findall(r"^    (\w+) +=", attribute(fleets, "type"), re.MULTILINE)
    wrong += [f"infra/README.md: no row for fleets[].{name}" for name in settings if f"| `{name}`" not in text]
    return wrong


def configuration(plan, write):
    for line in Path(plan).read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "test_plan":
            made = event["test_plan"]["output_changes"]["configuration"]["after"]
            text = json.dumps(made, indent=2, sort_keys=True) + "\n"
            if write:
                CONFIGURATION.write_text(text, encoding="utf-8")
            if CONFIGURATION.read_text(encoding="utf-8") != text:
                return ["tests/configuration.json is not what tests/document.tftest.hcl makes; run documents.py --configuration PLAN --write"]
            return []
    return [f"{plan} holds no plan"]


def main(arguments):
    if "--configuration" in arguments:
        wrong = configuration(arguments[arguments.index("--configuration") + 1], "--write" in arguments)
    elif "--check" in arguments:
        wrong = check()
    else:
        README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
        wrong = []
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
