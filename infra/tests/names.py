#!/usr/bin/env python3
"""Holds every name of a plan against AWS's limit for names of its kind: what is longer is refused at the apply, when half of
a deployment is there.

The argument is the output of `terraform test -json -verbose` over tests/names.tftest.hcl, whose names are the longest that
the validations let pass. A kind of resource that has a name and no limit here is refused, too.
"""

import json
import sys

# By kind: the attribute with the name, and how many characters the service's API takes.
LIMITS = {
    "aws_apigatewayv2_api": ("name", 128),
    "aws_apigatewayv2_stage": ("name", 128),
    "aws_cloudwatch_dashboard": ("dashboard_name", 255),
    "aws_cloudwatch_log_group": ("name", 512),
    "aws_cloudwatch_log_metric_filter": ("name", 512),
    "aws_cloudwatch_metric_alarm": ("alarm_name", 255),
    "aws_cloudwatch_query_definition": ("name", 255),
    "aws_dynamodb_table": ("name", 255),
    "aws_iam_instance_profile": ("name", 128),
    "aws_iam_role": ("name", 64),
    "aws_iam_role_policy": ("name", 128),
    "aws_lambda_function": ("function_name", 64),
    "aws_launch_template": ("name", 128),
    "aws_scheduler_schedule": ("name", 64),
    "aws_scheduler_schedule_group": ("name", 64),
    "aws_security_group": ("name", 255),
    "aws_sqs_queue": ("name", 80),
    "aws_ssm_parameter": ("name", 1011),
}


def named(plan):
    """Kind, address and name of what the plan makes, where it has a name of its own."""
    with open(plan, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    for event in events:
        for change in event.get("test_plan", {}).get("resource_changes", []):
            kind, after = change["type"], change["change"]["after"]
            attribute = LIMITS[kind][0] if kind in LIMITS else "name"
            if attribute in after:
                yield kind, change["address"], after[attribute]


def main(plan):
    wrong, lengths = [], {}
    for kind, address, name in named(plan):
        if kind not in LIMITS:
            wrong.append(f"{address} has a name, and tests/names.py no limit for it")
            continue
        lengths[kind] = max(lengths.get(kind, 0), len(name))
        if len(name) > LIMITS[kind][1]:
            wrong.append(f"{address}: {name} has {len(name)} characters, and AWS takes {LIMITS[kind][1]}")
    wrong += [f"no {kind} has a name in the plan" for kind in LIMITS if kind not in lengths]
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        near = [f"{kind} {lengths[kind]} of {most}" for kind, (_, most) in sorted(LIMITS.items()) if lengths[kind] * 5 > most * 4]
        print(f"names of {len(lengths)} kinds within AWS's limits; nearest: {', '.join(near)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
