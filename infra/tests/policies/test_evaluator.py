"""What AWS documents, each case with the page it was read from (2026-11-26), against the evaluator."""

import unittest

from evaluator import ALLOWED, DENIED, NOT_ALLOWED, Request, decide

GUIDE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/"
LOGIC = GUIDE + "reference_policies_evaluation-logic_AccessPolicyLanguage_Interplay.html"
ACTION = GUIDE + "reference_policies_elements_action.html"
NOT_ACTION = GUIDE + "reference_policies_elements_notaction.html"
RESOURCE = GUIDE + "reference_policies_elements_resource.html"
NOT_RESOURCE = GUIDE + "reference_policies_elements_notresource.html"
CONDITION = GUIDE + "reference_policies_elements_condition.html"
OPERATORS = GUIDE + "reference_policies_elements_condition_operators.html"
SEVERAL = GUIDE + "reference_policies_condition-logic-multiple-context-keys-or-values.html"
SETS = GUIDE + "reference_policies_condition-single-vs-multi-valued-context-keys.html"
SETS_EXAMPLES = GUIDE + "reference_policies_condition_examples-multi-valued-context-keys.html"
VARIABLES = GUIDE + "reference_policies_variables.html"
VERSION = GUIDE + "reference_policies_elements_version.html"
PASS_ROLE = GUIDE + "id_roles_use_passrole.html"
EC2_TAGGING = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html"
EC2_BY_TAG = GUIDE + "reference_policies_examples_ec2_tag-owner.html"
DYNAMODB = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html"
SQS = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html"

STAR = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def policy(*statements, version="2012-10-17"):
    return {"Version": version, "Statement": list(statements)}


def allow(action, resource="*", **condition):
    return {"Effect": "Allow", "Action": action, "Resource": resource, "Condition": {k.replace("__", ":"): v for k, v in condition.items()}}


def deny(action, resource="*", **condition):
    return allow(action, resource, **condition) | {"Effect": "Deny"}


def ask(action, resource="*", **context):
    return Request(action, resource, {k.replace("__", ":").replace("_SLASH_", "/").replace("_DASH_", "-"): v for k, v in context.items()})


REPORTS = policy(allow(["iam:Get*", "iam:List*"]), deny("iam:*Report"))
BUCKET = "arn:aws:s3:::amzn-s3-demo-bucket"
TEST_FOLDERS = policy(allow("s3:GetObject", BUCKET + "/*/test/*"))
TWO_KEYS = policy(allow("ec2:RunInstances", StringEquals={"aws:RequestTag/team": ["red", "blue"], "aws:RequestedRegion": "eu-central-1"}))
NOT_THESE = policy(allow("ec2:RunInstances", StringNotEquals={"aws:RequestTag/team": ["red", "blue"]}))
TAG_KEYS = policy(allow("ec2:CreateTags", ForAllValues__StringEquals={"aws:TagKeys": ["environment", "cost-center"]}))
TAG_KEYS_PRESENT = policy(
    allow("ec2:CreateTags", ForAllValues__StringEquals={"aws:TagKeys": ["environment", "cost-center"]}, Null={"aws:TagKeys": "false"})
)
ANY_TAG_KEY = policy(allow("ec2:CreateTags", ForAnyValue__StringEquals={"aws:TagKeys": ["environment"]}))
HOME = policy(allow("s3:GetObject", BUCKET + "/${aws:username}/*"))
OWNER = policy(allow("ec2:StopInstances", StringEquals={"aws:ResourceTag/Owner": "${aws:username}"}))
AT_LAUNCH = policy(allow("ec2:CreateTags", StringEquals={"ec2:CreateAction": "RunInstances"}))
OWN_ITEMS = policy(allow("dynamodb:PutItem", ForAllValues__StringEquals={"dynamodb:LeadingKeys": ["${aws:userid}"]}))
SMALL = policy(allow("ec2:RunInstances", StringLikeIfExists={"ec2:InstanceType": ["t2.*", "t3.*"]}))
TOPIC = policy(allow("sqs:SendMessage", ArnLike={"aws:SourceArn": "arn:aws:sns:*:123456789012:my-topic*"}))
TOPIC_EQUALS = policy(allow("sqs:SendMessage", ArnEquals={"aws:SourceArn": "arn:aws:sns:*:123456789012:my-topic*"}))
TLS = policy(STAR, deny("sqs:*", Bool={"aws:SecureTransport": "false"}))
PASS = policy(allow("iam:PassRole", "arn:aws:iam::123456789012:role/EC2-roles-for-XYZ-*", StringEquals={"iam:PassedToService": "ec2.amazonaws.com"}))

# case, page, policy, request, what AWS says
CASES = [
    ("what nobody allows is not allowed", LOGIC, REPORTS, ask("iam:CreatePolicy"), NOT_ALLOWED),
    ("what a statement allows is allowed", LOGIC, REPORTS, ask("iam:GetUser"), ALLOWED),
    ("a deny trumps an allow", LOGIC, REPORTS, ask("iam:GetOrganizationsAccessReport"), DENIED),
    ("a deny stands without any allow", LOGIC, REPORTS, ask("iam:GenerateCredentialReport"), DENIED),
    ("an action is compared without case", ACTION, policy(allow("iam:ListAccessKeys")), ask("IAM:listaccesskeys"), ALLOWED),
    ("a star in an action stands for any text", ACTION, policy(allow("iam:*AccessKey*")), ask("iam:UpdateAccessKey"), ALLOWED),
    ("and what it does not cover is not allowed", ACTION, policy(allow("iam:*AccessKey*")), ask("iam:CreateUser"), NOT_ALLOWED),
    ("NotAction with an allow: all others", NOT_ACTION, policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), ask("s3:GetObject"), ALLOWED),
    ("NotAction with an allow: not these", NOT_ACTION, policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), ask("iam:GetUser"), NOT_ALLOWED),
    ("a star in a resource spans a folder", RESOURCE, TEST_FOLDERS, ask("s3:GetObject", BUCKET + "/1/test/object.jpg"), ALLOWED),
    ("and several", RESOURCE, TEST_FOLDERS, ask("s3:GetObject", BUCKET + "/1/2/test/3/object.jpg"), ALLOWED),
    ("and leaves out what lacks the rest", RESOURCE, TEST_FOLDERS, ask("s3:GetObject", BUCKET + "/1-test/object.jpg"), NOT_ALLOWED),
    ("and what has nothing in its place", RESOURCE, TEST_FOLDERS, ask("s3:GetObject", BUCKET + "/test/object.jpg"), NOT_ALLOWED),
    ("a question mark stands for one character", RESOURCE, policy(allow("s3:GetObject", BUCKET + "/?.jpg")), ask("s3:GetObject", BUCKET + "/12.jpg"), NOT_ALLOWED),
    ("NotResource with a deny: all others", NOT_RESOURCE, policy(STAR, {"Effect": "Deny", "Action": "s3:*", "NotResource": BUCKET}), ask("s3:GetObject", "arn:aws:s3:::other"), DENIED),
    ("NotResource with a deny: not this", NOT_RESOURCE, policy(STAR, {"Effect": "Deny", "Action": "s3:*", "NotResource": BUCKET}), ask("s3:ListBucket", BUCKET), ALLOWED),
    ("StringEquals minds case", OPERATORS, policy(allow("a:b", StringEquals={"aws:PrincipalTag/job": "iamuser-admin"})), ask("a:b", **{"aws:PrincipalTag/job": "IAMuser-Admin"}), NOT_ALLOWED),
    ("StringEquals knows no wildcard", OPERATORS, policy(allow("a:b", StringEquals={"aws:PrincipalTag/job": "iamuser-*"})), ask("a:b", **{"aws:PrincipalTag/job": "iamuser-admin"}), NOT_ALLOWED),
    ("StringEqualsIgnoreCase does not mind case", OPERATORS, policy(allow("a:b", StringEqualsIgnoreCase={"aws:PrincipalTag/job": "iamuser-admin"})), ask("a:b", **{"aws:PrincipalTag/job": "IAMuser-Admin"}), ALLOWED),
    ("StringLike knows wildcards", OPERATORS, policy(allow("a:b", StringLike={"s3:prefix": ["home/*"]})), ask("a:b", s3__prefix="home/me/x"), ALLOWED),
    ("a key that is not there does not match", OPERATORS, policy(allow("a:b", StringEquals={"aws:PrincipalTag/job": "x"})), ask("a:b"), NOT_ALLOWED),
    ("and matches what must not match", OPERATORS, policy(allow("a:b", StringNotLike={"aws:PrincipalTag/job": "x*"})), ask("a:b"), ALLOWED),
    ("IfExists: a key that is not there holds", OPERATORS, SMALL, ask("ec2:RunInstances"), ALLOWED),
    ("IfExists: one that is there is compared", OPERATORS, SMALL, ask("ec2:RunInstances", ec2__InstanceType="m7g.large"), NOT_ALLOWED),
    ("Null true: the key must not be there", OPERATORS, policy(allow("a:b", Null={"aws:TokenIssueTime": "true"})), ask("a:b", aws__TokenIssueTime="2026"), NOT_ALLOWED),
    ("Null false: the key must be there", OPERATORS, policy(allow("a:b", Null={"aws:TokenIssueTime": "false"})), ask("a:b", aws__TokenIssueTime="2026"), ALLOWED),
    ("Bool compares true and false", OPERATORS, TLS, ask("sqs:SendMessage", aws__SecureTransport="false"), DENIED),
    ("and a key that is not there is neither", OPERATORS, TLS, ask("sqs:SendMessage"), ALLOWED),
    ("numbers are compared as numbers", OPERATORS, policy(allow("s3:ListBucket", NumericLessThanEquals={"s3:max-keys": "10"})), ask("s3:ListBucket", **{"s3:max-keys": "9"}), ALLOWED),
    ("addresses are compared with networks", OPERATORS, policy(allow("a:b", IpAddress={"aws:SourceIp": "203.0.113.0/24"})), ask("a:b", aws__SourceIp="198.51.100.7"), NOT_ALLOWED),
    ("ArnLike compares each of six parts", OPERATORS, TOPIC, ask("sqs:SendMessage", aws__SourceArn="arn:aws:sns:eu-west-1:123456789012:my-topic-2"), ALLOWED),
    ("a star of one part does not reach into the next", OPERATORS, TOPIC, ask("sqs:SendMessage", aws__SourceArn="arn:aws:sns:eu-west-1:999999999999:123456789012:my-topic"), NOT_ALLOWED),
    ("ArnEquals behaves as ArnLike", OPERATORS, TOPIC_EQUALS, ask("sqs:SendMessage", aws__SourceArn="arn:aws:sns:eu-west-1:123456789012:my-topic-2"), ALLOWED),
    ("ArnNotEquals of a key that is not there holds", OPERATORS, policy(STAR, deny("a:b", ArnNotEquals={"aws:PrincipalArn": "arn:aws:iam::1:role/x"})), ask("a:b"), DENIED),
    ("names of keys are compared without case", CONDITION, policy(allow("a:b", StringEquals={"AWS:sourceip": "1.2.3.4"})), ask("a:b", aws__SourceIp="1.2.3.4"), ALLOWED),
    ("values of one key: any of them", SEVERAL, TWO_KEYS, ask("ec2:RunInstances", **{"aws:RequestTag/team": "blue", "aws:RequestedRegion": "eu-central-1"}), ALLOWED),
    ("several keys: all of them", SEVERAL, TWO_KEYS, ask("ec2:RunInstances", **{"aws:RequestTag/team": "blue", "aws:RequestedRegion": "us-east-1"}), NOT_ALLOWED),
    ("values of a negated operator: none of them", SEVERAL, NOT_THESE, ask("ec2:RunInstances", **{"aws:RequestTag/team": "blue"}), NOT_ALLOWED),
    ("and another value passes", SEVERAL, NOT_THESE, ask("ec2:RunInstances", **{"aws:RequestTag/team": "green"}), ALLOWED),
    ("ForAllValues: all values of the request match", SETS, TAG_KEYS, ask("ec2:CreateTags", aws__TagKeys=["environment", "cost-center"]), ALLOWED),
    ("ForAllValues: one does not", SETS, TAG_KEYS, ask("ec2:CreateTags", aws__TagKeys=["environment", "owner"]), NOT_ALLOWED),
    ("ForAllValues: no key at all holds", SETS_EXAMPLES, TAG_KEYS, ask("ec2:CreateTags"), ALLOWED),
    ("ForAllValues: nor any value", SETS_EXAMPLES, TAG_KEYS, ask("ec2:CreateTags", aws__TagKeys=[]), ALLOWED),
    ("ForAllValues with Null false: no key at all does not hold", SETS_EXAMPLES, TAG_KEYS_PRESENT, ask("ec2:CreateTags"), NOT_ALLOWED),
    ("nor does an empty one", SETS_EXAMPLES, TAG_KEYS_PRESENT, ask("ec2:CreateTags", aws__TagKeys=[]), NOT_ALLOWED),
    ("ForAnyValue: one of the request's values matches", SETS, ANY_TAG_KEY, ask("ec2:CreateTags", aws__TagKeys=["owner", "environment"]), ALLOWED),
    ("ForAnyValue: none does", SETS, ANY_TAG_KEY, ask("ec2:CreateTags", aws__TagKeys=["owner"]), NOT_ALLOWED),
    ("ForAnyValue: no key at all does not hold", SETS, ANY_TAG_KEY, ask("ec2:CreateTags"), NOT_ALLOWED),
    ("a variable stands for the request's value", VARIABLES, HOME, ask("s3:GetObject", BUCKET + "/anaya/x", aws__username="anaya"), ALLOWED),
    ("and for no other", VARIABLES, HOME, ask("s3:GetObject", BUCKET + "/nikhil/x", aws__username="anaya"), NOT_ALLOWED),
    ("a variable without a value matches nothing", VARIABLES, HOME, ask("s3:GetObject", BUCKET + "//x"), NOT_ALLOWED),
    ("but for its default", VARIABLES, policy(allow("s3:GetObject", BUCKET + "/${aws:username, 'company-wide'}/*")), ask("s3:GetObject", BUCKET + "/company-wide/x"), ALLOWED),
    ("${*} is a star and no wildcard", VARIABLES, policy(allow("a:b", StringLike={"s3:prefix": "${*}x"})), ask("a:b", s3__prefix="yx"), NOT_ALLOWED),
    ("a star that came out of a variable is none", VARIABLES, HOME, ask("s3:GetObject", BUCKET + "/nikhil/x", aws__username="*"), NOT_ALLOWED),
    ("before 2012-10-17 a variable is text", VERSION, policy(allow("s3:GetObject", BUCKET + "/${aws:username}/*"), version="2008-10-17"), ask("s3:GetObject", BUCKET + "/anaya/x", aws__username="anaya"), NOT_ALLOWED),
    ("an instance's user id is its role's id and its own", VARIABLES, OWN_ITEMS, ask("dynamodb:PutItem", **{"aws:userid": "AROAEXAMPLE:i-0a", "dynamodb:LeadingKeys": ["AROAEXAMPLE:i-0a"]}), ALLOWED),
    ("a tag of the resource is compared with who asks", EC2_BY_TAG, OWNER, ask("ec2:StopInstances", **{"aws:ResourceTag/Owner": "anaya", "aws:username": "anaya"}), ALLOWED),
    ("and another's is not", EC2_BY_TAG, OWNER, ask("ec2:StopInstances", **{"aws:ResourceTag/Owner": "nikhil", "aws:username": "anaya"}), NOT_ALLOWED),
    ("ec2:CreateAction: tags at the launch", EC2_TAGGING, AT_LAUNCH, ask("ec2:CreateTags", ec2__CreateAction="RunInstances"), ALLOWED),
    ("ec2:CreateAction: not of what exists", EC2_TAGGING, AT_LAUNCH, ask("ec2:CreateTags"), NOT_ALLOWED),
    ("aws:TagKeys minds case in values", EC2_TAGGING, TAG_KEYS, ask("ec2:CreateTags", aws__TagKeys=["Environment"]), NOT_ALLOWED),
    ("dynamodb:LeadingKeys: another's item", DYNAMODB, OWN_ITEMS, ask("dynamodb:PutItem", **{"aws:userid": "AROAEXAMPLE:i-0a", "dynamodb:LeadingKeys": ["AROAEXAMPLE:i-0b"]}), NOT_ALLOWED),
    ("dynamodb:LeadingKeys: one's own and another's", DYNAMODB, OWN_ITEMS, ask("dynamodb:PutItem", **{"aws:userid": "AROAEXAMPLE:i-0a", "dynamodb:LeadingKeys": ["AROAEXAMPLE:i-0a", "AROAEXAMPLE:i-0b"]}), NOT_ALLOWED),
    ("a role is passed to one service", PASS_ROLE, PASS, ask("iam:PassRole", "arn:aws:iam::123456789012:role/EC2-roles-for-XYZ-1", iam__PassedToService="ec2.amazonaws.com"), ALLOWED),
    ("and to no other", PASS_ROLE, PASS, ask("iam:PassRole", "arn:aws:iam::123456789012:role/EC2-roles-for-XYZ-1", iam__PassedToService="lambda.amazonaws.com"), NOT_ALLOWED),
    ("a queue's deny is for everybody", SQS, policy({"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}), ask("sqs:SendMessage", aws__SecureTransport="false"), DENIED),
]


class Evaluator(unittest.TestCase):
    def test_documented_cases(self):
        self.assertGreaterEqual(len(CASES), 30)
        for case, page, written, request, expected in CASES:
            with self.subTest(case, page=page):
                self.assertEqual(decide([written], request), expected)

    def test_what_it_does_not_know_is_refused(self):
        for operator in ("DateLessThan", "ForSomeValues:StringEquals"):
            with self.subTest(operator), self.assertRaises(NotImplementedError):
                decide([policy(allow("a:b", **{operator: {"aws:CurrentTime": "2026"}}))], ask("a:b", aws__CurrentTime="2026"))

    def test_several_values_need_a_quantifier(self):
        with self.assertRaises(NotImplementedError):
            decide([policy(allow("a:b", StringEquals={"aws:TagKeys": "x"}))], ask("a:b", aws__TagKeys=["x", "y"]))


if __name__ == "__main__":
    unittest.main()
