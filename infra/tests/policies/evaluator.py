"""Evaluates IAM policies as AWS documents it: which statement applies to a request, and what follows of all of them.

Ours, because what there is either leaves conditions out (policyuniverse, parliament, moto) or is under the AGPL
(@cloud-copilot/iam-simulate). It knows what the table of documented cases in `test_evaluator.py` asks for, and raises on
anything else: an operator that it does not know must never count as one that held.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitly denied", "not allowed"


@dataclass(frozen=True)
class Request:
    """One authorisation that a call asks for; a call may need several. Context keys are compared without case."""

    action: str
    resource: str
    context: dict = field(default_factory=dict)
    principal: str = "arn:aws:iam::111122223333:user/somebody"

    def values(self, key):
        """The values of a key, `None` where the request does not have it. An empty list is a key without values."""
        for name, value in self.context.items():
            if name.lower() == key.lower():
                return [str(item) for item in value] if isinstance(value, list) else [str(value)]
        return None


def decide(policies, request):
    """An explicit deny beats any allow, and what nobody allows is not allowed."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in listed(policy["Statement"])
        if applies(statement, policy.get("Version", "2008-10-17"), request)
    }
    if "Deny" in effects:
        return DENIED
    return ALLOWED if "Allow" in effects else NOT_ALLOWED


def applies(statement, version, request):
    # Variables came with that version; before it they were plain text.
    resolve = (lambda text: resolved(text, request)) if version == "2012-10-17" else quoted_dollars
    return (
        named(statement, "Principal", request.principal, principal_matches)
        and named(statement, "Action", request.action, lambda pattern, action: glob(pattern.lower(), action.lower()))
        and named(statement, "Resource", request.resource, lambda pattern, arn: glob(resolve(pattern), arn))
        and all(
            condition_holds(operator, key, [resolve(str(value)) for value in listed(wanted)], request)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def named(statement, element, value, matches):
    """`Action` or `NotAction`, and so on. Identity policies have no principal, queue policies of ours always one."""
    if element in statement:
        return any(matches(pattern, value) for pattern in listed(statement[element]))
    if "Not" + element in statement:
        return not any(matches(pattern, value) for pattern in listed(statement["Not" + element]))
    return element == "Principal"


def principal_matches(pattern, principal):
    if pattern == "*":
        return True
    if set(pattern) == {"AWS"}:
        return any(one in ("*", principal) for one in listed(pattern["AWS"]))
    raise NotImplementedError(f"principal {pattern}")


def condition_holds(operator, key, wanted, request):
    quantifier, _, base = operator.rpartition(":")
    if_exists = base.endswith("IfExists")
    base = base.removesuffix("IfExists")
    values = request.values(key)
    if base == "Null":
        return any((wish.lower() == "true") == (not values) for wish in wanted)
    if if_exists and values is None:
        return True
    negated, one = OPERATORS[base] if base in OPERATORS else unknown(f"operator {operator}")
    # A pattern with a variable that the request does not have is none, and a condition without any never holds.
    patterns = [pattern for pattern in wanted if pattern is not None]
    if not patterns:
        return False
    matches = lambda value: any(one(pattern, value) for pattern in patterns) != negated
    if quantifier == "ForAllValues":
        return all(matches(value) for value in values or [])
    if quantifier == "ForAnyValue":
        return any(matches(value) for value in values or [])
    if quantifier:
        unknown(f"operator {operator}")
    if values is None:
        return negated
    if len(values) != 1:
        unknown(f"{operator} of {key}, which has {len(values)} values, without ForAllValues or ForAnyValue")
    return matches(values[0])


def unknown(what):
    raise NotImplementedError(what)


def arn_matches(pattern, arn):
    """Each of the six parts by itself; only the last may hold colons."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) == 6 and all(glob(one, part) for one, part in zip(patterns, parts))


def within(network, address):
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


OPERATORS = {
    "StringEquals": (False, lambda pattern, value: literal(pattern) == value),
    "StringNotEquals": (True, lambda pattern, value: literal(pattern) == value),
    "StringEqualsIgnoreCase": (False, lambda pattern, value: literal(pattern).lower() == value.lower()),
    "StringNotEqualsIgnoreCase": (True, lambda pattern, value: literal(pattern).lower() == value.lower()),
    "StringLike": (False, lambda pattern, value: glob(pattern, value)),
    "StringNotLike": (True, lambda pattern, value: glob(pattern, value)),
    "ArnEquals": (False, arn_matches),
    "ArnLike": (False, arn_matches),
    "ArnNotEquals": (True, arn_matches),
    "ArnNotLike": (True, arn_matches),
    "Bool": (False, lambda pattern, value: pattern.lower() == value.lower()),
    "NumericEquals": (False, lambda pattern, value: float(pattern) == float(value)),
    "NumericLessThanEquals": (False, lambda pattern, value: float(value) <= float(pattern)),
    "NumericGreaterThanEquals": (False, lambda pattern, value: float(value) >= float(pattern)),
    "IpAddress": (False, within),
    "NotIpAddress": (True, within),
}

# Stand for characters that are meant as such: what came out of a variable, and ${*}, ${?}, ${$}.
QUOTED = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}


def resolved(text, request):
    """The text with its variables filled in, `None` where the request has no value for one and it has no default."""
    missing = False

    def fill(match):
        nonlocal missing
        name, _, default = match.group(1).partition(",")
        if name in QUOTED:
            return QUOTED[name]
        values = request.values(name.strip())
        # A key with several values is no variable.
        if values is None or len(values) != 1:
            if default.strip():
                return quoted(default.strip().strip("'"))
            missing = True
            return ""
        return quoted(values[0])

    filled = re.sub(r"\$\{([^}]*)\}", fill, text)
    return None if missing else filled


def quoted_dollars(text):
    return text.replace("$", QUOTED["$"])


def quoted(text):
    return "".join(QUOTED.get(character, character) for character in text)


def literal(text):
    for character, mark in QUOTED.items():
        text = text.replace(mark, character)
    return text


@lru_cache(maxsize=None)
def compiled(pattern):
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(literal(c)) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


def glob(pattern, value):
    """`*` stands for any text, `?` for one character."""
    return pattern is not None and compiled(pattern).fullmatch(value) is not None


def listed(value):
    return value if isinstance(value, list) else [value]
