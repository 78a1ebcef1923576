"""The rendered policies against the table of acts, and every fence of theirs: without it some row fails.

The policies come from `terraform test -json -verbose` (tests/policies.tftest.hcl), whose output is named by POLICIES.
"""

import copy
import json
import os
import unittest

import table
from evaluator import ALLOWED, DENIED, decide, listed

PLAIN, WITH_ALL = "policies", "policies_with_key_network_and_logs"


def rendered():
    """By run, by role: the policies of the plan."""
    policies = {}
    with open(os.environ["POLICIES"], encoding="utf-8") as lines:
        for line in map(json.loads, filter(None, map(str.strip, lines))):
            if line.get("type") == "test_plan":
                after = line["test_plan"]["output_changes"]["policies"]["after"]
                policies[line["@testrun"]] = {role: json.loads(text) for role, text in after.items()}
    return policies


RENDERED = rendered()
TABLES = {
    PLAIN: table.ACTS,
    WITH_ALL: [act for act in table.ACTS if act.sentence not in table.REPLACED] + table.ADDED_ACTS,
}


def may(policy, act):
    return all(decide([policy], request) == ALLOWED for request in act.requests)


def wrong_rows(role, policy, acts):
    """Sentences of the acts on which policy and table differ for that role."""
    return [act.sentence for act in acts if may(policy, act) != (role in act.allowed)]


def wrong_queue_rows(policy):
    return [sentence for request, sentence, denied in table.QUEUE_ACTS if (decide([policy], request) == DENIED) != denied]


def differing(run, role, policy):
    return wrong_queue_rows(policy) if role == "queue" else wrong_rows(role, policy, TABLES[run])


def mutants(policy):
    """The policy with one fence down or one leave gone: a condition, a resource, an action, a whole statement."""
    for index, statement in enumerate(policy["Statement"]):
        name = statement["Sid"]

        def without(change):
            mutant = copy.deepcopy(policy)
            change(mutant["Statement"][index])
            return mutant

        gone = copy.deepcopy(policy)
        del gone["Statement"][index]
        yield f"{name}: dropped", gone
        for operator, keys in statement.get("Condition", {}).items():
            for key in keys:
                yield f"{name}: without {operator} {key}", without(lambda one: one["Condition"][operator].pop(key))
                for value in listed(keys[key]) if len(listed(keys[key])) > 1 else []:
                    shorter = [other for other in keys[key] if other != value]
                    yield f"{name}: without {operator} {key} {value}", without(lambda one: one["Condition"][operator].update({key: shorter}))
        if statement["Effect"] == "Allow":
            if listed(statement["Resource"]) != ["*"]:
                yield f"{name}: on any resource", without(lambda one: one.update(Resource="*"))
            for action in listed(statement["Action"]) if len(listed(statement["Action"])) > 1 else []:
                fewer = [other for other in statement["Action"] if other != action]
                yield f"{name}: without {action}", without(lambda one: one.update(Action=fewer))
        elif len(listed(statement["Resource"])) > 1:
            for resource in statement["Resource"]:
                fewer = [other for other in statement["Resource"] if other != resource]
                yield f"{name}: not of {resource}", without(lambda one: one.update(Resource=fewer))


# What a mutation cannot be seen by, and why that is right.
UNSEEN = {
    # Calls that AWS's services make in the role's name: the table has one of each set, AWS's page lists them all.
    "AttachToNetwork: without ec2:DescribeNetworkInterfaces": "Lambda's own call",
    "AttachToNetwork: without ec2:DeleteNetworkInterface": "Lambda's own call",
    "AttachToNetwork: without ec2:DescribeSubnets": "Lambda's own call",
    "AttachToNetwork: without ec2:AssignPrivateIpAddresses": "Lambda's own call",
    "AttachToNetwork: without ec2:UnassignPrivateIpAddresses": "Lambda's own call",
    "EncryptVolumes: without kms:Decrypt": "EC2's own call",
    "EncryptVolumes: without kms:DescribeKey": "EC2's own call",
    "EncryptVolumes: without kms:ReEncryptFrom": "EC2's own call",
    "EncryptVolumes: without kms:ReEncryptTo": "EC2's own call",
    "UseKeyThroughServices: without kms:GenerateDataKey": "SQS's and DynamoDB's own call",
    "TakeJobs: without sqs:GetQueueAttributes": "Lambda's own call",
    "WriteOwnLogs: without logs:CreateLogStream": "Lambda's own call",
}


class Policies(unittest.TestCase):
    def test_every_role_has_a_policy_and_every_policy_a_role(self):
        for run in TABLES:
            self.assertEqual(set(RENDERED[run]), set(table.ROLES) | {"queue"}, run)

    def test_every_row(self):
        rows = 0
        for run, acts in TABLES.items():
            for role in table.ROLES:
                for act in acts:
                    rows += 1
                    with self.subTest(act.sentence, run=run, role=role):
                        self.assertEqual(may(RENDERED[run][role], act), role in act.allowed)
            rows += len(table.QUEUE_ACTS)
            self.assertEqual(wrong_queue_rows(RENDERED[run]["queue"]), [], run)
        print(f"\n{rows} rows over {len(table.ROLES)} roles as expected")

    def test_without_any_fence_a_row_fails(self):
        count, unseen = 0, set()
        for run in TABLES:
            for role, policy in RENDERED[run].items():
                for name, mutant in mutants(policy):
                    count += 1
                    if differing(run, role, mutant):
                        continue
                    unseen.add(name)
                    with self.subTest(name, run=run, role=role):
                        self.assertTrue(name in UNSEEN, "no row notices that this fence is down")
        self.assertEqual(set(UNSEEN) - unseen, set(), "these are noticed by now: take them off the list")
        print(f"\n{count} fences taken down one at a time, {count - len(unseen)} noticed, {len(unseen)} argued")

    def test_no_star_where_aws_takes_a_resource(self):
        listing = {"ec2:DescribeInstances", "ssm:DescribeParameters"}
        for role, policy in RENDERED[PLAIN].items():
            for statement in policy["Statement"]:
                if statement["Effect"] == "Allow" and "*" in listed(statement["Resource"]):
                    with self.subTest(statement["Sid"], role=role):
                        self.assertLessEqual(set(listed(statement["Action"])), listing)

    def test_no_action_is_a_pattern(self):
        for run in TABLES:
            for role, policy in RENDERED[run].items():
                for statement in policy["Statement"]:
                    if statement["Effect"] == "Allow":
                        with self.subTest(statement["Sid"], role=role):
                            self.assertFalse([action for action in listed(statement["Action"]) if "*" in action])


if __name__ == "__main__":
    unittest.main()
