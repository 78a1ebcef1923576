"""What may be done and by whom: every act against every role, so that a role which gains or loses something shows.

An act is all that one call asks for: a launch asks for a template, an image, a subnet and more, and needs them all.
"""

from dataclasses import dataclass

from evaluator import Request

ACCOUNT = "111122223333"
REGION = "eu-central-1"
PREFIX = "runner-scaler-prod"
TEMPLATE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:launch-template/lt-0123456789abcdef0"
THEIR_TEMPLATE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:launch-template/lt-0fedcba9876543210"
ROLE_ID = "AROAEXAMPLEROLE123456"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"

WEBHOOK, SCALE_UP, SCALE_DOWN = "webhook", "scale-up", "scale-down"
SWEEPER, DEMAND, INSTANCE = "orphan-sweeper", "demand-reconciler", "instance"
FUNCTIONS = [WEBHOOK, SCALE_UP, SCALE_DOWN, SWEEPER, DEMAND]
SCHEDULES = [f"{name}-schedule" for name in (SCALE_DOWN, SWEEPER, DEMAND)]
ROLES = FUNCTIONS + SCHEDULES + [INSTANCE]
LAUNCHERS = [SCALE_UP, DEMAND]
NOBODY = []


def arn(service, resource, region=REGION, account=ACCOUNT):
    return f"arn:aws:{service}:{region}:{account}:{resource}"


def parameter(name, environment="prod"):
    return arn("ssm", f"parameter/runner-scaler/{environment}/{name}")


def table(name, prefix=PREFIX):
    return arn("dynamodb", f"table/{prefix}-{name}")


def queue(name, prefix=PREFIX):
    return arn("sqs", f"{prefix}-{name}")


def profile(prefix=PREFIX):
    return arn("iam", f"instance-profile/{prefix}-instance", region="")


def instance(name="i-0aaaaaaaaaaaaaaaa"):
    return arn("ec2", f"instance/{name}")


# What IAM knows of an instance of ours.
OURS = {"aws:ResourceTag/ghr:environment": "prod", "ec2:InstanceProfile": profile()}
THEIRS = {"aws:ResourceTag/ghr:environment": "staging", "ec2:InstanceProfile": profile("runner-scaler-staging")}
FORGED = OURS | {"ec2:InstanceProfile": profile("database")}
BORROWED = {"ec2:InstanceProfile": profile()}
RENAMED = OURS | {"aws:ResourceTag/ghr:environment": "staging"}

# What IAM knows of a call from the instance i-0aaaaaaaaaaaaaaaa.
FROM_INSTANCE = {"ec2:SourceInstanceARN": instance(), "aws:userid": f"{ROLE_ID}:i-0aaaaaaaaaaaaaaaa"}
OWN_PARAMETER = FROM_INSTANCE | {"aws:ResourceTag/ghr:instance": instance()}
ANOTHERS_PARAMETER = FROM_INSTANCE | {"aws:ResourceTag/ghr:instance": instance("i-0bbbbbbbbbbbbbbbb")}
OWN_KEY, ANOTHERS_KEY = f"{ROLE_ID}:i-0aaaaaaaaaaaaaaaa", f"{ROLE_ID}:i-0bbbbbbbbbbbbbbbb"


@dataclass(frozen=True)
class Act:
    sentence: str
    requests: tuple
    allowed: tuple


def act(sentence, allowed, action, resource="*", **context):
    return Act(sentence, (Request(action, resource, context.get("context", {})),), tuple(allowed))


def launch(sentence, allowed, **changes):
    """A launch as scale-up asks for it; `changes` by kind: a resource, a context, or `None` to leave the kind out."""
    from_template = {"ec2:LaunchTemplate": TEMPLATE, "ec2:IsLaunchTemplateResource": "true"}
    chosen = from_template | {"ec2:IsLaunchTemplateResource": "false"}
    tagged = {"aws:RequestTag/ghr:environment": "prod"}
    parts = {
        "template": (TEMPLATE, {}),
        "image": (f"arn:aws:ec2:{REGION}::image/ami-0123456789abcdef0", from_template),
        "instance": (arn("ec2", "instance/*"), chosen | tagged),
        "network_interface": (arn("ec2", "network-interface/*"), chosen),
        "security_group": (arn("ec2", "security-group/sg-0123456789abcdef0"), from_template),
        "subnet": (arn("ec2", "subnet/subnet-0aaaaaaaaaaaaaaa1"), chosen),
        "volume": (arn("ec2", "volume/*"), from_template),
        "spot_request": (arn("ec2", "spot-instances-request/*"), chosen),
    }
    for kind, change in changes.items():
        resource, context = parts.get(kind, ("", {}))
        parts[kind] = (change, context) if isinstance(change, str) else (resource, change) if isinstance(change, dict) else change
    parts = [part for part in parts.values() if part]
    # CreateFleet asks in its own name and launches by RunInstances in the caller's.
    requests = [Request("ec2:RunInstances", *part) for part in parts]
    requests += [Request("ec2:CreateFleet", *part) for part in parts]
    requests.append(Request("ec2:CreateFleet", arn("ec2", "fleet/*"), {}))
    tags = {"ec2:CreateAction": "RunInstances", "aws:TagKeys": ["ghr:environment", "ghr:launch", "Name"]} | tagged
    requests += [Request("ec2:CreateTags", arn("ec2", f"{kind}/*"), tags) for kind in ("instance", "volume", "network-interface")]
    requests.append(Request("iam:PassRole", arn("iam", f"role/{PREFIX}-instance", region=""), {"iam:PassedToService": "ec2.amazonaws.com"}))
    return Act(sentence, tuple(requests), tuple(allowed))


def drain(**changes):
    return OURS | {"aws:TagKeys": ["ghr:drain"]} | changes


def put_configuration(**changes):
    return {"ssm:Overwrite": "false", "aws:RequestTag/ghr:environment": "prod", "aws:TagKeys": ["ghr:environment"]} | changes


def sign_of_life(*keys, **more):
    return FROM_INSTANCE | ({"dynamodb:LeadingKeys": list(keys)} if keys else {}) | more


TAGS = ["ghr:environment", "ghr:instance-id", "ghr:instance"]
RUNNER_LOG = arn("logs", "log-group:/runners/prod:log-stream:i-0aaaaaaaaaaaaaaaa")
LEDGER, VITAL = table("ledger"), table("vital-signs")
OTHER_TEMPLATE = {"ec2:LaunchTemplate": THEIR_TEMPLATE, "ec2:IsLaunchTemplateResource": "true"}

ACTS = [
    # Ending instances.
    act("end an instance of ours", [SCALE_DOWN, SWEEPER], "ec2:TerminateInstances", instance(), context=OURS),
    act("end an instance of another deployment", NOBODY, "ec2:TerminateInstances", instance(), context=THEIRS),
    act("end an instance that somebody tagged as ours", NOBODY, "ec2:TerminateInstances", instance(), context=FORGED),
    act("end an instance that has our profile and no tag", NOBODY, "ec2:TerminateInstances", instance(), context=BORROWED),
    act("end an instance that has our profile and another's tag", NOBODY, "ec2:TerminateInstances", instance(), context=RENAMED),
    act("end an instance of which nothing is known", NOBODY, "ec2:TerminateInstances", instance()),
    act("end an instance in another region", NOBODY, "ec2:TerminateInstances", arn("ec2", "instance/i-0a", region="us-east-1"), context=OURS),
    act("stop an instance", NOBODY, "ec2:StopInstances", instance(), context=OURS),
    act("protect an instance, or take protection away", NOBODY, "ec2:ModifyInstanceAttribute", instance(), context=OURS),
    act("list instances", [SCALE_UP, SCALE_DOWN, SWEEPER, DEMAND], "ec2:DescribeInstances"),
    act("read user data", NOBODY, "ec2:DescribeInstanceAttribute", instance(), context=OURS),
    # Tags.
    act("ask an instance of ours to drain", [SCALE_DOWN], "ec2:CreateTags", instance(), context=drain()),
    act("ask an instance of another deployment to drain", NOBODY, "ec2:CreateTags", instance(), context=drain(**THEIRS)),
    act("ask an instance that somebody tagged as ours to drain", NOBODY, "ec2:CreateTags", instance(), context=drain(**FORGED)),
    act("ask an instance with our profile and another's tag to drain", NOBODY, "ec2:CreateTags", instance(), context=drain(**RENAMED)),
    act("set another tag than the drain", NOBODY, "ec2:CreateTags", instance(), context=drain(**{"aws:TagKeys": ["ghr:bypass-removal"]})),
    act("set another tag along with the drain", NOBODY, "ec2:CreateTags", instance(), context=drain(**{"aws:TagKeys": ["ghr:drain", "ghr:environment"]})),
    act("tag with no key", NOBODY, "ec2:CreateTags", instance(), context=OURS),
    act("drain a volume", NOBODY, "ec2:CreateTags", arn("ec2", "volume/vol-0a"), context=drain()),
    act("forge our tag on somebody's instance", NOBODY, "ec2:CreateTags", instance(), context={"aws:TagKeys": ["ghr:environment"], "aws:RequestTag/ghr:environment": "prod"}),
    act("forge our tag on an instance of another deployment", NOBODY, "ec2:CreateTags", instance(), context=THEIRS | {"aws:TagKeys": ["ghr:environment"], "aws:RequestTag/ghr:environment": "prod"}),
    act("take a tag away", NOBODY, "ec2:DeleteTags", instance(), context=drain()),
    act("tag as ours at a launch", LAUNCHERS, "ec2:CreateTags", arn("ec2", "instance/*"), context={"ec2:CreateAction": "RunInstances", "aws:RequestTag/ghr:environment": "prod"}),
    act("tag as ours at the creation of a fleet", LAUNCHERS, "ec2:CreateTags", arn("ec2", "fleet/*"), context={"ec2:CreateAction": "CreateFleet", "aws:RequestTag/ghr:environment": "prod"}),
    act("tag as another deployment's at a launch", NOBODY, "ec2:CreateTags", arn("ec2", "instance/*"), context={"ec2:CreateAction": "RunInstances", "aws:RequestTag/ghr:environment": "staging"}),
    act("tag as ours at the creation of a volume", NOBODY, "ec2:CreateTags", arn("ec2", "volume/*"), context={"ec2:CreateAction": "CreateVolume", "aws:RequestTag/ghr:environment": "prod"}),
    act("tag an image at a launch", NOBODY, "ec2:CreateTags", f"arn:aws:ec2:{REGION}::image/*", context={"ec2:CreateAction": "RunInstances", "aws:RequestTag/ghr:environment": "prod"}),
    # Launching.
    launch("launch from our template", LAUNCHERS),
    launch("launch from another template", NOBODY, template=THEIR_TEMPLATE),
    launch("launch an instance of another template", NOBODY, instance=OTHER_TEMPLATE | {"aws:RequestTag/ghr:environment": "prod"}),
    launch("launch an instance without a template", NOBODY, instance={"aws:RequestTag/ghr:environment": "prod"}),
    launch("launch without our tag", NOBODY, instance={"ec2:LaunchTemplate": TEMPLATE}),
    launch("launch as another deployment", NOBODY, instance={"ec2:LaunchTemplate": TEMPLATE, "aws:RequestTag/ghr:environment": "staging"}),
    launch("launch another image than the template's", NOBODY, image={"ec2:LaunchTemplate": TEMPLATE, "ec2:IsLaunchTemplateResource": "false"}),
    launch("launch another template's image", NOBODY, image=OTHER_TEMPLATE),
    launch("launch in another subnet", NOBODY, subnet=arn("ec2", "subnet/subnet-0dddddddddddddddd")),
    launch("launch in our subnet from another template", NOBODY, subnet=OTHER_TEMPLATE),
    launch("launch with another security group", NOBODY, security_group=arn("ec2", "security-group/sg-0dddddddddddddddd")),
    launch("launch with another template's volumes", NOBODY, volume=OTHER_TEMPLATE),
    launch("launch with another template's network interface", NOBODY, network_interface=OTHER_TEMPLATE),
    launch("launch with our security group from another template", NOBODY, security_group=OTHER_TEMPLATE),
    launch("launch with another template's spot request", NOBODY, spot_request=OTHER_TEMPLATE),
    launch("launch with a key pair", NOBODY, key_pair=(arn("ec2", "key-pair/mine"), {"ec2:LaunchTemplate": TEMPLATE, "aws:RequestTag/ghr:environment": "prod"})),
    act("create a fleet of another template", NOBODY, "ec2:CreateFleet", THEIR_TEMPLATE),
    act("pass another role to EC2", NOBODY, "iam:PassRole", arn("iam", "role/admin", region=""), context={"iam:PassedToService": "ec2.amazonaws.com"}),
    act("pass the instances' role to another service", NOBODY, "iam:PassRole", arn("iam", f"role/{PREFIX}-instance", region=""), context={"iam:PassedToService": "lambda.amazonaws.com"}),
    act("change a launch template", NOBODY, "ec2:CreateLaunchTemplateVersion", TEMPLATE),
    # Configuration and secrets.
    act("read the configuration", FUNCTIONS, "ssm:GetParameter", parameter("config")),
    act("read the webhook's secret", [WEBHOOK], "ssm:GetParameter", parameter("app/webhook-secret")),
    act("read the App's id", [SCALE_UP, SCALE_DOWN, SWEEPER, DEMAND], "ssm:GetParameter", parameter("app/app-id")),
    act("read the App's key", [SCALE_UP, SCALE_DOWN, SWEEPER, DEMAND], "ssm:GetParameter", parameter("app/private-key")),
    act("read the kill switch", [SCALE_DOWN, SWEEPER], "ssm:GetParameter", parameter("kill-switch")),
    act("read another deployment's key", NOBODY, "ssm:GetParameter", parameter("app/private-key", "staging")),
    act("read another deployment's configuration", NOBODY, "ssm:GetParameter", parameter("config", "staging")),
    act("read whatever else is in the parameter store", NOBODY, "ssm:GetParameter", arn("ssm", "parameter/database/password")),
    act("read parameters by path", NOBODY, "ssm:GetParametersByPath", parameter("app")),
    act("write the configuration", NOBODY, "ssm:PutParameter", parameter("config"), context=put_configuration()),
    act("close the kill switch", NOBODY, "ssm:PutParameter", parameter("kill-switch"), context=put_configuration()),
    act("delete the App's key", NOBODY, "ssm:DeleteParameter", parameter("app/private-key"), context=OWN_PARAMETER),
    act("tag the configuration", NOBODY, "ssm:AddTagsToResource", parameter("config"), context=put_configuration()),
    # JIT configurations.
    act("hand over a configuration", LAUNCHERS, "ssm:PutParameter", parameter("runners/i-0a"), context=put_configuration()),
    act("replace a configuration", NOBODY, "ssm:PutParameter", parameter("runners/i-0a"), context=put_configuration(**{"ssm:Overwrite": "true"})),
    act("hand over a configuration as another deployment's", NOBODY, "ssm:PutParameter", parameter("runners/i-0a"), context=put_configuration(**{"aws:RequestTag/ghr:environment": "staging"})),
    act("hand over a configuration in another deployment", NOBODY, "ssm:PutParameter", parameter("runners/i-0a", "staging"), context=put_configuration()),
    act("say whose a configuration is", LAUNCHERS, "ssm:AddTagsToResource", parameter("runners/i-0a"), context=put_configuration(**{"aws:TagKeys": TAGS})),
    act("tag a configuration otherwise", NOBODY, "ssm:AddTagsToResource", parameter("runners/i-0a"), context=put_configuration(**{"aws:TagKeys": TAGS + ["owner"]})),
    act("tag a configuration as another deployment's", NOBODY, "ssm:AddTagsToResource", parameter("runners/i-0a"), context=put_configuration(**{"aws:RequestTag/ghr:environment": "staging"})),
    act("take one's own configuration", [INSTANCE], "ssm:GetParameter", parameter("runners/i-0aaaaaaaaaaaaaaaa"), context=OWN_PARAMETER),
    act("take another instance's configuration", NOBODY, "ssm:GetParameter", parameter("runners/i-0bbbbbbbbbbbbbbbb"), context=ANOTHERS_PARAMETER),
    act("take a configuration that says nobody's name", NOBODY, "ssm:GetParameter", parameter("runners/i-0bbbbbbbbbbbbbbbb"), context=FROM_INSTANCE),
    act("take a configuration from outside of an instance", NOBODY, "ssm:GetParameter", parameter("runners/i-0a"), context={"aws:ResourceTag/ghr:instance": instance()}),
    act("take a parameter elsewhere that bears one's name", NOBODY, "ssm:GetParameter", arn("ssm", "parameter/database/password"), context=OWN_PARAMETER),
    act("delete a configuration that is one's own", [SCALE_DOWN, SWEEPER, INSTANCE], "ssm:DeleteParameter", parameter("runners/i-0aaaaaaaaaaaaaaaa"), context=OWN_PARAMETER),
    act("delete another instance's configuration", [SCALE_DOWN, SWEEPER], "ssm:DeleteParameter", parameter("runners/i-0bbbbbbbbbbbbbbbb"), context=ANOTHERS_PARAMETER),
    act("delete a configuration in another deployment", NOBODY, "ssm:DeleteParameter", parameter("runners/i-0a", "staging")),
    act("list parameters without their values", [SWEEPER], "ssm:DescribeParameters"),
    # The ledger.
    act("read the ledger", FUNCTIONS, "dynamodb:BatchGetItem", LEDGER),
    act("read one record by itself", NOBODY, "dynamodb:GetItem", LEDGER),
    act("write the ledger", FUNCTIONS, "dynamodb:PutItem", LEDGER),
    act("list what is open", [SCALE_UP, SCALE_DOWN, SWEEPER, DEMAND], "dynamodb:Query", LEDGER + "/index/open"),
    act("query the table itself", NOBODY, "dynamodb:Query", LEDGER),
    act("scan the ledger", NOBODY, "dynamodb:Scan", LEDGER),
    act("scan what is open", NOBODY, "dynamodb:Scan", LEDGER + "/index/open"),
    act("delete a record", NOBODY, "dynamodb:DeleteItem", LEDGER),
    act("delete the ledger", NOBODY, "dynamodb:DeleteTable", LEDGER),
    act("read another deployment's ledger", NOBODY, "dynamodb:BatchGetItem", table("ledger", "runner-scaler-staging")),
    act("list what is open in another deployment", NOBODY, "dynamodb:Query", table("ledger/index/open", "runner-scaler-staging")),
    # Vital signs.
    act("read vital signs", [SCALE_DOWN, SWEEPER, DEMAND], "dynamodb:BatchGetItem", VITAL),
    act("read one vital sign by itself", NOBODY, "dynamodb:GetItem", VITAL),
    act("give one's own vital sign", [INSTANCE], "dynamodb:PutItem", VITAL, context=sign_of_life(OWN_KEY)),
    act("change one's own vital sign in part", NOBODY, "dynamodb:UpdateItem", VITAL, context=sign_of_life(OWN_KEY)),
    act("give another instance's vital sign", NOBODY, "dynamodb:PutItem", VITAL, context=sign_of_life(ANOTHERS_KEY)),
    act("give one's own and another's vital sign", NOBODY, "dynamodb:PutItem", VITAL, context=sign_of_life(OWN_KEY, ANOTHERS_KEY)),
    act("give a vital sign that names nobody", NOBODY, "dynamodb:PutItem", VITAL, context=sign_of_life()),
    act("give a vital sign in another deployment", NOBODY, "dynamodb:PutItem", table("vital-signs", "runner-scaler-staging"), context=sign_of_life(OWN_KEY)),
    act("delete one's own vital sign", NOBODY, "dynamodb:DeleteItem", VITAL, context=sign_of_life(OWN_KEY)),
    # The queue.
    act("send a job", [WEBHOOK, DEMAND], "sqs:SendMessage", queue("scale-up")),
    act("take jobs", [SCALE_UP], "sqs:ReceiveMessage", queue("scale-up")),
    act("acknowledge a job", [SCALE_UP], "sqs:DeleteMessage", queue("scale-up")),
    act("empty the queue", NOBODY, "sqs:PurgeQueue", queue("scale-up")),
    act("send a job to another deployment", NOBODY, "sqs:SendMessage", queue("scale-up", "runner-scaler-staging")),
    act("take another deployment's jobs", NOBODY, "sqs:ReceiveMessage", queue("scale-up", "runner-scaler-staging")),
    act("report a lost tick", SCHEDULES, "sqs:SendMessage", queue("lost-ticks")),
    # Functions, logs, and whatever else a thief would try.
    *(act(f"wake {name}", [f"{name}-schedule"] if f"{name}-schedule" in SCHEDULES else NOBODY, "lambda:InvokeFunction", arn("lambda", f"function:{PREFIX}-{name}")) for name in FUNCTIONS),
    *(act(f"write the logs of {name}", [name], "logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{PREFIX}-{name}:log-stream:x")) for name in FUNCTIONS),
    act("change a function", NOBODY, "lambda:UpdateFunctionCode", arn("lambda", f"function:{PREFIX}-{SCALE_UP}")),
    act("write what a runner says", NOBODY, "logs:PutLogEvents", RUNNER_LOG),
    act("make a log group", NOBODY, "logs:CreateLogGroup", arn("logs", "log-group:/aws/lambda/other")),
    act("read logs", NOBODY, "logs:GetLogEvents", arn("logs", f"log-group:/aws/lambda/{PREFIX}-{WEBHOOK}:log-stream:x")),
    act("become another role", NOBODY, "sts:AssumeRole", arn("iam", "role/admin", region="")),
    act("make a user", NOBODY, "iam:CreateUser", arn("iam", "user/thief", region="")),
    act("use a key of the account", NOBODY, "kms:Decrypt", KEY),
    act("make a network interface", NOBODY, "ec2:CreateNetworkInterface", arn("ec2", "network-interface/*")),
]


def from_service(service, **more):
    return {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"} | more


# With `kms_key_arn`, `function_network` and a fleet's `LOG_GROUP`: what is added, and what of the above that changes.
ADDED_ACTS = [
    *(act(f"decrypt what {service} hands over", FUNCTIONS, "kms:Decrypt", KEY, context=from_service(service)) for service in ("sqs", "dynamodb", "ssm", "lambda")),
    act("decrypt by itself", NOBODY, "kms:Decrypt", KEY),
    act("decrypt what another service hands over", NOBODY, "kms:Decrypt", KEY, context=from_service("s3")),
    act("use another key", NOBODY, "kms:Decrypt", arn("kms", "key/other"), context=from_service("sqs")),
    act("encrypt a volume", LAUNCHERS, "kms:GenerateDataKeyWithoutPlaintext", KEY, context=from_service("ec2")),
    act("encrypt a volume by itself", NOBODY, "kms:GenerateDataKeyWithoutPlaintext", KEY),
    act("encrypt a volume with another key", NOBODY, "kms:GenerateDataKeyWithoutPlaintext", arn("kms", "key/other"), context=from_service("ec2")),
    act("let EC2 use the key", LAUNCHERS, "kms:CreateGrant", KEY, context={"kms:GrantIsForAWSResource": "true"}),
    act("let anybody use the key", NOBODY, "kms:CreateGrant", KEY, context={"kms:GrantIsForAWSResource": "false"}),
    act("let EC2 use another key", NOBODY, "kms:CreateGrant", arn("kms", "key/other"), context={"kms:GrantIsForAWSResource": "true"}),
    act("destroy the key", NOBODY, "kms:ScheduleKeyDeletion", KEY, context=from_service("sqs") | from_service("ec2")),
    act("begin what a runner says", [INSTANCE], "logs:CreateLogStream", RUNNER_LOG),
    act("write what a runner says", [INSTANCE], "logs:PutLogEvents", RUNNER_LOG),
    act("read what a runner says", NOBODY, "logs:GetLogEvents", RUNNER_LOG),
    act("delete what a runner says", NOBODY, "logs:DeleteLogStream", RUNNER_LOG),
    act("write beside the instances' streams", NOBODY, "logs:PutLogEvents", arn("logs", "log-group:/runners/prod:log-stream:audit")),
    act("write what a runner says into another group", NOBODY, "logs:PutLogEvents", arn("logs", "log-group:/runners/staging:log-stream:i-0aaaaaaaaaaaaaaaa")),
    act("be attached to the network by Lambda", FUNCTIONS, "ec2:CreateNetworkInterface", arn("ec2", "network-interface/*")),
    *(
        act(f"make a network interface from the code of {name}", [other for other in FUNCTIONS if other != name], "ec2:CreateNetworkInterface", arn("ec2", "network-interface/*"), context={"lambda:SourceFunctionArn": arn("lambda", f"function:{PREFIX}-{name}")})
        for name in FUNCTIONS
    ),
]
REPLACED = {"make a network interface", "write what a runner says"}

# The queue's own policy, which binds whoever the roles' policies let in, in this account and out of it.
SENDERS = [arn("iam", f"role/{PREFIX}-{name}", region="") for name in (WEBHOOK, DEMAND)]
TLS = {"aws:SecureTransport": "true"}


def queue_act(sentence, principal, action, **context):
    return Request(action, queue("scale-up"), TLS | {"aws:PrincipalArn": principal} | context, principal), sentence


QUEUE_ACTS = [
    *((*queue_act("a function that has jobs sends one", sender, "sqs:SendMessage"), False) for sender in SENDERS),
    (*queue_act("a function that has none sends one", arn("iam", f"role/{PREFIX}-{SWEEPER}", region=""), "sqs:SendMessage"), True),
    (*queue_act("an administrator sends a job of his own", arn("iam", "role/admin", region=""), "sqs:SendMessage"), True),
    (*queue_act("another deployment sends a job", arn("iam", "role/runner-scaler-staging-webhook", region=""), "sqs:SendMessage"), True),
    (*queue_act("another account sends a job", "arn:aws:iam::999999999999:role/runner-scaler-prod-webhook", "sqs:SendMessage"), True),
    (*queue_act("scale-up takes a job", arn("iam", f"role/{PREFIX}-{SCALE_UP}", region=""), "sqs:ReceiveMessage"), False),
    (*queue_act("a function sends in the clear", SENDERS[0], "sqs:SendMessage", **{"aws:SecureTransport": "false"}), True),
    (*queue_act("scale-up takes a job in the clear", arn("iam", f"role/{PREFIX}-{SCALE_UP}", region=""), "sqs:ReceiveMessage", **{"aws:SecureTransport": "false"}), True),
]
