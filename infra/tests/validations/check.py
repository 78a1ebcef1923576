#!/usr/bin/env python3
"""Which validation refuses: `terraform test` only says that some validation of a variable did.

Runs each case of validations.tftest.hcl once more, without its `expect_failures`, and compares the message of the refusal
with the comment over the case. A validation without a case fails here.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASE = re.compile(r'^# (?P<message>[^\n]+)\n(?P<run>run "(?P<name>\w+)" \{\n.*?^\}\n)', re.MULTILINE | re.DOTALL)
RIGHT = re.compile(r"^variables \{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
MESSAGE = re.compile(r'^    error_message = "((?:[^"\\]|\\.)*)"', re.MULTILINE)


def main():
    text = (HERE / "validations.tftest.hcl").read_text(encoding="utf-8")
    cases = {match["name"]: match for match in CASE.finditer(text)}
    messages = MESSAGE.findall((HERE / "variables.tf").read_text(encoding="utf-8"))
    wrong = [f"no case for: {message}" for message in messages if not any(message.startswith(case["message"]) for case in cases.values())]
    said = refusals(RIGHT.search(text)[0], cases)
    for name, case in cases.items():
        details = said.get(name, [])
        if len(details) != 1 or not details[0].startswith(case["message"]):
            wrong.append(f"{name}: expected {case['message']!r}, terraform said {details}")
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(wrong)} wrong" if wrong else f"{len(cases)} cases of {len(messages)} validations, each refused by its own message")
    return 1 if wrong else 0


def refusals(right, cases):
    """By case: what terraform said. A file each, for after the first failure of a file its other runs are left out."""
    said = {}
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".cases-") as folder:
        for name, case in cases.items():
            run = re.sub(r"^  expect_failures = .*\n", "", case["run"], flags=re.MULTILINE)
            (Path(folder) / f"{name}.tftest.hcl").write_text(f"{right}\n{run}", encoding="utf-8")
        command = ["terraform", "test", "-json", f"-test-directory={Path(folder).name}"]
        output = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False).stdout
    for line in filter(str.strip, output.splitlines()):
        event = json.loads(line)
        if event["type"] == "diagnostic" and event["diagnostic"]["severity"] == "error":
            said.setdefault(event.get("@testrun"), []).append(event["diagnostic"]["detail"])
    return said


if __name__ == "__main__":
    sys.exit(main())
