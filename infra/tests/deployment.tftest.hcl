# What a deployment is made of, as far as a plan shows it.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  environment = "prod"
  subnet_ids  = ["subnet-0aaaaaaaaaaaaaaa1"]
  supervisor = {
    arm64 = { url = "https://example.com/runner-supervisor-arm64", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"] }]
}

run "defaults" {
  command = plan

  assert {
    condition     = toset(keys(output.function_names)) == toset(["webhook", "scale-up", "scale-down", "orphan-sweeper", "demand-reconciler"])
    error_message = "one function for each folder of functions/"
  }

  assert {
    condition     = alltrue([for function in module.function : startswith(function.log_group_name, "/aws/lambda/runner-scaler-prod-")])
    error_message = "each function has its log group"
  }

  assert {
    condition     = output.configuration.mode == "enforce" && output.configuration.fleets[0].launch_template.version == "1" && output.configuration.fleets[0].subnet_ids[0] == "subnet-0aaaaaaaaaaaaaaa1"
    error_message = "the document names the template by a version's number and the deployment's subnets"
  }

  assert {
    condition     = output.webhook_url == "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/webhook"
    error_message = "the App is told the API's one route"
  }

  assert {
    condition     = aws_ssm_parameter.config.tier == "Standard" && aws_ssm_parameter.kill_switch.value == "enabled"
    error_message = "a small document needs no advanced parameter; removal is enabled"
  }
}

run "a_subnet_of_another_vpc" {
  command         = plan
  expect_failures = [aws_security_group.instance]

  override_data {
    target = data.aws_subnet.runner[1]
    values = { vpc_id = "vpc-0fedcba9876543210" }
  }

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], subnet_ids = ["subnet-0bbbbbbbbbbbbbbb1"] }]
  }
}

run "two_subnets_in_one_zone" {
  command         = plan
  expect_failures = [aws_security_group.instance]

  override_data {
    target = data.aws_subnet.runner[1]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.runner[2]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eu-central-1a" }
  }

  variables {
    fleets = [{ name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"], subnet_ids = ["subnet-0bbbbbbbbbbbbbbb1", "subnet-0bbbbbbbbbbbbbbb2"] }]
  }
}

# That they are of one zone concerns only who launches in both.
run "subnets_of_two_fleets_in_one_zone" {
  command = plan

  override_data {
    target = data.aws_subnet.runner[0]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eu-central-1a" }
  }

  override_data {
    target = data.aws_subnet.runner[1]
    values = { vpc_id = "vpc-0123456789abcdef0", availability_zone = "eu-central-1a" }
  }

  variables {
    fleets = [
      { name = "linux", labels = ["self-hosted"], runner_count_max = 2, instance_types = ["m7g.large"] },
      { name = "other", labels = ["self-hosted", "other"], runner_count_max = 2, instance_types = ["m7g.large"], subnet_ids = ["subnet-0bbbbbbbbbbbbbbb1"] },
    ]
  }

  assert {
    condition     = length(local.crowded_fleets) == 0 && local.subnet_zones["subnet-0bbbbbbbbbbbbbbb1"][0] == "eu-central-1a"
    error_message = "each fleet has one subnet in that zone"
  }
}

run "supervisor_settings" {
  command = plan

  variables {
    fleets = [{
      name                = "linux"
      labels              = ["self-hosted"]
      runner_count_max    = 2
      instance_types      = ["m7g.large"]
      timers              = { idle_maximum_seconds = 900 }
      supervisor_settings = { LOG_GROUP = "/runners/prod", BLOCK_METADATA = "false" }
    }]
  }

  assert {
    condition = join(" ", [for name, value in local.supervisor_settings["linux"] : "${name}=${value}"]) == join(" ", [
      "BLOCK_METADATA=false", "IDLE_MAXIMUM_SECONDS=900", "LOG_GROUP=/runners/prod", "RUNNER_PARAMETER_PATH=/runner-scaler/prod/runners",
      "VITAL_SIGNS_KEY_PREFIX=AROAEXAMPLEROLE123456:", "VITAL_SIGNS_TABLE=runner-scaler-prod-vital-signs",
    ])
    error_message = "a fleet's settings are beside the module's, in the order of their names"
  }
}

run "many_repositories" {
  command = plan

  variables {
    repositories = [for n in range(150) : "acme-labs/service-with-a-name-${n}"]
  }

  assert {
    condition     = length(aws_ssm_parameter.config.value) > 4096 && aws_ssm_parameter.config.tier == "Advanced"
    error_message = "the whole document decides what kind of parameter holds it"
  }

  # Not below, or a document that is larger than a standard parameter could be put into one; and not much above.
  assert {
    condition     = local.document_bytes >= length(aws_ssm_parameter.config.value) && local.document_bytes < length(aws_ssm_parameter.config.value) + 20
    error_message = "what is counted is what is stored"
  }
}

run "letters_of_two_bytes" {
  command = plan

  variables {
    fleets = [{ name = "linux", labels = [for n in range(20) : "${n}${join("", [for m in range(100) : "ä"])}"], runner_count_max = 2, instance_types = ["m7g.large"] }]
  }

  assert {
    condition     = length(aws_ssm_parameter.config.value) < 4096 && aws_ssm_parameter.config.tier == "Advanced"
    error_message = "bytes are counted, and not characters"
  }
}

run "a_document_that_ssm_refuses" {
  command         = plan
  expect_failures = [aws_ssm_parameter.config]

  variables {
    repositories = [for n in range(300) : "acme-labs/service-with-a-name-${n}"]
  }
}

# With all that makes policies longer; the longest name of an environment, too.
run "as_many_fleets_as_the_document_takes" {
  command = plan

  variables {
    environment = "a-deployment-of-32-characters-32"
    fleets = [for n in range(20) : {
      name             = "linux-arm64-${n}"
      labels           = ["self-hosted", "linux", "arm64", "f${n}"]
      runner_count_max = 2
      instance_types   = ["m7g.large"]
    }]
    kms_key_arn      = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    function_network = { subnet_ids = ["subnet-0bbbbbbbbbbbbbbb1"], security_group_ids = ["sg-0fedcba9876543210"] }
  }

  assert {
    condition     = local.document_bytes > 7500
    error_message = "the document takes hardly more"
  }

  # Templates are mocked, each by the same ARN of the usual length.
  assert {
    condition     = max([for policy in values(output.policies) : length(policy)]...) <= 10240
    error_message = "and IAM takes the policies, of at most ${max([for policy in values(output.policies) : length(policy)]...)} characters"
  }
}

run "a_policy_that_iam_refuses" {
  command         = plan
  expect_failures = [aws_iam_role_policy.this]

  module {
    source = "./modules/function"
  }

  variables {
    name = "scale-up"
    arn  = "arn:aws:lambda:eu-central-1:111122223333:function:scale-up"
    # A file that is there.
    package                  = "guard"
    architecture             = "arm64"
    timeout_seconds          = 60
    variables                = {}
    policy                   = jsonencode([{ Sid = "Long", Effect = "Allow", Action = "ec2:RunInstances", Resource = [for n in range(160) : "arn:aws:ec2:eu-central-1:111122223333:subnet/subnet-0aaaaaaaaaaaaa${100 + n}"] }])
    network                  = null
    kms_key_arn              = null
    permissions_boundary_arn = null
    log_retention_days       = 90
    tags                     = {}
  }
}

run "queue" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    name                     = "jobs"
    arn                      = "arn:aws:sqs:eu-central-1:111122223333:jobs"
    consumer_timeout_seconds = 60
    consumer_arn             = "arn:aws:lambda:eu-central-1:111122223333:function:scale-up"
    batch_size               = 50
    batching_window_seconds  = 1
    maximum_concurrency      = 5
    sender_role_arns         = ["arn:aws:iam::111122223333:role/webhook"]
    kms_key_arn              = null
    tags                     = {}
  }

  assert {
    condition     = aws_sqs_queue.this.visibility_timeout_seconds >= 6 * 60
    error_message = "the visibility timeout is at least six times the consumer's time limit"
  }

  assert {
    condition     = jsondecode(aws_sqs_queue.this.redrive_policy).maxReceiveCount * aws_sqs_queue.this.visibility_timeout_seconds > 2 * 3600
    error_message = "a message outlasts an outage of GitHub of an hour"
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.this.function_response_types, "ReportBatchItemFailures") && aws_lambda_event_source_mapping.this.scaling_config[0].maximum_concurrency == 5
    error_message = "messages fail alone, and there is a maximum of concurrency"
  }
}

run "a_window_that_lambda_refuses" {
  command         = plan
  expect_failures = [var.batching_window_seconds]

  module {
    source = "./modules/queue"
  }

  variables {
    name                     = "jobs"
    arn                      = "arn:aws:sqs:eu-central-1:111122223333:jobs"
    consumer_timeout_seconds = 60
    consumer_arn             = "arn:aws:lambda:eu-central-1:111122223333:function:scale-up"
    batch_size               = 50
    batching_window_seconds  = 0
    maximum_concurrency      = 5
    sender_role_arns         = ["arn:aws:iam::111122223333:role/webhook"]
    kms_key_arn              = null
    tags                     = {}
  }
}

run "launch_template" {
  command = plan

  module {
    source = "./modules/launch-template"
  }

  variables {
    name                 = "linux"
    image_id             = "ami-0123456789abcdef0"
    root_device          = "/dev/xvda"
    disk_gib             = 30
    public_ip            = false
    instance_profile_arn = "arn:aws:iam::111122223333:instance-profile/linux"
    security_group_id    = "sg-0123456789abcdef0"
    user_data            = "#!/bin/sh"
    kms_key_arn          = null
    tags                 = { "ghr:environment" = "prod" }
  }

  assert {
    condition = (
      aws_launch_template.this.metadata_options[0].http_tokens == "required" &&
      aws_launch_template.this.metadata_options[0].http_put_response_hop_limit == 1 &&
      aws_launch_template.this.metadata_options[0].instance_metadata_tags == "enabled"
    )
    error_message = "IMDSv2 is required, one hop, tags in metadata"
  }

  assert {
    condition = (
      aws_launch_template.this.instance_initiated_shutdown_behavior == "terminate" &&
      aws_launch_template.this.network_interfaces[0].associate_public_ip_address == "false" &&
      aws_launch_template.this.block_device_mappings[0].ebs[0].encrypted == "true" &&
      aws_launch_template.this.block_device_mappings[0].ebs[0].volume_type == "gp3"
    )
    error_message = "an instance that powers off is gone, has no public address and an encrypted gp3 volume"
  }
}

run "user_data_that_ec2_refuses" {
  command         = plan
  expect_failures = [var.user_data]

  module {
    source = "./modules/launch-template"
  }

  variables {
    name                 = "linux"
    image_id             = "ami-0123456789abcdef0"
    root_device          = "/dev/xvda"
    disk_gib             = 30
    public_ip            = false
    instance_profile_arn = "arn:aws:iam::111122223333:instance-profile/linux"
    security_group_id    = "sg-0123456789abcdef0"
    # Digests do not compress.
    user_data   = join("", [for n in range(400) : sha512(tostring(n))])
    kms_key_arn = null
    tags        = {}
  }
}
