"""The rendered policies against AWS's service authorization reference, as policy-sentry carries it.

An action that does not exist, a resource that an action does not take or a condition key that AWS does not fill in for it
would look like a fence, or like leave, and be neither.
"""

import re
import unittest

from policy_sentry.querying.actions import get_action_data
from policy_sentry.querying.conditions import get_condition_keys_for_service

from evaluator import listed
from test_policies import RENDERED

# Keys that any request may have (IAM user guide, "AWS global condition context keys", read 2026-11-26).
GLOBAL = {"aws:principalarn", "aws:securetransport", "lambda:sourcefunctionarn"}
# What EC2 asks of a launch although the reference lists neither for it: spot requests are made in the caller's name, and
# CreateFleet hands over to RunInstances (EC2 user guide, "Example policies for launch templates" and "Spot requests").
NOT_IN_THE_REFERENCE = {
    ("ec2:RunInstances", "spot-instances-request"),
    ("ec2:CreateFleet", "spot-instances-request"),
    ("ec2:CreateFleet", "network-interface"),
    ("ec2:CreateFleet", "security-group"),
}


def rows(action):
    service, name = action.split(":")
    return next(iter((get_action_data(service, name) or {}).values()), [])


def shape(text):
    """`arn:${Partition}:ec2:…:instance/${InstanceId}` and `arn:aws:ec2:…:instance/*` look alike in this."""
    return re.sub(r"\$\{[^}]*\}", "*", text)


def takes(row, resource):
    pattern = ".*".join(re.escape(part) for part in shape(row["resource_arn_format"]).split("*"))
    return re.fullmatch(pattern, resource) is not None


def is_key(listed_key, key):
    return re.fullmatch(re.escape(listed_key.lower()).replace(r"\$\{tagkey\}", ".+").replace("tag\\-key", ".+"), key.lower())


class Reference(unittest.TestCase):
    def statements(self):
        for run, policies in RENDERED.items():
            for role, policy in policies.items():
                for statement in policy["Statement"]:
                    if statement["Action"] != "sqs:*":
                        yield run, role, statement

    def test_actions_exist(self):
        for run, role, statement in self.statements():
            for action in listed(statement["Action"]):
                with self.subTest(action, run=run, role=role):
                    self.assertTrue(rows(action), "AWS lists no such action")

    def test_actions_take_their_resources(self):
        for run, role, statement in self.statements():
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    kind = resource.split(":", 5)[-1].split("/")[0]
                    if (action, kind) in NOT_IN_THE_REFERENCE:
                        continue
                    with self.subTest(action, resource=resource, run=run, role=role):
                        formats = [row for row in rows(action) if row["resource_arn_format"] != "*"]
                        fits = not formats if resource == "*" else any(takes(row, resource) for row in formats)
                        # Lambda's own calls in a VPC come with no resource that exists before them.
                        self.assertTrue(fits or statement["Sid"] in ("AttachToNetwork", "NoNetworkInterfacesFromCode"))

    def test_conditions_have_keys_that_aws_fills_in(self):
        for run, role, statement in self.statements():
            keys = [key for condition in statement.get("Condition", {}).values() for key in condition]
            for action in listed(statement["Action"]):
                known = {key for row in rows(action) for key in row["condition_keys"]}
                # Keys of the whole service are not repeated at each of its actions.
                known |= set(get_condition_keys_for_service(action.split(":")[0])) if action.startswith("kms:") else set()
                for key in keys:
                    with self.subTest(f"{action} {key}", run=run, role=role):
                        self.assertTrue(key.lower() in GLOBAL or any(is_key(one, key) for one in known))


if __name__ == "__main__":
    unittest.main()
