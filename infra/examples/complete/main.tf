# Several fleets for a GitHub Enterprise Server: spot that falls back, a warm pool in working hours, large instances that
# jobs may choose from by label, a group of its own for deployments. With a key, a boundary, a network and alarms.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

module "runner_scaler" {
  source = "../.."

  environment     = "acme"
  github_api_url  = "https://ghes.acme.example/api/v3"
  packages_folder = var.packages_folder

  # Two owners need an App that is public on their server (README, "The GitHub App"): whom it serves is for these to say.
  owners    = ["acme", "acme-labs"]
  owner_ids = [1204, 3377]

  subnet_ids = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2", "subnet-0aaaaaaaaaaaaaaa3"]
  supervisor = {
    arm64  = { url = "https://artifacts.acme.example/runner-supervisor-arm64", sha256 = var.supervisor_sha256.arm64 }
    x86_64 = { url = "https://artifacts.acme.example/runner-supervisor-x86_64", sha256 = var.supervisor_sha256.x86_64 }
  }

  fleets = [
    {
      name             = "small"
      labels           = ["self-hosted", "linux", "arm64"]
      runner_count_max = 50
      instance_types   = ["m7g.large", "m6g.large", "c7g.large", "c6g.large"]
      market           = "spot"
      fallback         = "on-demand"

      # Five runners stand ready while people work.
      idle = [
        { cron = "* 8-17 * * 1-5", time_zone = "Europe/Berlin", count = 5 },
        { cron = "* * * * *", count = 1 },
      ]
      idle_owner = "acme"
      timers     = { idle_maximum_seconds = 7200 }
    },
    {
      name             = "large"
      labels           = ["self-hosted", "linux", "x64", "large"]
      matching         = "subset"
      runner_count_max = 10
      instance_types   = ["m7i.4xlarge", "m7a.4xlarge"]
      market           = "spot"
      disk_gib         = 200
      label_overrides = {
        instance_types = ["m7i.8xlarge", "c7i.8xlarge"]
        markets        = ["on-demand"]
      }
    },
    {
      name               = "deploy"
      labels             = ["self-hosted", "deploy"]
      runner_count_max   = 4
      instance_types     = ["t4g.medium"]
      market             = "on-demand"
      runner_group_id    = 7
      runner_name_prefix = "deploy-"
      subnet_ids         = ["subnet-0bbbbbbbbbbbbbbb1"]
      ami_ssm_parameter  = "/acme/images/deploy-arm64"
      eviction           = "newest_first"
    },
  ]

  function_network = {
    subnet_ids         = ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"]
    security_group_ids = ["sg-0aaaaaaaaaaaaaaa1"]
  }
  kms_key_arn              = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  permissions_boundary_arn = "arn:aws:iam::111122223333:policy/workload-boundary"
  alarm_action_arns        = ["arn:aws:sns:eu-central-1:111122223333:platform-oncall"]
  log_retention_days       = 365
  scale_up_concurrency     = 10
  tags                     = { team = "platform", cost-center = "ci" }
}
