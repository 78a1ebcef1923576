#!/usr/bin/env python3
"""Applies examples/minimal to the local AWS emulator, uses it, and destroys it again (infra/check --emulator).

What is shown: everything is made; a second plan is empty; a signed delivery through the HTTP API reaches the webhook, its
job the queue and scale-up; scale-down and orphan-sweeper run; destroy refuses while the deployment is not retired, and
while an instance, an open record or a JIT configuration is left, and changes nothing then; after that nothing is left at all.

What the emulator cannot show: it enforces no IAM policy (tests/policies evaluates them), boots nothing (user data never
runs), knows no capacity, and GitHub is not there, so that scale-up's jobs come back. It lacks saved queries, tells half of an
alarm, misspells a template's security group and drops a rule's description; `Front` makes up for that.

Environment: FUNCTIONS, a folder with the functions' binaries for this machine; PYTHON, one that has ministack; PLUGINS, a
mirror of the provider or nothing; PATH with `aws` and `terraform`. Nothing leaves the machine.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape

INFRA = Path(__file__).resolve().parent.parent
ROOT = INFRA.parent
REGION = "us-east-1"
SECRET = "a secret of the emulator's own"
# Not reachable, and loopback: whatever a function asks GitHub stays here.
GITHUB = "https://127.0.0.1:9"

# Ends the emulator when our end of its standard input closes, which the kernel does however we die.
LAUNCHER = """
import os, signal, threading
def end_with_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_with_parent, daemon=True).start()
from ministack.app import main
main()
"""


class Failed(Exception):
    """A step that did not show what it had to show."""


def say(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def check(holds, what):
    if not holds:
        raise Failed(what)
    say(f"ok: {what}")


class Front(BaseHTTPRequestHandler):
    """Stands before the emulator for CloudWatch, its logs and EC2: keeps saved queries, which the emulator does not know,
    answers for alarms with all that was put, of which the emulator tells half, and names a template's security group as
    EC2 does. Everything else is the emulator's."""

    emulator = ""
    queries = {}
    alarms = {}
    descriptions = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        action = self.headers.get("x-amz-target", "").rpartition(".")[2]
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode(errors="replace")).items()}
        if action.endswith(("QueryDefinition", "QueryDefinitions")):
            self.answer_queries(action, json.loads(body))
        elif form.get("Action") == "DescribeAlarms":
            wanted = members(form, "AlarmNames")
            found = [alarm for name, alarm in self.alarms.items() if not wanted or name in wanted]
            self.answer(200, f"<DescribeAlarmsResponse {CLOUDWATCH}><DescribeAlarmsResult><MetricAlarms>{''.join(map(alarm_xml, found))}</MetricAlarms></DescribeAlarmsResult></DescribeAlarmsResponse>".encode())
        else:
            if form.get("Action") == "PutMetricAlarm":
                self.alarms[form["AlarmName"]] = form
            if form.get("Action") == "AuthorizeSecurityGroupEgress" and (text := form.get("IpPermissions.1.IpRanges.1.Description")):
                self.descriptions[form["GroupId"].encode()] = text.encode()
            if form.get("Action") == "DeleteAlarms":
                for name in members(form, "AlarmNames"):
                    self.alarms.pop(name, None)
            self.forward(body)

    def answer_queries(self, action, asked):
        if action == "PutQueryDefinition":
            id = asked.get("queryDefinitionId") or str(uuid.uuid4())
            self.queries[id] = {name: asked[name] for name in ("name", "queryString", "logGroupNames") if name in asked}
            return self.answer(200, {"queryDefinitionId": id})
        if action == "DeleteQueryDefinition":
            return self.answer(200, {"success": self.queries.pop(asked["queryDefinitionId"], None) is not None})
        listed = [{"queryDefinitionId": id} | query for id, query in self.queries.items()]
        return self.answer(200, {"queryDefinitions": [one for one in listed if one["name"].startswith(asked.get("queryDefinitionNamePrefix", ""))]})

    def forward(self, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length", "accept-encoding")}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.emulator, body, headers), timeout=60) as answer:
                self.answer(answer.status, RULE.sub(self.described, GROUPS.sub(rb"<groupSet><groupId>\1</groupId></groupSet>", answer.read())))
        except urllib.error.HTTPError as refused:
            self.answer(refused.code, refused.read())

    def described(self, rule):
        """A group's first rule with its description, which the emulator drops where a default of its own was alike."""
        text = self.descriptions.get(rule["group"])
        return rule[0].replace(b"</item>", b"<description>" + text + b"</description></item>") if text and b"<description>" not in rule[0] else rule[0]

    def answer(self, status, content):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "text/xml" if text.startswith(b"<") else "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Not to standard error: the steps are told there."""


GROUPS = re.compile(rb"<groupSet><item>(sg-[0-9a-f]+)</item></groupSet>")
RULE = re.compile(rb"<item><securityGroupRuleId>[^<]*</securityGroupRuleId><groupId>(?P<group>[^<]*)</groupId>(?:(?!</item>).)*<cidrIpv4>(?:(?!</item>).)*</item>", re.DOTALL)
CLOUDWATCH = 'xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"'


def members(form, name):
    return [value for key, value in sorted(form.items()) if re.fullmatch(rf"{name}\.member\.\d+", key)]


def alarm_xml(form):
    plain = ("AlarmName", "AlarmDescription", "ActionsEnabled", "MetricName", "Namespace", "Statistic", "Period", "Threshold",
             "EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "TreatMissingData")
    dimensions = "".join(
        f"<member><Name>{escape(form[key])}</Name><Value>{escape(form[key[:-4] + 'Value'])}</Value></member>"
        for key in sorted(form) if re.fullmatch(r"Dimensions\.member\.\d+\.Name", key)
    )
    actions = "".join(
        f"<{kind}>{''.join(f'<member>{escape(arn)}</member>' for arn in members(form, kind))}</{kind}>"
        for kind in ("AlarmActions", "OKActions", "InsufficientDataActions")
    )
    texts = "".join(f"<{name}>{escape(form[name])}</{name}>" for name in plain if name in form)
    arn = f"arn:aws:cloudwatch:{REGION}:000000000000:alarm:{escape(form['AlarmName'])}"
    return f"<member>{texts}<AlarmArn>{arn}</AlarmArn><Dimensions>{dimensions}</Dimensions>{actions}</member>"


class Stage:
    """The emulator, a copy of the example, and the tools that speak to both."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        Front.emulator = self.url
        self.front = ThreadingHTTPServer(("127.0.0.1", 0), Front)
        threading.Thread(target=self.front.serve_forever, daemon=True).start()
        front = f"http://127.0.0.1:{self.front.server_port}"
        self.variables = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder),
            "AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_CLOUDWATCH": front, "AWS_ENDPOINT_URL_EC2": front, "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": front,
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_PAGER": "",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
            "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1",
        }

    def start(self):
        variables = {name: self.variables[name] for name in ("PATH", "HOME", "TMPDIR", "AWS_ENDPOINT_URL")} | {
            "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port),
            "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0", "DOCKER_HOST": "unix:///nonexistent",
        }
        log = open(self.folder / "ministack.log", "wb")
        self.process = subprocess.Popen(
            [os.environ["PYTHON"], "-c", LAUNCHER], env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise Failed(f"the emulator did not answer; see {self.folder}/ministack.log")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)

    def run(self, *command, cwd=None, expect=(0,)):
        done = subprocess.run(command, cwd=cwd or self.example, env=self.variables, capture_output=True, text=True, check=False)
        if done.returncode not in expect:
            raise Failed(f"{' '.join(map(str, command))} exited {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-5000:]}")
        return done

    def aws(self, *arguments):
        text = self.run("aws", "--output", "json", *arguments).stdout
        return json.loads(text) if text.strip() else {}

    def terraform(self, *arguments, expect=(0,)):
        return self.run("terraform", *arguments, "-no-color", expect=expect)

    def copy_example(self, subnet):
        """The example itself, but for where the module and its packages lie, and for GitHub."""
        self.example = self.folder / "example"
        shutil.copytree(INFRA / "examples/minimal", self.example, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        main = self.example / "main.tf"
        main.write_text(main.read_text().replace('source = "../.."', f'source = "{os.path.relpath(INFRA, self.example)}"'))
        (self.example / "emulator_override.tf").write_text(
            'module "runner_scaler" {\n'
            f'  packages_folder = "{self.folder}/packages"\n'
            f'  github_api_url  = "{GITHUB}"\n'
            # The emulator has the image of x86_64 alone among its public parameters.
            '  fleets = [{ name = "linux-arm64", labels = ["self-hosted", "linux", "arm64"], runner_count_max = 10,\n'
            '    instance_types = ["m7g.large"], ami_id = "ami-0123456789abcdef0" }]\n'
            "}\n"
        )
        (self.example / "terraform.tfvars.json").write_text(
            json.dumps({"region": REGION, "subnet_ids": [subnet], "supervisor": {"url": "https://example.com/s", "sha256": "0" * 64}})
        )


def pack(folder):
    """Packages that start this machine's own binaries: megabytes of a debug build are not worth unpacking."""
    (folder / "packages").mkdir()
    binaries = Path(os.environ["FUNCTIONS"])
    for function in sorted(path.name for path in (ROOT / "functions").iterdir() if path.is_dir()):
        binary = binaries / function
        if not os.access(binary, os.X_OK):
            raise Failed(f"{binary} is not there: cargo build --workspace --bins")
        with zipfile.ZipFile(folder / "packages" / f"{function}.zip", "w") as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, f"#!/bin/sh\nexec '{binary}'\n")


def deliver(stage, api, event, body):
    text = json.dumps(body).encode()
    signature = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    # The API's own name resolves nowhere here: the emulator goes by the Host header.
    request = urllib.request.Request(f"{stage.url}/webhook", text, {
        "host": f"{api}.execute-api.127.0.0.1:{stage.port}", "content-type": "application/json", "x-github-event": event,
        "x-github-delivery": "6e8b6e20-0000-4000-8000-000000000002", "x-hub-signature-256": f"sha256={signature}",
    })
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def queued_job(job):
    return {
        "action": "queued",
        "workflow_job": {"id": job, "run_id": 2, "run_attempt": 1, "labels": ["self-hosted", "linux", "arm64"], "created_at": "2026-11-20T10:00:00Z", "runner_id": None, "runner_name": None},
        "repository": {"id": 3, "name": "hello", "full_name": "octo/hello", "owner": {"login": "octo", "type": "Organization"}},
        "organization": {"login": "octo"},
        "installation": {"id": 4},
    }


def invoke(stage, function, event=None):
    out = stage.folder / "answer.json"
    payload = base64.b64encode(json.dumps(event or {}).encode()).decode()
    meta = stage.aws("lambda", "invoke", "--function-name", f"runner-scaler-prod-{function}", "--log-type", "Tail", "--payload", payload, str(out))
    log = base64.b64decode(meta.get("LogResult", "")).decode(errors="replace")
    return meta.get("FunctionError"), out.read_text(), log


def left_over(stage):
    """Whatever the emulator still has of the deployment."""
    named = lambda items: [item for item in items if "runner-scaler-prod" in item]
    # The AWS CLI takes SQS's old address in place of AWS_ENDPOINT_URL, but for an address that it is told by an option.
    queues = stage.aws("sqs", "list-queues", "--endpoint-url", stage.url)
    return {
        "functions": named(one["FunctionName"] for one in stage.aws("lambda", "list-functions")["Functions"]),
        "queues": named(queues.get("QueueUrls", [])),
        "tables": named(stage.aws("dynamodb", "list-tables")["TableNames"]),
        "roles": named(one["RoleName"] for one in stage.aws("iam", "list-roles")["Roles"]),
        "log groups": named(one["logGroupName"] for one in stage.aws("logs", "describe-log-groups")["logGroups"]),
        "schedules": named(one["Name"] for one in stage.aws("scheduler", "list-schedules")["Schedules"]),
        "launch templates": named(one["LaunchTemplateName"] for one in stage.aws("ec2", "describe-launch-templates")["LaunchTemplates"]),
        "security groups": named(one["GroupName"] for one in stage.aws("ec2", "describe-security-groups")["SecurityGroups"]),
        "saved queries": named(query["name"] for query in Front.queries.values()),
        "alarms": named(one["AlarmName"] for one in stage.aws("cloudwatch", "describe-alarms")["MetricAlarms"]),
        "APIs": named(one["Name"] for one in stage.aws("apigatewayv2", "get-apis")["Items"]),
        "parameters": [one["Name"] for one in stage.aws("ssm", "describe-parameters")["Parameters"] if not one["Name"].startswith("/runner-scaler/prod/app/")],
        "instances": [
            one["InstanceId"]
            for reservation in stage.aws("ec2", "describe-instances", "--filters", "Name=tag:ghr:environment,Values=prod", "Name=instance-state-name,Values=pending,running,stopping,stopped")["Reservations"]
            for one in reservation["Instances"]
        ],
    }


def refuses(stage, what, *words):
    """Destroy refuses with these words, and a plan afterwards shows that nothing was taken away."""
    refused = stage.terraform("destroy", "-auto-approve", expect=(1,))
    text = refused.stdout + refused.stderr
    check(all(word in text for word in words), f"destroy refuses while {what}: {words[0]!r}")
    # A destroy drops the outputs from the state before anything else; of these alone Terraform says so.
    plan = stage.terraform("plan", "-detailed-exitcode", expect=(0, 2))
    check(plan.returncode == 0 or "without changing any real" in plan.stdout, "and nothing was taken away")


def play(stage):
    pack(stage.folder)
    stage.start()
    say(f"emulator at {stage.url}, its log in {stage.folder}")
    stage.example = stage.folder
    vpc = stage.aws("ec2", "create-vpc", "--cidr-block", "10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = stage.aws("ec2", "create-subnet", "--vpc-id", vpc, "--cidr-block", "10.0.1.0/24")["Subnet"]["SubnetId"]
    stage.copy_example(subnet)

    plugins = [f"-plugin-dir={os.environ['PLUGINS']}"] if os.environ.get("PLUGINS") else []
    stage.terraform("init", *plugins)
    begun = time.monotonic()
    applied = stage.terraform("apply", "-auto-approve").stdout
    say(f"ok: applied in {time.monotonic() - begun:.0f} s: {next(line for line in applied.splitlines() if line.startswith('Apply complete'))}")
    again = stage.terraform("plan", "-detailed-exitcode", expect=(0, 2))
    check(again.returncode == 0, f"a second plan is empty: {[line for line in again.stdout.splitlines() if ' will be ' in line or '  ~ ' in line] or 'No changes'}")

    key = stage.run("openssl", "genrsa", "2048").stdout
    for name, value in (("app-id", "12345"), ("private-key", key), ("webhook-secret", SECRET)):
        stage.aws("ssm", "put-parameter", "--name", f"/runner-scaler/prod/app/{name}", "--type", "SecureString", "--value", value)
    api = stage.aws("apigatewayv2", "get-apis")["Items"][0]["ApiId"]
    check(deliver(stage, api, "ping", {"zen": "Design for failure."}) == 200, "a signed ping through the HTTP API is answered 200")
    check(deliver(stage, api, "workflow_job", queued_job(501)) == 202, "a queued job is answered 202")
    forged = urllib.request.Request(f"{stage.url}/webhook", b"{}", {"host": f"{api}.execute-api.127.0.0.1:{stage.port}", "x-github-event": "ping", "content-type": "application/json"})
    try:
        status = urllib.request.urlopen(forged, timeout=30).status
    except urllib.error.HTTPError as refused:
        status = refused.code
    check(status == 401, f"an unsigned delivery is answered {status}")
    job = {"pk": {"S": "job#501"}, "sk": {"S": "v"}}
    for _ in range(120):
        record = stage.aws("dynamodb", "get-item", "--table-name", "runner-scaler-prod-ledger", "--key", json.dumps(job)).get("Item")
        if record:
            break
        time.sleep(0.5)
    check(record is not None, "the job went through the queue, and scale-up wrote its record into the ledger")
    for function in ("scale-down", "orphan-sweeper"):
        error, answer, log = invoke(stage, function)
        check(error is None, f"{function} runs a pass: {answer[:120]}")
        check("PassErrors" in log, f"{function} reports its metrics")

    refuses(stage, "it is not retired", "prod is not retired: its mode is enforce (/runner-scaler/prod/config)", 'mode = "retire"')
    override = stage.example / "emulator_override.tf"
    override.write_text(override.read_text().replace('module "runner_scaler" {\n', 'module "runner_scaler" {\n  mode = "retire"\n'))
    retired = stage.terraform("apply", "-auto-approve").stdout
    document = json.loads(stage.aws("ssm", "get-parameter", "--name", "/runner-scaler/prod/config")["Parameter"]["Value"])
    check(document["mode"] == "retire" and "0 added, 1 changed, 0 destroyed" in retired, "mode = retire changes the configuration document and nothing else")

    instance = stage.aws("ec2", "run-instances", "--image-id", "ami-0123456789abcdef0", "--instance-type", "m7g.large", "--subnet-id", subnet,
                         "--tag-specifications", "ResourceType=instance,Tags=[{Key=ghr:environment,Value=prod}]")["Instances"][0]["InstanceId"]
    refuses(stage, "an instance lives", "instances of prod live", instance, 'mode = "retire"')
    stage.aws("ec2", "terminate-instances", "--instance-ids", instance)
    item = {"pk": {"S": f"instance#{instance}"}, "sk": {"S": "v"}, "open_pk": {"S": "instance"}, "open_sk": {"S": f"0#{instance}"}}
    stage.aws("dynamodb", "put-item", "--table-name", "runner-scaler-prod-ledger", "--item", json.dumps(item))
    stage.aws("ssm", "put-parameter", "--name", f"/runner-scaler/prod/runners/{instance}", "--type", "SecureString", "--value", "x")
    refuses(stage, "a record and a configuration are left", "1 records of prod are open", f"JIT configurations of prod are left: /runner-scaler/prod/runners/{instance}")
    stage.aws("dynamodb", "delete-item", "--table-name", "runner-scaler-prod-ledger", "--key", json.dumps({name: item[name] for name in ("pk", "sk")}))
    stage.aws("ssm", "delete-parameter", "--name", f"/runner-scaler/prod/runners/{instance}")
    destroyed = stage.terraform("destroy", "-auto-approve").stdout
    say(f"ok: {next(line for line in destroyed.splitlines() if line.startswith('Destroy complete'))}")
    rest = {kind: items for kind, items in left_over(stage).items() if items}
    check(not rest, f"nothing is left: {rest or 'no function, queue, table, role, log group, schedule, template, group, query, alarm, API, parameter, instance'}")


def main():
    folder = Path(tempfile.mkdtemp(prefix="runner-scaler-emulator-"))
    stage = Stage(folder)
    try:
        play(stage)
    except Failed as failure:
        print(f"FAILED: {failure}\n(logs in {folder})", file=sys.stderr)
        return 1
    finally:
        if hasattr(stage, "process"):
            stage.stop()
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
